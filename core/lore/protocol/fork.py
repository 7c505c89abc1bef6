"""Whether a reader of one log may read on in another (protocol P4).

Two logs of a request have the same chunks below ``fork_seq``. What came after it in the
older log may be in a reader's hands and in no log any more.
"""


def may_continue(position: int, log_id: str, *, current: str, parent: str, fork_seq: int) -> bool:
    """True when the first ``position`` chunks of log ``log_id`` are those of ``current``.

    ``parent`` is the log that ``current`` was forked from at ``fork_seq``, or ''. A reader
    that names no log means the request's first one: in a forked log every id names it.
    """
    if position == 0 or log_id == current:
        return True
    return log_id == parent and position < fork_seq
