"""The signing keys of an issuer (JWKS, RFC 7517), read again when they change."""

import asyncio
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jwt
import structlog

from lore.files import read_bounded
from lore_edge.wire.errors import auth_unavailable
from lore_edge.wire.fetch import FetchFailed, fetching

RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS = frozenset((*RSA, "ES256", "ES384", "EdDSA"))
"""Only asymmetric ones: with a published key, nobody can sign."""
TIMEOUT_S = 5.0
"""The deadline in seconds of a whole read; a caller with an unknown key waits no longer."""
PAUSE_S = 10.0
"""Seconds between two attempts, however many unknown keys are named."""
MAX_AGE_S = 300.0
"""After so many seconds, the keys are read again, so that a withdrawn key is no longer accepted."""
MAX_BYTES = 1_048_576
MAX_KEY_BITS = 16_384
"""The largest RSA key: OpenSSL verifies none that is larger."""

_log = structlog.get_logger()


class BadJwks(Exception):
    """The keys could not be read or parsed; the message says why."""


class SigningKey(NamedTuple):
    key: Any
    algorithms: tuple[str, ...]


class Jwks:
    """The keys of an issuer. A failed read keeps the known ones."""

    def __init__(self, where: str) -> None:
        """``where``: a file, or a URL that is first read when it is needed. Raises BadJwks."""
        self._where = where
        self._keys: dict[str | None, SigningKey] = {}
        self._failed = True
        self._reason = ""
        self._tried_s = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        if is_url(where):
            if "@" in urlsplit(where).netloc:
                raise BadJwks("LORE_JWT_JWKS: the address must not contain a user or a password")
        else:
            self._keys = _parse(_read_file(where))
            self._failed = False

    async def find(self, kid: str | None) -> SigningKey | None:
        """The key with this id; without an id, the only key.

        Raises ApiError 503 when it is unknown and the keys cannot be read.
        """
        found = self._known(kid)
        if found is None:
            await self._refresh()
            found = self._known(kid)
        if found is None and self._failed:
            raise auth_unavailable()
        return found

    def poll(self) -> None:
        """Start a read if the keys are old. Call it often."""
        if asyncio.get_running_loop().time() - self._tried_s > MAX_AGE_S:
            self._start()

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    def _known(self, kid: str | None) -> SigningKey | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def _refresh(self) -> None:
        """Read the keys once for all callers that wait."""
        if self._reading is None:
            if asyncio.get_running_loop().time() - self._tried_s < PAUSE_S:
                return
            self._start()
        assert self._reading is not None
        await asyncio.shield(self._reading)

    def _start(self) -> None:
        if self._reading is None:
            self._tried_s = asyncio.get_running_loop().time()
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            data = await self._data()
            self._keys = await asyncio.to_thread(_parse, data)
            self._failed = False
            self._say("")
        except BadJwks as error:
            self._failed = True
            self._say(str(error))
        finally:
            self._reading = None

    def _say(self, reason: str) -> None:
        """Log each reason once, and its end."""
        if reason == self._reason:
            return
        self._reason = reason
        if reason:
            _log.warning("JWKS not read, old keys kept", reason=reason)
        else:
            _log.info("JWKS read again")

    async def _data(self) -> bytes:
        """Read the document. Raises BadJwks."""
        if not is_url(self._where):
            return _read_file(self._where)
        try:
            secure = self._where.startswith("https:")
            async with fetching(timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES, secure=secure) as get:
                return await get(self._where)
        except FetchFailed as error:
            raise BadJwks(f"LORE_JWT_JWKS cannot be read ({error})") from None


def is_url(where: str) -> bool:
    return where.startswith(("https://", "http://"))


def _read_file(path: str) -> bytes:
    """Read the file. Raises BadJwks."""
    try:
        return read_bounded(path, MAX_BYTES)
    except (OSError, ValueError) as error:  # a path may contain a NUL
        reason = getattr(error, "strerror", None) or str(error)
        raise BadJwks(f"LORE_JWT_JWKS cannot be read ({reason})") from None


def _parse(text: bytes) -> dict[str | None, SigningKey]:
    """Parse the keys by their ids. Raises BadJwks."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise BadJwks("LORE_JWT_JWKS: the document is not JSON") from None
    keys = _keys(data)
    if not keys:
        raise BadJwks("LORE_JWT_JWKS: the document has no key that can verify a signature")
    return keys


def _keys(data: Any) -> dict[str | None, SigningKey]:
    listed = data.get("keys") if isinstance(data, dict) else None
    found: dict[str | None, SigningKey] = {}
    for item in listed if isinstance(listed, list) else []:
        if not isinstance(item, dict) or item.get("use", "sig") != "sig":
            continue
        if not isinstance(item.get("alg", ""), str):
            continue
        try:
            key = jwt.PyJWK(item)
        except (jwt.PyJWTError, TypeError, ValueError):
            continue  # a key of an unknown kind, or no key at all
        if getattr(key.key, "key_size", 0) > MAX_KEY_BITS:
            continue
        any_of_rsa = key.key_type == "RSA" and "alg" not in item
        algorithms = RSA if any_of_rsa else (key.algorithm_name,)
        if ALGORITHMS.issuperset(algorithms):
            kid = item.get("kid")
            found[kid if isinstance(kid, str) else None] = SigningKey(key.key, algorithms)
    return found
