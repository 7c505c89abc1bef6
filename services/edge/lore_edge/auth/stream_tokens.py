"""Stream tokens, for ``EventSource``, which cannot send a header (A7).

A token lets its bearer read and acknowledge one request on behalf of a subject, on every edge with
the same secret, until it expires by the edge's clock. It stands in an address, where others may see
it. So it opens nothing else, expires soon, and is encrypted, because it names a subject.
"""

import base64
import re

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr

from lore_edge.wire.secret import sign

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,2048}")


def issue(secret: SecretStr, subject: str, request_id: str, *, expires_s: int) -> str:
    """Make a token. ``expires_s`` is Unix time."""
    data = f"{request_id}\0{expires_s}\0{subject}".encode()
    return _fernet(secret).encrypt(data).rstrip(b"=").decode()


def subject_of(secret: SecretStr, request_id: str, token: str, *, now_s: float) -> str | None:
    """The subject for which this token opens this request; None if it does not, or has expired."""
    if not _TOKEN.fullmatch(token):
        return None
    try:
        data = _fernet(secret).decrypt(token + "=" * (-len(token) % 4)).decode()
        of, expires_s, subject = data.split("\0", 2)
        ends_s = int(expires_s)
    except (InvalidToken, ValueError):
        return None
    return subject if of == request_id and now_s < ends_s else None


def _fernet(secret: SecretStr) -> Fernet:
    """AES, and HMAC-SHA256 that is compared in constant time."""
    return Fernet(base64.urlsafe_b64encode(sign(secret, "stream token")))
