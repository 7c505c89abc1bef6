"""The command connection, and Lore's function library on its server.

Two releases may share a server while an upgrade rolls, and the newer library serves both
(``lua/common.lua``). So the library is looked at wherever it may have changed: when a connection
is set up, when a function is missing or fails, and every ``LOOK_S``, because another release may
have loaded its own into a server that had lost its functions. Ours is loaded where it is the
newer one. A server that does not take it (its memory is full, the user may not load) is worked
with as it is, if that can be done; if not, the connection counts as down, and says why.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from valkey.exceptions import ResponseError

from lore.store.connection import Link, forget
from lore.store.library import NONE, OURS, Library
from lore.store.replies import Denied, FunctionFailed, FunctionMissing, Redirected
from lore.store.types import StoreFull, StoreUnavailable

log = structlog.get_logger()

LOOK_S = 10.0
LOADS = 3
"""How often to load where others load at the same time."""

Elsewhere = Callable[["Functions", Redirected, tuple[str | int, ...]], Awaitable[Any]]
"""Gets a command done that a server did not do, because its partition is elsewhere."""

REPEATED = (FunctionMissing, FunctionFailed, Redirected)
"""Why a call may have to be made again: ``Functions.again``."""


class Functions(Link):
    ours: Library = OURS
    """Another one where a test plays another release."""
    _loading: asyncio.Task[None] | None = None
    _looked_s = 0.0
    _refusal = ""

    def __init__(self, *args: Any, elsewhere: Elsewhere | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._elsewhere = elsewhere or _nowhere
        self.version = 0
        """Of the library that the server was last seen to have."""

    async def fcall(self, name: str, keys: tuple[str, ...], *args: str | int) -> Any:
        """Call a function of the library."""
        try:
            return await self.call("FCALL", name, len(keys), *keys, *args)
        except REPEATED as problem:
            return await self.again(problem, ("FCALL", name, len(keys), *keys, *args))

    async def ask(self, *command: str | int) -> Any:
        """A command that is no function."""
        try:
            return await self.call(*command)
        except Redirected as redirected:
            return await self._elsewhere(self, redirected, command)

    async def again(self, problem: Exception, command: tuple[str | int, ...]) -> Any:
        """Send a command again that was not done because of this, or not to its end. A function
        that fails on the library that it was written for is our error, and raised."""
        if isinstance(problem, Redirected):
            return await self._elsewhere(self, problem, command)
        await self.load_once()
        try:
            return await self.call(*command)
        except FunctionMissing:
            raise self._away(f"has function library {self.version}, without {command[1]}") from None

    async def load_once(self) -> None:
        """Many calls may find the library missing; one loads it. Raises StoreUnavailable."""
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
        """Load our library if it is the newer one. Raises StoreUnavailable when what the server
        then has is of no use."""
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
                self.drop()  # it may do what we would not: better no server than this one
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
        """Why the server does not take ours, or ''. Without a library nothing is replaced, so that
        of two who find none the newer one sees the other's, and replaces that."""
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
