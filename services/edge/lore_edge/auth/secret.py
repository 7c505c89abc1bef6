"""One secret for all edges, from which each purpose derives its own."""

import hashlib
import hmac

from pydantic import SecretStr

MIN_CHARS = 32


def sign(secret: SecretStr, purpose: str, *parts: str) -> bytes:
    """32 bytes that only a holder of the secret can make (HMAC-SHA256).

    ``purpose`` and all parts but the last must not hold a NUL, which stands between them.
    """
    message = "\0".join((purpose, *parts)).encode()
    return hmac.digest(secret.get_secret_value().encode(), message, hashlib.sha256)
