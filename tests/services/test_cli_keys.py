"""``lore keys``, and who is let in by ``lore up``."""

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from lore import apikeys
from lore.cli.app import app
from lore.cli.place import Problem
from tests.services.auth_harness import bearer
from tests.services.command_line import Running, lore

QUICK = {"LORE_SYNTHETIC_RATE": "500", "LORE_SYNTHETIC_LENGTH": "30"}
UP = ("up", "--engine", "synthetic", "--port", "0", "--edges", "1")


def keys_new(*words: str) -> Result:
    return CliRunner().invoke(app, ["keys", "new", *words])


def test_a_key_is_shown_once_and_its_hash_is_what_a_file_keeps(tmp_path: Path):
    file = tmp_path / "keys"
    shown = [keys_new(name, "--file", str(file)).stdout.strip() for name in ("alice", "bob@here")]
    assert all(apikeys.KEY.fullmatch(key) for key in shown)
    assert list(apikeys.parse(file.read_text()).items()) == [
        (apikeys.digest(shown[0]), "alice"),
        (apikeys.digest(shown[1]), "bob@here"),
    ]
    assert not any(key in file.read_text() for key in shown)
    line, key = keys_new("carol").stdout.splitlines()
    assert apikeys.parse(line) == {apikeys.digest(key): "carol"}


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
        up.until("Ctrl-C stops everything")
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
