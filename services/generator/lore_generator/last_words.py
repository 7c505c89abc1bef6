"""Whose process it was, left where Kubernetes looks when a container has ended.

The kubelet puts what it finds there into the pod's status, however the container ended. So
the operator knows whose leases nobody will renew, though the process may have lived too
briefly to be seen (operator's ``pods.py``).
"""

import os

import structlog

log = structlog.get_logger()

PLACE = "/dev/termination-log"


def leave(owner: str, place: str = PLACE) -> None:
    """Each process of a container adds its own. Does nothing outside Kubernetes, where there
    is no such file. ``owner`` must be this process's alone: none that ran before, and none to
    come."""
    try:
        file = os.open(place, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("cannot leave a name for the operator", place=place, reason=error.strerror)
        return
    with os.fdopen(file, "w") as words:
        words.write(f"{owner}\n")
