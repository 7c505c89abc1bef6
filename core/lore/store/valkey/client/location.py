"""The store's URL: parsed here, and shown in messages without its secrets.

 URL | is |
---|---|
 ``valkey://[user:password@]host:port[/db]`` | one server |
 ``unix:///path/to/socket`` | one server on this machine |
 ``valkey+sentinel://[…@]h1:p,h2:p,h3:p/service`` | the primary that these sentinels name |
 ``valkey+cluster://[…@]h1:p,h2:p,h3:p`` | a cluster, of which these nodes are asked first |

``valkeys`` in place of ``valkey`` means TLS. Options stand behind ``?``, with valkey-py's names:
``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile`` (PEM files; the last two for a server that
wants a client certificate), ``ssl_check_hostname`` (default true), ``ssl_cert_reqs``, ``db``. For
sentinels with authentication: ``sentinel_username`` and ``sentinel_password``. With
``replica_reads=yes``, replicas serve what readers replay. No message of this module contains a
password.
"""

import asyncio
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import SplitResult, unquote, urlsplit

from valkey.asyncio.connection import AbstractConnection, Connection, parse_url
from valkey.exceptions import ValkeyError

from lore.store.types import StoreUnavailable

Kind = Callable[..., AbstractConnection]
Way = Literal["server", "sentinel", "cluster"]
_WAYS: dict[str, Way] = {"": "server", "sentinel": "sentinel", "cluster": "cluster"}
_PORTS: dict[Way, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_LISTS = "valkey://, valkeys://, valkey+sentinel://, valkey+cluster://, unix:// or memory://"
SENTINEL_S = 1.0
"""How long one sentinel may take to name the primary."""


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Endpoint:
    """One server at a fixed place. ``name`` is for messages."""

    def __init__(self, kind: Kind, arguments: Mapping[str, Any]) -> None:
        """Raises ValueError for arguments that a connection does not accept."""
        self._class = kind
        # Link keeps the timeouts. valkey-py would use asyncio.wait_for, which before Python 3.12
        # may swallow the cancellation of its caller: a store could then not be closed.
        self._arguments: dict[str, Any] = {**arguments, "socket_timeout": None, "lib_name": "lore"}
        self.address = Address(arguments.get("host", ""), arguments.get("port", 0))
        self.name = arguments.get("path") or str(self.address)
        self._make()

    async def connection(self) -> AbstractConnection:
        """A new connection object, not yet connected."""
        return self._make()

    def _make(self) -> AbstractConnection:
        try:
            return self._class(**self._arguments)
        except (TypeError, ValkeyError) as error:
            raise ValueError(f"the store's URL for {self.name} has a bad option: {error}") from None


class SentinelEndpoint(Endpoint):
    """The present primary of a service, as its sentinels name it."""

    def __init__(self, location: "Location") -> None:
        super().__init__(*location.connecting(location.addresses[0]))
        self._location = location
        self.name = f"{location.service} of sentinels {', '.join(map(str, location.addresses))}"

    async def connection(self) -> AbstractConnection:
        """Ask one sentinel after another. Raises StoreUnavailable when none knows the primary."""
        problems: list[str] = []
        sentinels = self._location.addresses
        for sentinel in random.sample(sentinels, len(sentinels)):
            try:
                async with asyncio.timeout(SENTINEL_S):
                    found = await self._ask(sentinel)
            except TimeoutError:
                problems.append(f"{sentinel} does not answer")
            except (ValkeyError, OSError, RuntimeError) as error:
                problems.append(f"{sentinel}: {error}")
            else:
                if found is not None:
                    self.address = found
                    return Endpoint(*self._location.connecting(found))._make()
                problems.append(f"{sentinel} knows no such service")
        raise StoreUnavailable(f"no primary for the store at {self.name}: {'; '.join(problems)}")

    async def _ask(self, sentinel: Address) -> Address | None:
        kind, arguments = self._location.connecting(sentinel, sentinel=True)
        connection = await Endpoint(kind, arguments).connection()
        try:
            await connection.connect()
            await connection.send_command(
                "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._location.service
            )
            found = cast("list[bytes] | None", await connection.read_response())
        finally:
            await hang_up(connection)
        return Address(found[0].decode(), int(found[1])) if found else None


class Location:
    """A parsed store URL. Raises ValueError, whose message contains no secret."""

    def __init__(self, url: str) -> None:
        try:
            parts = _split(url)
            scheme, _, way = parts.scheme.partition("+")
            if scheme == "unix":
                way = ""
            elif scheme not in ("valkey", "valkeys"):
                raise ValueError
            self.way: Way = _WAYS[way]
        except (ValueError, KeyError):
            raise ValueError(f"the store's URL must begin with one of {_LISTS}") from None
        self._tls = scheme == "valkeys"
        self.service = ""
        self.replica_reads = False
        self.addresses: Sequence[Address] = ()
        self._options: dict[str, Any] = {}
        self._sentinel_options: dict[str, Any] = {}
        if scheme == "unix":
            self._options = cast("dict[str, Any]", parse_url(url))
            self._class: Kind = self._options.pop("connection_class")
        else:
            self._read(parts)
        self.endpoint()  # an unknown option fails here, not at the first call

    def connecting(
        self, address: Address, *, sentinel: bool = False
    ) -> tuple[Kind, dict[str, Any]]:
        """The kind and the arguments of a connection to the server, or the sentinel, at an
        address.
        """
        options = self._sentinel_options if sentinel else self._options
        return self._class, options | {"host": address.host, "port": address.port}

    def endpoint(self) -> Endpoint:
        """The endpoint of the one server, or of the service; of a cluster, its first node."""
        if self.way == "sentinel":
            return SentinelEndpoint(self)
        return self.endpoint_at(self.addresses[0]) if self.addresses else self._socket()

    def endpoint_at(self, address: Address) -> Endpoint:
        return Endpoint(*self.connecting(address))

    def _socket(self) -> Endpoint:
        return Endpoint(self._class, self._options)

    def _read(self, parts: SplitResult) -> None:
        who, _, hosts = parts.netloc.rpartition("@")
        self.addresses = [_address(host, _PORTS[self.way]) for host in hosts.split(",")]
        if self.way == "server" and len(self.addresses) > 1:
            raise ValueError(
                "the store's URL names several servers: it is valkey+cluster:// or "
                "valkey+sentinel://"
            )
        path = parts.path.strip("/")
        if self.way == "sentinel":
            self.service = unquote(path)
            if not self.service or "/" in path:
                raise ValueError("the store's URL must end with the name of the service, as /mine")
            path = ""
        if path and not path.isdigit():
            raise ValueError("the store's URL must end with the number of a database, as /0")
        # Without user, password and hosts, so that valkey-py's errors contain none of them.
        options = cast(
            "dict[str, Any]", parse_url(f"valkey{'s' * self._tls}://-/{path}?{parts.query}")
        )
        self._class = options.pop("connection_class", Connection)
        del options["host"]
        self.replica_reads = _yes("replica_reads", options.pop("replica_reads", "no"))
        if self.way == "cluster" and options.get("db"):
            raise ValueError("a cluster has no database but 0: take the number out of its URL")
        own = {
            name: options.pop(f"sentinel_{name}", None)
            for name in ("username", "password")
            if self.way == "sentinel"
        }
        if self._tls:
            options = {"ssl_check_hostname": True} | options
            _check_files(options)
        shared = {name: value for name, value in options.items() if name.startswith("ssl_")}
        self._sentinel_options = shared | {name: one for name, one in own.items() if one}
        user, _, password = who.partition(":")
        given = {"username": unquote(user), "password": unquote(password)}
        self._options = options | {name: one for name, one in given.items() if one}


def _split(url: str) -> SplitResult:
    """Like ``urlsplit``, which may refuse an IPv6 address among several hosts."""
    scheme, found, rest = url.partition("://")
    authority = re.match("[^/?#]*", rest)
    hosts = authority[0] if authority else ""
    return urlsplit(f"{scheme}{found}{rest[len(hosts) :]}")._replace(netloc=hosts)


async def hang_up(connection: AbstractConnection) -> None:
    """Close at once: TLS would otherwise wait for the other side's close."""
    writer = connection._writer  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if writer is not None:
        writer.transport.abort()
    await connection.disconnect(nowait=True)


def _address(text: str, port: int) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        return Address(parts.hostname or "localhost", parts.port or port)
    except ValueError:
        # The port may be a part of a password, so it is not shown.
        raise ValueError(
            "the store's URL has no valid host:port behind its @ (in a password, %2F is written "
            "for /, %23 for #, %3F for ?, %40 for @)"
        ) from None


def _yes(name: str, text: str) -> bool:
    if text.lower() not in ("yes", "no"):
        raise ValueError(f"the store's URL: {name} must be yes or no")
    return text.lower() == "yes"


def _check_files(options: dict[str, Any]) -> None:
    for name in _FILES:
        if (file := options.get(name)) is not None:
            try:
                Path(file).read_bytes()
            except OSError as error:
                raise ValueError(f"{name}: cannot read {file} ({error.strerror})") from None
