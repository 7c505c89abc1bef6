"""Leaves the owner's name, and why it ended, where Kubernetes looks when a container has ended.

The kubelet copies this into the pod's status, however the container ended. So the operator knows
whose leases nobody will renew, even if the process lived too briefly to be seen, and can tell
people why a model does not load (operator's ``pods.py``).
"""

import os

import structlog

log = structlog.get_logger()

PLACE = "/dev/termination-log"
WHY = "why: "
"""A line that begins so is a reason, and no name."""
MAX_WHY_CHARS = 1000
"""Kubernetes keeps 4,096 bytes of the whole file."""


def leave(owner: str, place: str = PLACE) -> None:
    """Append the owner's name; each process of a container has its own. Outside Kubernetes the file
    does not exist, and this does nothing. ``owner`` must be unique to this process, over all time.
    """
    _add(owner, place)


def leave_why(reason: str, place: str = PLACE) -> None:
    """Append the reason. ``reason`` must contain no prompt and no secret: whoever may read the pod
    sees it.
    """
    _add(f"{WHY}{' '.join(reason.split())[:MAX_WHY_CHARS]}", place)


def _add(line: str, place: str) -> None:
    try:
        file = os.open(place, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("last words not written", place=place, reason=error.strerror)
        return
    with os.fdopen(file, "w") as words:
        words.write(f"{line}\n")
