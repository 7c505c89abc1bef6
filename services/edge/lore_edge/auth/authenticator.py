"""Authenticates every call and writes its subject into the scope."""

import re
import time
from pathlib import Path
from urllib.parse import parse_qs

from lore_edge.auth import hosts, stream_tokens
from lore_edge.auth.jwks import BadJwks, Jwks
from lore_edge.auth.jwts import Jwts
from lore_edge.auth.keys import BadKeys, KeyFile
from lore_edge.settings import EdgeSettings
from lore_edge.wire.asgi import Scope, header, wants_stream
from lore_edge.wire.errors import unauthorized
from lore_edge.wire.ids import REQUEST_ID
from lore_edge.wire.resume import is_poll
from lore_edge.wire.secret import MIN_CHARS
from lore_edge.wire.subject import ANONYMOUS, identify

_PUBLIC = frozenset({"/", "/docs", "/openapi.json", "/status"})
_WEB = "/web/"
_READ_OR_ACKNOWLEDGED = re.compile(rf"/v1/streams/({REQUEST_ID})(/ack)?")
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)")  # RFC 6750 section 2.1


class BadAuth(Exception):
    """The settings do not say who may come in, or contradict each other; the message says what to
    do.
    """


class Authenticator:
    def __init__(self, settings: EdgeSettings) -> None:
        """Raises BadAuth."""
        self._secret = settings.secret
        self._off = settings.auth == "off"
        self._hosts = frozenset(settings.allowed_hosts)
        self._keys: KeyFile | None = None
        self._jwts: Jwts | None = None
        if not self._off:
            self._require(settings)

    def _require(self, settings: EdgeSettings) -> None:
        jwt = (settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks)
        if any(jwt) and not all(jwt):
            raise BadAuth("LORE_JWT_ISSUER, LORE_JWT_AUDIENCE and LORE_JWT_JWKS go together")
        if not settings.api_keys_file and not any(jwt):
            raise BadAuth(
                "no authentication is configured: set LORE_API_KEYS_FILE (lore keys new "
                "NAME makes a key), or LORE_JWT_ISSUER, LORE_JWT_AUDIENCE and LORE_JWT_JWKS, or "
                "let everyone in with LORE_AUTH=off"
            )
        if len(settings.secret.get_secret_value()) < MIN_CHARS:
            raise BadAuth(
                f"LORE_SECRET: at least {MIN_CHARS} characters, the same on every edge; "
                "make one with: openssl rand -hex 32"
            )
        try:
            if settings.api_keys_file:
                self._keys = KeyFile(Path(settings.api_keys_file))
            if all(jwt):
                jwks = Jwks(settings.jwt_jwks)
                self._jwts = Jwts(settings.jwt_issuer, settings.jwt_audience, jwks)
        except BadKeys as error:
            raise BadAuth(f"LORE_API_KEYS_FILE: {error}") from None
        except BadJwks as error:
            raise BadAuth(str(error)) from None

    async def admit(self, scope: Scope) -> None:
        """Write the caller's subject into the scope. Raises ApiError 401, 403 or 503.

        Public addresses need no credentials and get no subject.
        """
        if self._hosts:
            hosts.check(header(scope, b"host"), self._hosts)
        if self._off:
            identify(scope, ANONYMOUS)
        elif scope["path"] in _PUBLIC or scope["path"].startswith(_WEB):
            return
        elif credentials := header(scope, b"authorization"):
            identify(scope, await self._subject(credentials))
        elif token := _stream_token(scope):
            identify(scope, self._bearer_of(*token))
        else:
            raise unauthorized()

    def poll(self) -> None:
        """Check whether keys have changed. Call it often, on the event loop."""
        if self._keys is not None:
            self._keys.poll()
        if self._jwts is not None:
            self._jwts.jwks.poll()

    def close(self) -> None:
        if self._jwts is not None:
            self._jwts.jwks.close()

    async def _subject(self, credentials: str) -> str:
        """The subject of credentials. Keys and JWTs have separate subjects, so that nobody gets
        another's by having the same name (A11).
        """
        match = _BEARER.fullmatch(credentials)
        if match is None:
            raise unauthorized()
        if self._keys is not None and (subject := self._keys.subject(match[1])) is not None:
            return f"key:{subject}"
        if self._jwts is not None and (subject := await self._jwts.subject(match[1])) is not None:
            return f"jwt:{subject}"
        raise unauthorized(invalid=True)

    def _bearer_of(self, request_id: str, token: str) -> str:
        subject = stream_tokens.subject_of(self._secret, request_id, token, now_s=time.time())
        if subject is None:
            raise unauthorized(invalid=True)
        return subject


def _stream_token(scope: Scope) -> tuple[str, str] | None:
    """The request that is read or acknowledged, and the token in the address (A7).

    A page that got such an address from its own server needs only these two calls.
    """
    method, match = scope["method"], _READ_OR_ACKNOWLEDGED.fullmatch(scope["path"])
    if match is None:
        return None
    reads = method == "GET" and not match[2] and (wants_stream(scope) or is_poll(scope))
    if not reads and not (method == "POST" and match[2]):
        return None
    query = parse_qs(scope["query_string"].decode("latin-1"))
    token = query.get("token", [""])[-1]
    return (match[1], token) if token else None
