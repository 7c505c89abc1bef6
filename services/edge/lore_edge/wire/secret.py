"""One secret for all edges; each purpose derives its own from it."""

import hashlib
import hmac

from pydantic import SecretStr

MIN_CHARS = 32


def sign(secret: SecretStr, purpose: str, *parts: str) -> bytes:
    """32 bytes that only a holder of the secret can compute (HMAC-SHA256).

    ``purpose`` and all parts but the last must not contain a NUL, which separates them.
    """
    message = "\0".join((purpose, *parts)).encode()
    return hmac.digest(secret.get_secret_value().encode(), message, hashlib.sha256)
