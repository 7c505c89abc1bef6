"""The meaning of a server's error replies."""

import re

from valkey.exceptions import ResponseError

from lore.store.types import StoreFull, StoreUnavailable

# The first words of errors that say that the server cannot serve now. The call was right.
_AWAY = frozenset(
    {
        "READONLY",  # a replica, or a demoted primary
        "LOADING",
        "MISCONF",  # it cannot persist
        "NOREPLICAS",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "BUSY",
        "UNKILLABLE",
        "NOAUTH",
        "WRONGPASS",
    }
)
_DENIED = re.compile(r"NOPERM |ERR ACL failure in script: ")
_DENIED_COMMAND = re.compile(r"run the '([a-z|]+)' command")
_MAY = "k8s/samples/valkey-users.acl has the rights of each component"
_IN_FUNCTION = re.compile(r" script: \w+, on @user_function:\d+")
_NOT_LOCAL = "ERR Script attempted to access a non local key"


class FunctionMissing(Exception):
    """The server does not have Lore's function library: it came back empty."""


class FunctionFailed(ResponseError):
    """A function failed. The library may not be the one that the call was meant for."""


class Denied(StoreUnavailable):
    """The user lacks a right, ``right``."""

    def __init__(self, message: str, right: str) -> None:
        super().__init__(message)
        self.right = right


class Redirected(Exception):
    """A node of a cluster did not execute the command, because the partition is elsewhere."""


class Moved(Redirected):
    """The partition has moved to the server at ``place``, host:port; the host may be empty."""

    def __init__(self, place: str) -> None:
        super().__init__(f"moved to {place}")
        self.place = place


class Asked(Moved):
    """The partition is moving there: ask there this time, after ASKING."""


class NotWhole(Redirected):
    """The partition is divided between two servers, or no longer here. A function may have been
    aborted; all of them can be repeated.
    """


def error_of(message: str, store: str) -> Exception:
    """The exception for an error reply of the server named ``store``."""
    word, _, rest = message.partition(" ")
    if word in ("MOVED", "ASK"):
        return (Moved if word == "MOVED" else Asked)(rest.partition(" ")[2])
    if word == "TRYAGAIN" or message.startswith(_NOT_LOCAL):
        return NotWhole(message)
    if word == "OOM":
        return StoreFull(f"the store at {store} is full: {message}")
    if word in _AWAY:
        return StoreUnavailable(f"the store at {store} cannot serve: {message}")
    if _DENIED.match(message):
        found = _DENIED_COMMAND.search(message)
        right = f"+{found[1]}" if found else "&lore:*" if "channel" in message else "~lore:*"
        text = f"the store at {store} denies what needs {right} in its user's ACL line; {_MAY}"
        return Denied(text, right)
    if message.startswith("ERR Function not found"):
        return FunctionMissing(message)
    return (FunctionFailed if _IN_FUNCTION.search(message) else ResponseError)(message)
