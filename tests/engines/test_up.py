"""``lore up`` with a server of somebody else: what a newcomer sees until it is as it should be."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines.stub import WHOLE, Stub, word
from tests.services.command_line import Running, lore

WAIT_S = 60.0


@pytest.mark.rule("O4")
def test_each_thing_that_is_wrong_is_one_line_and_the_engine_is_taken_once_it_is_right(
    tmp_path: Path,
) -> None:
    """No part of it ends meanwhile."""
    with Stub("llamacpp") as stub:
        stub.kill()
        words = ("up", "--engine", "llamacpp", "--engine-url", stub.url, "--port", "0")
        with Running(*words, data_dir=tmp_path, LORE_CONTEXT_TOKENS="200") as up:
            up.until(f"{stub.url}: nobody answers there\n")
            until_found(tmp_path)
            stub.sick, stub.key, stub.context_tokens = "404", "secret", 100
            stub.start()
            up.until("it refuses the key (LORE_ENGINE_KEY_FILE): HTTP 401")
            stub.key = ""
            up.until("it is not a llama.cpp server: HTTP 404")
            stub.sick = ""
            up.until("its context is 100 tokens, and LORE_CONTEXT_TOKENS is 200")
            stub.context_tokens = 4096
            up.until(f"Lore is ready, with llamacpp at {stub.url}.\n")
            assert "Traceback" not in up.seen
            assert " ended " not in up.seen
            until_served(up.edges[0], "stub")
            stub.kill()
            up.until(f"generator-1: the engine is away: {stub.url}: nobody answers there\n")
            with Running("ask", "hi", data_dir=tmp_path) as ask:
                ask.until("[queued: waiting for a generator]\n", errors=True)
                stub.start()
                up.until("generator-1: ready again\n")
                assert ask.finish()[:2] == (0, "".join(map(word, WHOLE)) + "\n")


def until_found(data_dir: Path) -> None:
    """``lore status`` finds it before it is ready. Nobody is told when the edges are up."""
    give_up_s = time.monotonic() + WAIT_S
    while (done := lore("status", data_dir=data_dir)).returncode:
        assert time.monotonic() < give_up_s, done.stderr
        time.sleep(0.1)
    assert done.stdout == "No request is live.\n"


def until_served(edge: str, model: str) -> None:
    """An edge hears from the generators what they serve, and tells nobody that it has."""
    give_up_s = time.monotonic() + WAIT_S
    while (found := served(edge)) != model:
        assert time.monotonic() < give_up_s, found
        time.sleep(0.1)


def served(edge: str) -> Any:
    (model,) = httpx.get(f"{edge}/v1/models", trust_env=False).json()["data"]
    return model["id"]


def test_another_model_than_the_one_that_is_asked_for_is_one_line(tmp_path: Path) -> None:
    with Stub("llamacpp") as stub:
        words = ("up", "--engine", "llamacpp", "--engine-url", stub.url, "--port", "0")
        with Running(*words, "--model", "another", data_dir=tmp_path) as up:
            up.until("it serves stub, and not another")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ((), "--engine-url"),
        (("--engine-url", "localhost:8001"), "'localhost:8001' is not an address"),
    ],
    ids=["none", "without http"],
)
def test_an_address_that_is_none_is_one_line(
    tmp_path: Path, url: tuple[str, ...], said: str
) -> None:
    done = lore("up", "--engine", "llamacpp", *url, "--port", "0", data_dir=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert said in line
