"""The name of the model: ``LORE_MODEL``, or the one that generators report."""

import time
from typing import Any

from lore.parts import formats
from lore.request import StreamRequest
from lore.store.base import Store, StoreUnavailable
from lore.template_args import EFFORT, of_effort
from lore_edge.settings import EdgeSettings
from lore_edge.wire.errors import ApiError, invalid

NAMELESS = "default"
"""The model's name when nobody has named it. If only generators have, it is another name for
theirs.
"""
_NO_MODEL = "no generator has reported yet how its model calls tools"
_NO_TOOLS = (
    "tools: the chat template of the model here says nothing of tools. If the model can call them,"
    " name its format in LORE_PARTS of the generators: hermes, llama3 or mistral"
)
_NO_EFFORT = "the chat template of the model here has no switch for it"
HEARD_S, UNHEARD_S = 5.0, 0.5
"""How many seconds to cache what generators published, or that they published nothing."""


class ServedModel:
    def __init__(self, store: Store, settings: EdgeSettings) -> None:
        self._store = store
        self._set = settings.model
        self._heard = ""
        self._asked_s = float("-inf")
        self._parts: str | None = None
        self._parts_asked_s = float("-inf")

    async def name(self) -> str:
        """The configured name, or the one that generators published last, however long ago; '' for
        neither.

        Raises StoreUnavailable when it cannot be found out.
        """
        now = time.monotonic()
        if not self._set and now - self._asked_s >= (HEARD_S if self._heard else UNHEARD_S):
            try:
                self._heard = await self._store.model_fact("model") or self._heard
                self._asked_s = now
            except StoreUnavailable:
                if not self._heard:
                    raise
        return self._set or self._heard

    async def shown(self) -> str:
        """The name as far as it is known, for callers that do not depend on it."""
        try:
            return await self.name()
        except StoreUnavailable:
            return ""

    async def has(self, model: str) -> bool:
        """Whether requests may ask for this model. Raises StoreUnavailable when that is unknown."""
        if model == NAMELESS and not self._set:
            return True
        return model == await self.name()

    async def effort(self, asked: str | None) -> dict[str, Any]:
        """The arguments of the chat template that stand for a ``reasoning_effort``.

        Raises ApiError 400 if the template has none for it, and StoreUnavailable. ``none`` is then
        taken: nothing asks for reasoning.
        """
        if asked is None:
            return {}
        known = (await self._store.model_fact("switches") or "").split()
        args = of_effort(asked, known)
        if not args and asked != "none":
            code = "unsupported_parameter"
            raise invalid(f"{EFFORT}: {_NO_EFFORT}", field=EFFORT, code=code)
        return args

    async def parts_of(self, asked: StreamRequest) -> str:
        """The format of its answer's parts (``lore.parts.formats``), as generators report it.

        Raises ApiError for tools of which the model knows nothing, and StoreUnavailable.
        """
        now, wants_tools = time.monotonic(), bool(asked.callable_names)
        if now - self._parts_asked_s >= (UNHEARD_S if self._parts is None else HEARD_S):
            try:
                heard = await self._store.model_fact("parts")
                self._parts = self._parts if heard is None else heard
                self._parts_asked_s = now
            except StoreUnavailable:
                if self._parts is None and wants_tools:
                    raise
        form = _known(self._parts or "")
        if wants_tools and self._parts is None:
            raise ApiError(503, "no_model", _NO_MODEL, retry_s=1)
        if wants_tools and not form.tools:
            raise invalid(_NO_TOOLS, field="tools")
        return str(form)


def _known(word: str) -> formats.Format:
    """A newer generator may have more words: of those, this edge understands none."""
    try:
        return formats.read(word)
    except ValueError:
        return formats.Format()
