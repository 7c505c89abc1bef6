"""Files that change while we run, such as keys."""

import os
import stat
from pathlib import Path


def read_bounded(path: Path | str, max_bytes: int) -> bytes:
    """Read a regular file, of ``max_bytes`` at most.

    Anything else at this path is refused: a read of a pipe may wait for ever, and a device may
    never end. Raises OSError, whose ``strerror`` says why.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(None, "not a regular file", str(path))
        data = opened.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(None, f"longer than {max_bytes} bytes", str(path))
    return data
