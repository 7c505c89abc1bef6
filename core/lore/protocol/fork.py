"""The chunks that two logs of one request share (protocol P4).

A forked log names the logs before it, each with the first seq in which it may differ: ``"5f3:5
60a:9"``. Later chunks of the older log may exist only at a reader, and in no log any more.
"""

import functools
import sys


def fork(forks: str, log_id: str, seq: int) -> str:
    """The forks of a log that branches off from ``log_id``, whose own ``forks`` are given, at
    ``seq``.
    """
    assert seq >= 1, "P4.3: a fork is named by the first seq that may differ"
    older = (f"{name}:{min(first, seq)}" for name, first in _parse(forks))
    return " ".join((*older, f"{log_id}:{seq}"))


def shared(log_id: str, *, current: str, forks: str) -> int:
    """How many chunks of ``log_id``, from the first on, ``current`` shares.

    A reader of ``log_id`` with no more than these may read on in ``current``.
    """
    if log_id == current:
        return sys.maxsize
    return min((first for name, first in _parse(forks) if name == log_id), default=1) - 1


def logs(current: str, *, forks: str) -> list[tuple[str, int]]:
    """All logs of the request, from the first on, each with the first chunk of the present log that
    was written in it. It may have written none of them.
    """
    parsed = _parse(forks)
    names = [*(name for name, _ in parsed), current]
    return list(zip(names, (1, *(first for _, first in parsed)), strict=True))


@functools.lru_cache(maxsize=256)
def _parse(forks: str) -> tuple[tuple[str, int], ...]:
    pairs = (one.rpartition(":") for one in forks.split())
    return tuple((log_id, int(seq)) for log_id, _, seq in pairs)
