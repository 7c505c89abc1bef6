"""The data directory of a ``lore up``, and how the other commands find it."""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

from lore_client.place import RECORD, Problem, Running, running

MAX_SOCKET_PATH = 100  # the kernel's limit is 108 bytes


class Place:
    """A data directory: ``logs/``, ``valkey/``, the lock and the record of what runs."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.logs = self.path / "logs"
        self.valkey = self.path / "valkey"
        self._record = self.path / RECORD
        self._lock: IO[str] | None = None

    def take(self) -> None:
        """Lock it for this process until it exits. Raises Problem when another ``lore up`` runs
        here.
        """
        try:
            for folder in (self.path, self.logs, self.valkey):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("w")
        except OSError as error:
            raise Problem(
                f"cannot write to {self.path} ({error.strerror}); name another with --data-dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = self.running()
            where = f" at {running.edges[0]}" if running else ""
            raise Problem(
                f"Lore already runs from {self.path}{where}; start a second one with --data-dir"
            ) from None

    def socket(self) -> Path:
        """The path of the store's socket, short enough for the kernel."""
        path = self.path / "valkey.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            path = Path(tempfile.mkdtemp(prefix="lore-")) / "valkey.sock"
        return path

    def announce(self, running: Running) -> None:
        self._record.write_text(running.model_dump_json())

    def announced_at_s(self) -> float:
        """When a ``lore up`` last announced itself, in Unix time; 0 for never."""
        return self._record.stat().st_mtime if self._record.exists() else 0.0

    def leave(self) -> None:
        self._record.unlink(missing_ok=True)

    def running(self) -> Running | None:
        """The last announcement. Its ``lore up`` may have died since."""
        return running(self.path)
