"""``lore sweep``, and the sweeps of ``lore up``, on windows that nobody reads (P16)."""

from pathlib import Path

import httpx
import pytest

from tests.services.command_line import Running, lore

SETTINGS = {"LORE_SYNTHETIC_RATE": "500", "LORE_SYNTHETIC_LENGTH": "400"}


def abandoned(up: Running) -> str:
    """The id of an answer whose reader never comes."""
    body = {"question": "What is a queue?", "window": 8}
    return httpx.post(f"{up.edges[0]}/v1/streams", json=body, trust_env=False).json()["request_id"]


def status_of(up: Running, request_id: str) -> str:
    answer = httpx.get(f"{up.edges[0]}/v1/streams/{request_id}", trust_env=False)
    return answer.json()["status"]


@pytest.fixture
def words() -> list[str]:
    return ["up", "--engine", "synthetic", "--port", "0", "--edges", "1"]


def test_lore_up_reaps_a_window_that_nobody_reads(words: list[str], tmp_path: Path) -> None:
    with Running(*words, "--stall-s", "1", data_dir=tmp_path, **SETTINGS) as up:
        up.until("Ctrl-C stops everything.")
        request_id = abandoned(up)
        up.until(f"reaped {request_id}")
        assert status_of(up, request_id) == "reaped"


def test_lore_sweep_says_what_it_finds_and_reaps_it(words: list[str], tmp_path: Path) -> None:
    with Running(*words, "--stall-s", "0", data_dir=tmp_path, **SETTINGS) as up:
        up.until("Ctrl-C stops everything.")
        quiet = lore("sweep", data_dir=tmp_path)
        assert (quiet.returncode, quiet.stdout) == (0, "Every live request makes progress.\n")
        request_id = abandoned(up)
        looking = ("sweep", "--stall-s", "1", "--dry-run")
        with Running(*looking, "--every", "1", data_dir=tmp_path) as watching:
            assert request_id in watching.until("stalled")
        dry = lore(*looking, data_dir=tmp_path)
        assert dry.returncode == 3
        assert status_of(up, request_id) == "paused"
        done = lore("sweep", "--stall-s", "1", data_dir=tmp_path)
        assert done.returncode == 0
        assert "reaped" in done.stdout
        assert status_of(up, request_id) == "reaped"


def test_lore_sweep_needs_a_store(tmp_path: Path) -> None:
    done = lore("sweep", data_dir=tmp_path)
    assert done.returncode == 1
    assert "--valkey-url" in done.stderr
