"""The failures of a remote engine, and what happens to its requests.

* *away* (nobody listens, or it still loads its model) and *unfit* (another engine or model than
  wanted, a key that is refused): the server is asked until it is what it should be. The request
  goes to another server, and is handed back when there is none.
* *failed* (the connection broke, the answer was cut short, 500, no ids) and *silent* (nothing came
  for too long): the server is asked whether it is well. The request is handed back, and may be
  what the engine failed over (P15).
* *busy* (429, 503): the request asks again, later.
* *refused* (400 and the like): the request fails, as nobody could answer it.
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
"""The request may be what brought it about."""


class Trouble(Exception):
    def __init__(
        self, kind: Kind, message: str, *, retry_after_s: float = 0.0, is_absent: bool = False
    ) -> None:
        """``is_absent``: there is no such call."""
        super().__init__(message)
        self.is_absent = is_absent
        self.kind = kind
        self.message = message
        self.retry_after_s = retry_after_s
        """When a busy engine wants to be asked again; 0 where it does not say."""


BUSY_STATUS = frozenset({408, 425, 429, 503})
KEY_STATUS = frozenset({401, 403})
ABSENT_STATUS = frozenset({404, 405, 501})


def of_status(status: int, said: str, retry_after: str | None = None) -> Trouble:
    """``said``: what the engine wrote about it, one line."""
    message = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if status in BUSY_STATUS:
        after = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
        return Trouble(Kind.BUSY, message, retry_after_s=after)
    if status in KEY_STATUS:
        return Trouble(Kind.UNFIT, f"it refuses the key (LORE_ENGINE_KEY_FILE): {message}")
    if status in ABSENT_STATUS:
        return Trouble(Kind.UNFIT, message, is_absent=True)
    if 400 <= status < 500:
        return Trouble(Kind.REFUSED, message)
    return Trouble(Kind.FAILED, message)
