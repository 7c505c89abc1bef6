"""One process that ``lore up`` started; it never outlives its parent."""

import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

PROBE_EVERY_S = 0.1
LAST_WORDS_BYTES = 65_536
STARTING = "starting"
"""What a process does that does not answer its probe."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

Probe = Callable[[], Awaitable[str | None]]
"""Returns None when the process is ready, else a few words on what it is doing."""


class Died(Exception):
    """The process ended before it was ready; the message is its last line of output."""


class Child:
    """A process that can be started again. Its output goes to ``log``, from the first start on.

    It has a session of its own, so that Ctrl-C at the terminal reaches only its parent.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        probe: Probe,
        identity_setting: str = "",
    ) -> None:
        """``identity_setting``: the variable that gives each process its name."""
        self.name = name
        self.identity = ""
        """The name of the last process, if it was given one."""
        self.log = log
        self.doing = STARTING
        self._argv = argv
        self._env = env
        self.probe = probe
        self._identity_setting = identity_setting
        self._log_start = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.doing = STARTING
        told: dict[str, str] = {}
        if self._identity_setting:
            self.identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
            told[self._identity_setting] = self.identity
        with self.log.open("wb" if self._process is None else "ab") as output:
            self._log_start = output.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                env={**os.environ, **self._env, **told},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    async def until_ready(self) -> None:
        """Wait until it is ready. Raises Died when it ends first."""
        while True:
            if self.returncode is not None:
                raise Died(self.last_words())
            doing = await self.probe()
            if doing is None:
                return
            self.doing = doing
            await asyncio.sleep(PROBE_EVERY_S)  # another process: no event to await

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.returncode

    async def until_dead(self) -> None:
        if self._process is not None:
            await self._process.wait()

    async def stop(self, grace_s: float) -> None:
        """Ask it to end; kill it after ``grace_s`` seconds."""
        if self._process is None or self._process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def last_words(self) -> str:
        """The line that best says why it ended: its last error, else its last plain line."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - LAST_WORDS_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        plain = ""
        for line in reversed(lines):
            error = _error_of(line)
            if error:
                return error
            if line.strip() and not plain and not line.startswith("{"):
                plain = line.strip()
        return plain or f"it ended with status {self.returncode} and said nothing"


def _error_of(line: str) -> str | None:
    """The error in a structlog line of level error: its reason, else its event."""
    if not line.startswith("{"):
        return None
    try:
        entry = cast("dict[str, object]", json.loads(line))
    except ValueError:
        return None
    if entry.get("level") not in ("error", "critical"):
        return None
    message = str(entry.get("reason") or entry.get("event", ""))
    exception = str(entry.get("exception", "")).strip()
    return f"{message}: {exception.splitlines()[-1]}" if exception else message


def _die_with_parent() -> None:
    """Runs in the child before its program: the kernel kills it when the parent is gone."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
