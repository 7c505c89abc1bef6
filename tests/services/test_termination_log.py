"""A generator's name in the place where Kubernetes keeps what an ended container said (P15)."""

import os
from pathlib import Path

import pytest

from lore_generator import main as generator
from lore_generator import termination_log


def test_every_process_of_a_container_leaves_its_name(tmp_path: Path) -> None:
    place = tmp_path / "termination-log"
    place.touch()
    termination_log.leave("gen-1-0000000a", str(place))
    termination_log.leave("gen-1-0000000b", str(place))
    assert place.read_text().split() == ["gen-1-0000000a", "gen-1-0000000b"]


def test_a_reason_is_one_short_line_of_its_own(tmp_path: Path) -> None:
    place = tmp_path / "termination-log"
    place.touch()
    termination_log.leave("gen-1-0000000a", str(place))
    termination_log.leave_why("no model\nat all " + "x" * 5000, str(place))
    name, why = place.read_text().splitlines()
    assert name == "gen-1-0000000a"
    assert why.startswith("why: no model at all xxx")
    assert len(why) <= len(termination_log.WHY) + termination_log.MAX_WHY_CHARS


def test_outside_kubernetes_nothing_is_left(tmp_path: Path) -> None:
    place = tmp_path / "termination-log"
    termination_log.leave("gen-1-0000000a", str(place))
    assert not place.exists()


def test_a_place_that_takes_no_name_ends_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    termination_log.leave("gen-1-0000000a", str(tmp_path))
    assert os.strerror(21) in capsys.readouterr().out


@pytest.mark.parametrize("given", ["", "mine"])
def test_only_a_name_that_no_other_process_will_have_is_left(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """A name that was given is the next process's as well, and must not speak of its death."""
    left: list[str] = []
    monkeypatch.setattr(termination_log, "leave", left.append)
    monkeypatch.setattr(generator, "configure_logging", lambda *_: None)
    monkeypatch.setattr(generator, "_exit", lambda status, _="": exit(status))
    monkeypatch.setenv("LORE_VALKEY_URL", "no://url")
    if given:
        monkeypatch.setenv("LORE_GENERATOR_ID", given)
    with pytest.raises(SystemExit):
        generator.main()
    assert len(left) == (0 if given else 1)
