"""The command connection, with Lore's function library on the server's side of it.

``lua/common.lua`` says at its head how the library works, and when a client loads it. A
server that came back empty is noticed by the first call (``Function not found``): the
library is loaded again and the call repeated once.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from valkey.exceptions import ResponseError

from lore.store.connection import Link
from lore.store.replies import FunctionMissing, Redirected
from lore.store.types import StoreUnavailable

log = structlog.get_logger()

_PARTS = ("common", "admission", "queue", "log", "life", "register")
"""A Valkey library is one text; these are its chapters, each using those before it."""

CODE = "\n".join(
    (Path(__file__).parent / "lua" / f"{part}.lua").read_text(encoding="utf-8") for part in _PARTS
)


def version_of(code: str) -> int:
    found = re.search(r"^local VERSION = (\d+)$", code, re.MULTILINE)
    return int(found[1]) if found else 0


def must_load(code: str, on_server: str) -> bool:
    """Whether ``code`` replaces what the server has: older, or the same version edited."""
    ours, theirs = version_of(code), version_of(on_server)
    return ours > theirs or (ours == theirs and code != on_server)


Elsewhere = Callable[["Functions", Redirected, tuple[str | int, ...]], Awaitable[Any]]
"""Gets a command done that a server did not do, because its partition is elsewhere."""


class Functions(Link):
    _loading: asyncio.Task[None] | None = None

    def __init__(self, *args: Any, elsewhere: Elsewhere | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._elsewhere = elsewhere or _nowhere

    async def fcall(self, name: str, keys: tuple[str, ...], *args: str | int) -> Any:
        """Call a function of the library."""
        try:
            return await self.call("FCALL", name, len(keys), *keys, *args)
        except (FunctionMissing, Redirected) as problem:
            return await self.again(problem, ("FCALL", name, len(keys), *keys, *args))

    async def ask(self, *command: str | int) -> Any:
        """A command that is no function."""
        try:
            return await self.call(*command)
        except Redirected as redirected:
            return await self._elsewhere(self, redirected, command)

    async def again(self, problem: Exception, command: tuple[str | int, ...]) -> Any:
        """Send a command again that was not done because of this."""
        if isinstance(problem, Redirected):
            return await self._elsewhere(self, problem, command)
        await self.load_once()
        try:
            return await self.call(*command)
        except FunctionMissing as error:
            raise self._away(f"lost its functions again: {error}") from None

    async def _on_up(self) -> None:
        found = await self._primary()
        if self.run_id not in ("", found):
            log.warning("store_changed", store=self.endpoint.name, reason="it may have lost data")
        self.run_id = found
        await self._load()

    async def load_once(self) -> None:
        """Many calls may find the library missing; one loads it."""
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load())
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        found = await self._send("FUNCTION", "LIST", "LIBRARYNAME", "lore", "WITHCODE")
        if not found:
            try:
                await self._send("FUNCTION", "LOAD", CODE)
            except ResponseError as error:
                if "already exists" not in str(error):
                    raise
                # Another client was faster; it looks after what it has loaded.
            return
        library = dict(zip(found[0][::2], found[0][1::2], strict=True))
        if must_load(CODE, library["library_code"]):
            await self._send("FUNCTION", "LOAD", "REPLACE", CODE)


async def _nowhere(functions: Functions, redirected: Redirected, _: object) -> Any:
    raise StoreUnavailable(
        f"the store at {functions.endpoint.name} is a node of a cluster ({redirected}): "
        "its URL must begin with valkey+cluster:// or valkeys+cluster://"
    )
