"""JWT bearer tokens of one issuer (RFC 7519, and RFC 8725 for what to be strict about)."""

import hashlib
import time

import jwt

from lore_edge.auth.jwks import Jwks

LEEWAY_S = 10
MAX_CHARS = 8192
MAX_SUBJECT_CHARS = 255
KNOWN_S = 60.0
"""A token that was found good is taken for so long without another look: a reader's acks come
many times a second, and a signature costs more than all the rest of an ack."""
MAX_KNOWN = 10_000


class Jwts:
    def __init__(self, issuer: str, audience: str, jwks: Jwks) -> None:
        self._issuer = issuer
        self._audience = audience
        self._known: dict[bytes, tuple[str, float]] = {}
        self.jwks = jwks

    async def subject(self, token: str) -> str | None:
        """Who it was issued to; None for a token that is not good here.

        Raises ApiError 503 when nobody can say.
        """
        if len(token) > MAX_CHARS:
            return None
        digest, now_s = hashlib.sha256(token.encode()).digest(), time.time()
        subject, until_s = self._known.get(digest, (None, 0.0))
        if now_s < until_s:
            return subject
        try:
            claims = await self._claims(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        if claims is None:
            return None
        subject = claims["sub"]
        # A name to store and to compare: nothing that looks like another, or like none.
        if not 0 < len(subject) <= MAX_SUBJECT_CHARS or not subject.isprintable():
            return None
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[digest] = subject, min(now_s + KNOWN_S, float(claims["exp"]))
        return subject

    async def _claims(self, token: str) -> dict[str, str] | None:
        key = await self.jwks.find(jwt.get_unverified_header(token).get("kid"))
        if key is None:
            return None
        return jwt.decode(
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
