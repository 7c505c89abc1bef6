"""The command connection, and Lore's function library on its server.

During a rolling upgrade, two releases share a server, and the newer library serves both
(``lua/common.lua``). So the library is checked wherever it may have changed: when a connection is
set up, when a function is missing or fails, and every ``LOOK_S`` seconds, because another release
may have loaded its own into a server that had lost its functions. Ours is loaded if it is newer
(P17.23). If a server does not take it (its memory is full, or the user may not load), the library
that is there is used if it fits. If not, the connection counts as down and says why (P17.24).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from valkey.exceptions import ResponseError

from lore.store.types import StoreFull, StoreUnavailable
from lore.store.valkey.client.connection import Link, Parse, forget
from lore.store.valkey.client.library import NONE, OURS, Library
from lore.store.valkey.client.replies import Denied, FunctionFailed, FunctionMissing, Redirected

log = structlog.get_logger()

LOOK_S = 10.0
LOADS = 3
"""How many times to load when others load at the same time."""

Elsewhere = Callable[["Functions", Redirected, tuple[str | int, ...]], Awaitable[Any]]
"""Executes a command that a server refused because its partition is elsewhere."""

REPEATED = (FunctionMissing, FunctionFailed, Redirected)
"""Errors after which a call may have to be repeated: ``Functions.again``."""


class Functions(Link):
    ours: Library = OURS
    """Our library. Tests that play another release set another one."""
    _loading: asyncio.Task[None] | None = None
    _looked_s = 0.0
    _refusal = ""

    def __init__(self, *args: Any, elsewhere: Elsewhere | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._elsewhere = elsewhere or _nowhere
        self.version = 0
        """The version of the library that the server was last seen to have."""

    async def fcall(self, name: str, keys: tuple[str, ...], *args: str | int) -> Any:
        """Call a function of the library."""
        try:
            return await self.call("FCALL", name, len(keys), *keys, *args)
        except REPEATED as problem:
            return await self.again(problem, ("FCALL", name, len(keys), *keys, *args))

    async def ask(self, *command: str | int, parse: Parse | None = None) -> Any:
        """Send a command that is not a call of a function. ``parse``: as of ``call``."""
        try:
            return await self.call(*command, parse=parse)
        except Redirected as redirected:
            reply = await self._elsewhere(self, redirected, command)
            return reply if parse is None else parse(reply)

    async def again(self, problem: Exception, command: tuple[str | int, ...]) -> Any:
        """Repeat a command that this problem kept from being executed, or from being finished. A
        function that fails on the library that it was written for is our bug, and its error is
        raised.
        """
        if isinstance(problem, Redirected):
            return await self._elsewhere(self, problem, command)
        await self.load_once()
        try:
            return await self.call(*command)
        except FunctionMissing:
            raise self._away(f"has function library {self.version}, without {command[1]}") from None

    async def load_once(self) -> None:
        """Load the library once for the many calls that may find it missing. Raises
        StoreUnavailable.
        """
        await asyncio.shield(self._load_soon())

    def _load_soon(self) -> asyncio.Task[None]:
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load())
            self._loading.add_done_callback(forget)
        return self._loading

    def _attend(self, now_s: float) -> None:
        if now_s - self._looked_s >= LOOK_S:
            self._load_soon()

    async def _on_up(self) -> None:
        found = await self._primary()
        if self.run_id not in ("", found):
            log.warning("store changed", store=self.endpoint.name, reason="it may have lost data")
        self.run_id = found
        await self._load()

    async def _load(self) -> None:
        """Load our library if it is newer. Raises StoreUnavailable when the server's library then
        does not fit.
        """
        self._looked_s = asyncio.get_running_loop().time()
        library, refusal = await self._library(), ""
        for _ in range(LOADS):
            if refusal or not self.ours.replaces(library):
                break
            refusal = await self._replace(library)
            library = await self._library()
        self.version = library.version
        if unfit := library.unfit(self.ours):
            if library.version:
                self.drop()  # its rules may differ: better no server
            raise self._away(f"{unfit}; library {self.ours.version} was not loaded: {refusal}")
        if refusal != self._refusal:
            self._refusal = refusal
            if refusal:
                log.warning(
                    "library refused",
                    store=self.endpoint.name,
                    version=self.ours.version,
                    works_with=library.version,
                    reason=refusal,
                )

    async def _library(self) -> Library:
        found = await self._send("FUNCTION", "LIST", "LIBRARYNAME", "lore", "WITHCODE")
        if not found:
            return NONE
        return Library.of(dict(zip(found[0][::2], found[0][1::2], strict=True))["library_code"])

    async def _replace(self, library: Library) -> str:
        """Load our library. Returns '' or why the server does not take it.

        Without a library on the server nothing is replaced. So of two clients that find none, the
        newer one gets an error, sees the other's library and replaces it.
        """
        replace = () if library is NONE else ("REPLACE",)
        try:
            await self._send("FUNCTION", "LOAD", *replace, self.ours.code)
        except (StoreFull, Denied) as error:
            return str(error)
        except ResponseError as error:
            return "" if "already exists" in str(error) else str(error)
        return ""


async def _nowhere(functions: Functions, redirected: Redirected, _: object) -> Any:
    raise StoreUnavailable(
        f"the store at {functions.endpoint.name} is a node of a cluster ({redirected}): "
        "its URL must begin with valkey+cluster:// or valkeys+cluster://"
    )
