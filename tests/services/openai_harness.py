"""The official OpenAI SDK, and what its types demand of everything that it is given."""

import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

import openai
from openai import BaseModel
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

MODEL = "synthetic"
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def sdk(url: str, **options: Any) -> openai.AsyncOpenAI:
    given: dict[str, Any] = {"api_key": "unused"} | options
    return openai.AsyncOpenAI(base_url=f"{url}/v1", **given)


def strict(parsed: BaseModel) -> dict[str, Any]:
    """As it came off the wire. The SDK takes anything in silence: its types are asked here."""
    raw = parsed.to_dict(exclude_unset=True)
    type(parsed).model_validate(raw, strict=True)
    return raw


def strict_event(event: Any) -> dict[str, Any]:
    raw = event.to_dict(exclude_unset=True)
    assert type(_EVENT.validate_python(raw, strict=True)) is type(event)
    return raw


def text_of(events: Iterable[Any]) -> str:
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


def kinds(events: Iterable[Any]) -> list[str]:
    """Their types in order, all deltas in a row as one."""
    found: list[str] = []
    for event in events:
        kind = event.type.removeprefix("response.")
        if not (kind == "output_text.delta" and found and found[-1] == kind):
            found.append(kind)
    return found


WHOLE = [
    "created",
    "in_progress",
    "output_item.added",
    "content_part.added",
    "output_text.delta",
    "output_text.done",
    "content_part.done",
    "output_item.done",
    "completed",
]


async def read_through_cuts(
    response_id: str, edges: list[openai.AsyncOpenAI], rng: random.Random
) -> list[Any]:
    """Every event once, each time from where the last cut left off, on the other edge."""
    events: list[Any] = []
    while not events or events[-1].type != "response.completed":
        edges.reverse()
        after: dict[str, Any] = {"starting_after": len(events) - 1} if events else {}
        try:
            if rng.random() < 0.5:
                stream = await edges[0].responses.retrieve(response_id, stream=True, **after)
                async for event in stream:
                    strict_event(event)
                    events.append(event)
            else:
                async with edges[0].responses.stream(response_id=response_id, **after) as manager:
                    events.extend([event async for event in _until_cut(manager)])
        except openai.APIConnectionError:
            continue
    return events


async def _until_cut(stream: Any) -> AsyncIterator[Any]:
    """What came before the cut counts."""
    try:
        async for event in stream:
            yield event
    except openai.APIConnectionError:
        return
