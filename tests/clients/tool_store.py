"""A store in memory whose answers are those of a model that calls tools and keeps to schemas.

It asks for the weather of one city after the other, then says what it was told; a schema is
answered by an object that fits it.
"""

import json
from typing import Any

from lore.request import KeptRequest
from lore.store.types import Open
from lore.tools import JsonSchema
from tests.clients.scripted import Outcome, ScriptedStore

CITIES = ("Oslo", "Rome")
PLACE: dict[str, Any] = {"city": "Oslo", "degrees": 3}
"""Fits every schema that the programs ask for."""


class ToolStore(ScriptedStore):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[KeptRequest] = []
        """Each request, as its generator gets it."""

    async def do(self, command: Any) -> Any:
        answer: Any = await super().do(command)
        if isinstance(command, Open) and answer.created:
            asked = KeptRequest.read(command.new.body)
            self.seen.append(asked)
            await self._answer(command.new.request_id, Outcome(cut(said(asked))))
        return answer


def said(asked: KeptRequest) -> str:
    if isinstance(asked.response_format, JsonSchema):
        return json.dumps(PLACE)
    names = [tool.name for tool in asked.tools or ()]
    results = [one.content for one in asked.messages or () if one.role == "tool"]
    if "weather" not in names:  # a schema in the form of a tool
        return called(names[0], PLACE)
    if len(results) < len(CITIES):
        return called("weather", {"city": CITIES[len(results)]})
    return " ".join(results)


def called(name: str, arguments: dict[str, Any]) -> str:
    call = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{call}\n</tool_call>"


def cut(text: str) -> tuple[str, ...]:
    """Into chunks that no marker and no name keeps to."""
    return tuple(text[at : at + 5] for at in range(0, len(text), 5))
