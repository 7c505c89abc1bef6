"""JWT bearer tokens of one issuer (RFC 7519, and RFC 8725 for what to be strict about)."""

import jwt

from lore_edge.auth.jwks import Jwks

LEEWAY_S = 10
MAX_CHARS = 8192
MAX_SUBJECT_CHARS = 255


class Jwts:
    def __init__(self, issuer: str, audience: str, jwks: Jwks) -> None:
        self._issuer = issuer
        self._audience = audience
        self.jwks = jwks

    async def subject(self, token: str) -> str | None:
        """Who it was issued to; None for a token that is not good here.

        Raises ApiError 503 when nobody can say.
        """
        if len(token) > MAX_CHARS:
            return None
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self.jwks.find(kid)
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
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        subject: str = claims["sub"]
        # A name to store and to compare: nothing that looks like another, or like none.
        return subject if 0 < len(subject) <= MAX_SUBJECT_CHARS and subject.isprintable() else None
