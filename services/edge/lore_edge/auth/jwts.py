"""JWT bearer tokens of one issuer (RFC 7519, with the checks of RFC 8725)."""

import hashlib
import time
from typing import Any, cast

import jwt

from lore_edge.auth.jwks import Jwks

LEEWAY_S = 10
MAX_CHARS = 8192
MAX_SUBJECT_CHARS = 255
KNOWN_S = 60.0
"""How many seconds a valid token is accepted without another check: a reader's acks come many times
a second, and checking a signature costs more than all the rest of an ack.
"""
MAX_KNOWN = 10_000
MAX_TIME_S = 2**53
"""The largest time in a claim: what a JSON number represents exactly (RFC 8259 section 6)."""


class Jwts:
    def __init__(self, issuer: str, audience: str, jwks: Jwks) -> None:
        self._issuer = issuer
        self._audience = audience
        self._known: dict[bytes, tuple[str, float]] = {}
        self.jwks = jwks

    async def subject(self, token: str) -> str | None:
        """The subject of a token; None for an invalid one.

        Raises ApiError 503 when the keys cannot be read.
        """
        if len(token) > MAX_CHARS:
            return None
        digest, now_s = hashlib.sha256(token.encode()).digest(), time.time()
        subject, until_s = self._known.get(digest, (None, 0.0))
        if now_s < until_s:
            return subject
        try:
            claims = await self._claims(token)
        except _NO_SENSE:
            return None
        if claims is None:
            return None
        subject = claims["sub"]
        # A subject is stored and compared, so it must not look like another one, or be empty.
        if not 0 < len(subject) <= MAX_SUBJECT_CHARS or not subject.isprintable():
            return None
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[digest] = subject, min(now_s + KNOWN_S, claims["exp"])
        return subject

    async def _claims(self, token: str) -> dict[str, Any] | None:
        head = jwt.get_unverified_header(token)
        if "crit" in head:  # no extension of RFC 7515 is supported (section 4.1.11)
            return None
        key = await self.jwks.find(head.get("kid"))
        if key is None:
            return None
        claims = jwt.decode(
            token,
            key.key,
            algorithms=key.algorithms,
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY_S,
            options={
                "require": ["exp", "iss", "aud", "sub"],
                "enforce_minimum_key_length": True,
            },
        )
        times = (claims[name] for name in ("exp", "nbf", "iat") if name in claims)
        return claims if all(_is_time(value) for value in times) else None


_NO_SENSE = (jwt.PyJWTError, ArithmeticError, RecursionError, TypeError, ValueError)
"""What a library may raise for a malformed token; an issuer is trusted, but may have bugs."""


def _is_time(value: object) -> bool:
    """Whether it is a NumericDate (RFC 7519 section 2): a finite number, and no string."""
    return type(value) in (int, float) and abs(cast("float", value)) <= MAX_TIME_S
