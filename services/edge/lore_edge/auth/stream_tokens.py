"""Stream tokens: for ``EventSource``, which can send no header.

``<expiry in Unix seconds>.<signature>``: good for reading and acknowledging one request, on
every edge with the same secret, until the edges' clocks say that it is over. It stands in an
address, so it opens nothing else and does not last; nothing is kept of it.
"""

import base64
import hmac
import re

from pydantic import SecretStr

from lore_edge.auth.secret import sign

_TOKEN = re.compile(r"([1-9][0-9]{0,11})\.([A-Za-z0-9_-]{43})")


def issue(secret: SecretStr, request_id: str, *, expires_s: int) -> str:
    """``expires_s``: Unix time."""
    return f"{expires_s}.{_signature(secret, request_id, expires_s)}"


def is_good(secret: SecretStr, request_id: str, token: str, *, now_s: float) -> bool:
    match = _TOKEN.fullmatch(token)
    if match is None:
        return False
    expires_s = int(match[1])
    return hmac.compare_digest(match[2], _signature(secret, request_id, expires_s)) and (
        now_s < expires_s
    )


def _signature(secret: SecretStr, request_id: str, expires_s: int) -> str:
    digest = sign(secret, "stream token", request_id, str(expires_s))
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
