"""``lore keys``, and who is let in by ``lore up``."""

import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from lore import apikeys
from lore.cli.app import app
from lore_client.place import Problem
from tests.services.auth_harness import bearer
from tests.services.command_line import Running, lore

QUICK = {"LORE_SYNTHETIC_RATE": "500", "LORE_SYNTHETIC_LENGTH": "30"}
UP = ("up", "--engine", "synthetic", "--port", "0", "--edges", "1")


def keys(*words: str) -> Result:
    return CliRunner().invoke(app, ["keys", *words])


def keys_new(*words: str) -> Result:
    return keys("new", *words)


def problem(done: Result) -> str:
    assert isinstance(done.exception, Problem), done.output
    return str(done.exception)


def id_of(key: str) -> str:
    return apikeys.digest(key)[:8]


def test_a_key_is_shown_once_and_its_hash_is_what_a_file_keeps(tmp_path: Path):
    file = tmp_path / "keys"
    shown = [keys_new(name, "--file", str(file)).stdout.strip() for name in ("alice", "bob@here")]
    assert all(apikeys.KEY.fullmatch(key) for key in shown)
    assert list(apikeys.parse(file.read_text()).items()) == [
        (apikeys.digest(shown[0]), apikeys.KeyOwner("alice")),
        (apikeys.digest(shown[1]), apikeys.KeyOwner("bob@here")),
    ]
    assert not any(key in file.read_text() for key in shown)
    line, key = keys_new("carol").stdout.splitlines()
    assert apikeys.parse(line) == {apikeys.digest(key): apikeys.KeyOwner("carol")}


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "#", "a" * 65])
def test_a_name_that_no_file_could_keep_is_refused(name: str):
    done = keys_new(name)
    assert isinstance(done.exception, Problem)
    assert done.stdout == ""


def test_a_key_is_not_added_to_what_is_no_file_of_keys(tmp_path: Path):
    file = tmp_path / "notes"
    file.write_text("remember the milk\n")
    done = keys_new("alice", "--file", str(file))
    assert isinstance(done.exception, Problem)
    assert "line 1" in str(done.exception)
    assert file.read_text() == "remember the milk\n"


@pytest.mark.parametrize(
    ("expires", "after_s"), [("90d", 90 * 86_400), ("12h", 12 * 3_600)], ids=["days", "hours"]
)
def test_a_key_may_expire_after_a_time(expires: str, after_s: int, tmp_path: Path):
    file = str(tmp_path / "keys")
    began_s = time.time()
    keys_new("alice", "--file", file, "--expires", expires)
    (owner,) = apikeys.parse(Path(file).read_text()).values()
    assert owner.until_s is not None
    assert began_s + after_s - 1 <= owner.until_s <= time.time() + after_s


@pytest.mark.parametrize(
    ("expires", "line"),
    [
        ("2099-01-31", "2099-01-31T00:00:00Z"),
        ("2099-01-31T12:00:00Z", "2099-01-31T12:00:00Z"),
        ("2099-01-31T12:00:00+02:00", "2099-01-31T10:00:00Z"),
    ],
)
def test_a_key_may_expire_at_a_date(expires: str, line: str, tmp_path: Path):
    file = tmp_path / "keys"
    keys_new("alice", "--file", str(file), "--expires", expires)
    assert file.read_text().endswith(f" alice {line}\n")


@pytest.mark.parametrize("expires", ["soon", "0d", "-1d", "90", "2000-01-01", "2099-13-01", ""])
def test_a_time_that_is_none_makes_no_key(expires: str, tmp_path: Path):
    file = tmp_path / "keys"
    done = keys_new("alice", "--file", str(file), "--expires", expires)
    assert "--expires" in problem(done)
    assert not file.exists()


def test_keys_are_listed_by_id_with_their_subject_and_their_end(tmp_path: Path):
    file = tmp_path / "keys"
    first = keys_new("alice", "--file", str(file)).stdout.strip()
    second = keys_new("bob@here", "--file", str(file), "--expires", "2099-01-31").stdout.strip()
    old = apikeys.new_key()
    file.write_text(f"# ours\n{file.read_text()}{apikeys.digest(old)} carol 2001-01-01T00:00:00Z\n")
    assert keys("list", "--file", str(file)).stdout.splitlines() == [
        f"{id_of(first)}  alice     does not expire",
        f"{id_of(second)}  bob@here  until 2099-01-31T00:00:00Z",
        f"{id_of(old)}  carol     expired 2001-01-01T00:00:00Z",
    ]


def test_a_revoked_key_leaves_the_file_and_the_rest_stays(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("# ours\n")
    file.chmod(0o640)
    alice, bob = (keys_new(name, "--file", str(file)).stdout.strip() for name in ("alice", "bob"))
    done = keys("revoke", "alice", "--file", str(file))
    assert done.stdout == f"revoked {id_of(alice)} of alice\n"
    assert file.read_text() == f"# ours\n{apikeys.digest(bob)} bob\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_one_of_several_keys_is_revoked_by_its_id(tmp_path: Path):
    file = str(tmp_path / "keys")
    first, second = (keys_new("alice", "--file", file).stdout.strip() for _ in range(2))
    refused = problem(keys("revoke", "alice", "--file", file))
    assert id_of(first) in refused
    assert "--all" in refused
    assert len(apikeys.parse(Path(file).read_text())) == 2
    keys("revoke", id_of(first), "--file", file)
    assert list(apikeys.parse(Path(file).read_text())) == [apikeys.digest(second)]
    keys_new("alice", "--file", file)
    keys("revoke", "alice", "--all", "--file", file)
    assert apikeys.parse(Path(file).read_text()) == {}


def test_revoking_what_is_not_there_says_where_to_look(tmp_path: Path):
    file = tmp_path / "keys"
    assert str(file) in problem(keys("revoke", "alice", "--file", str(file)))
    keys_new("alice", "--file", str(file))
    before = file.read_text()
    for name in ("bob", id_of(apikeys.new_key()), before[:7]):
        assert "lore keys list" in problem(keys("revoke", name, "--file", str(file)))
    assert file.read_text() == before


def test_others_are_let_in_only_when_somebody_says_who(tmp_path: Path):
    done = lore(*UP, "--host", "0.0.0.0", data_dir=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "--api-keys" in line
    assert "--no-auth" in line


def test_a_lore_with_keys_answers_who_has_one(tmp_path: Path):
    file = tmp_path / "keys"
    key = keys_new("alice", "--file", str(file)).stdout.strip()
    with Running(*UP, "--api-keys", str(file), data_dir=tmp_path, **QUICK) as up:
        assert "  Ask     LORE_API_KEY=… lore ask" in up.until("Ctrl-C stops everything")
        assert httpx.get(up.edges[0], trust_env=False).status_code == 200, "the page asks for a key"
        url = f"{up.edges[0]}/v1/streams"
        answers = [
            httpx.post(url, json={"question": "a"}, headers=headers, trust_env=False).status_code
            for headers in ({}, bearer(apikeys.new_key()), bearer(key))
        ]
        assert answers == [401, 401, 201]
        refused = lore("ask", "What is a key?", data_dir=tmp_path)
        assert refused.returncode == 1
        assert "LORE_API_KEY" in refused.stderr
        asked = lore("ask", "What is a key?", data_dir=tmp_path, LORE_API_KEY=key)
        assert asked.returncode == 0, asked.stderr
        assert asked.stdout.strip()
