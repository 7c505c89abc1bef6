"""API keys from a file that may change while the edge runs."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from lore import apikeys
from lore.files import read_bounded

MAX_BYTES = 16 * 1_048_576
"""The largest file: some 150,000 keys."""

_log = structlog.get_logger()


class BadKeys(Exception):
    """The file cannot be used; the message names it and the line, never its content."""


class KeyFile:
    """The subjects of the keys in a file, which is read again when it changes (A4).

    A key that is removed or expires is refused from then on. An open stream goes on until its
    reader reconnects.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises BadKeys."""
        self._path = path
        self._clock = clock
        self._version = _version(path)
        self._owners = _load(path)

    def subject(self, key: str) -> str | None:
        if not apikeys.KEY.fullmatch(key):
            return None
        owner = self._owners.get(apikeys.digest(key))
        return owner.subject if owner and owner.is_valid(self._clock()) else None

    def poll(self) -> None:
        """Read the file if it has changed; an invalid one changes nothing."""
        version = _version(self._path)  # before the content, so that no later change is missed
        if version == self._version:
            return
        self._version = version
        try:
            self._owners = _load(self._path)
        except BadKeys as error:
            _log.error("API keys not reloaded, old keys kept", reason=str(error))
        else:
            _log.info("API keys reloaded", keys=len(self._owners))


def _version(path: Path) -> tuple[int, int, int] | None:
    """A value that changes with the file, also when a link on the way changes, as in a mounted
    Secret of Kubernetes.
    """
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _load(path: Path) -> dict[str, apikeys.KeyOwner]:
    """Raises BadKeys."""
    try:
        return apikeys.parse(read_bounded(path, MAX_BYTES).decode())
    except OSError as error:
        raise BadKeys(f"cannot read {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadKeys(f"{path} is not text") from None
    except ValueError as error:
        raise BadKeys(f"{path}, {error}") from None
