"""The failures of a remote engine, and what happens to its requests.

* *away* (nobody listens, or it is loading its model) and *unfit* (another engine or model than
  wanted, or a refused key): the server is examined until it is as it should be. The request goes to
  another server, or is handed back when there is none.
* *failed* (a broken connection, an incomplete answer, 500, no ids) and *silent* (nothing came for
  too long): the server is examined. The request is handed back; it may be the cause (P15).
* *busy* (429, 503): the request tries again later.
* *refused* (400 and others): the request fails, because no server could answer it.
"""

from enum import StrEnum


class Kind(StrEnum):
    AWAY = "away"
    UNFIT = "unfit"
    FAILED = "failed"
    SILENT = "silent"
    BUSY = "busy"
    REFUSED = "refused"


KILLED = frozenset({Kind.FAILED, Kind.SILENT})
"""Failures that the request may have caused."""


class Trouble(Exception):
    def __init__(
        self, kind: Kind, message: str, *, retry_after_s: float = 0.0, is_absent: bool = False
    ) -> None:
        """``is_absent``: the server does not have this call."""
        super().__init__(message)
        self.is_absent = is_absent
        self.kind = kind
        self.message = message
        self.retry_after_s = retry_after_s
        """In how many seconds a busy engine wants to be asked again; 0 if it does not say."""


BUSY_STATUS = frozenset({408, 425, 429, 503})
KEY_STATUS = frozenset({401, 403})
ABSENT_STATUS = frozenset({404, 405, 501})


def of_status(status: int, said: str, retry_after: str | None = None) -> Trouble:
    """The failure that a status means. ``said``: the engine's message, one line."""
    message = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if status in BUSY_STATUS:
        after = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
        return Trouble(Kind.BUSY, message, retry_after_s=after)
    if status in KEY_STATUS:
        return Trouble(Kind.UNFIT, f"it refuses the key (LORE_ENGINE_KEY_FILE): {message}")
    if status in ABSENT_STATUS:
        return Trouble(Kind.UNFIT, message, is_absent=True)
    if 400 <= status < 500:
        return Trouble(Kind.REFUSED, message)
    return Trouble(Kind.FAILED, message)
