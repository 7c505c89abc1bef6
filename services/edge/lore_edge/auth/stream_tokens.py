"""Stream tokens, for ``EventSource``, which cannot send a header.

One says, to every edge with the same secret, that its bearer may read and acknowledge one
request as a subject may, until the edges' clocks say that it is over. It stands in an
address, where others may come across it: so it opens nothing else, does not last, and is
encrypted, for the name of a subject is nobody's business either.
"""

import base64
import re

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr

from lore_edge.auth.secret import sign

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,2048}")


def issue(secret: SecretStr, subject: str, request_id: str, *, expires_s: int) -> str:
    """``expires_s``: Unix time."""
    data = f"{request_id}\0{expires_s}\0{subject}".encode()
    return _fernet(secret).encrypt(data).rstrip(b"=").decode()


def subject_of(secret: SecretStr, request_id: str, token: str, *, now_s: float) -> str | None:
    """Who may read this request by this token; None if nobody may, or no longer."""
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
    """AES and, compared in constant time, HMAC-SHA256."""
    return Fernet(base64.urlsafe_b64encode(sign(secret, "stream token")))
