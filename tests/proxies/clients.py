"""Asks and reads behind a proxy in the way that is named, and says as JSON: the request's ``id``,
the ``text``, and when the ``first`` of it came, in seconds after the question. Lore's reader also
says how many ``polls`` it took."""

import asyncio
import json
import sys
import time
from typing import Any

from openai import OpenAI

from lore_client import Reader, Text

WAY, URL, QUESTION = sys.argv[1:]


class Clock:
    def __init__(self) -> None:
        self._began = time.monotonic()
        self.first: float | None = None

    def took(self) -> None:
        if self.first is None:
            self.first = time.monotonic() - self._began


async def reader(clock: Clock) -> dict[str, Any]:
    text = ""
    async with Reader([URL]) as lore:
        asked = await lore.create(QUESTION)
        stream = lore.stream(asked.request_id)
        async for event in stream:
            if isinstance(event, Text):
                clock.took()
                text += event.text
    return {"id": asked.request_id, "text": text, "polls": stream.counters.polls}


def chat(client: OpenAI, model: str, clock: Clock) -> dict[str, Any]:
    request_id, text = "", ""
    for chunk in client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": QUESTION}], stream=True
    ):
        request_id = chunk.id.removeprefix("chatcmpl-")
        if piece := chunk.choices[0].delta.content:
            clock.took()
            text += piece
    return {"id": request_id, "text": text}


def responses(client: OpenAI, model: str, clock: Clock) -> dict[str, Any]:
    """Leaves a stream after its first text, resumes it, and asks for the whole."""
    asked = client.responses.create(model=model, input=QUESTION, background=True)
    text, last = "", 0
    for event in (events := client.responses.retrieve(asked.id, stream=True)):
        last = event.sequence_number
        if event.type == "response.output_text.delta":
            clock.took()
            text += event.delta
            break
    events.close()
    for event in client.responses.retrieve(asked.id, stream=True, starting_after=last):
        if event.type == "response.output_text.delta":
            text += event.delta
    assert text == client.responses.retrieve(asked.id).output_text
    return {"id": asked.id.removeprefix("resp_"), "text": text}


def main() -> None:
    if WAY == "reader":
        clock = Clock()
        said = asyncio.run(reader(clock))
    else:
        client = OpenAI(base_url=f"{URL}/v1", api_key="any", max_retries=0)
        model = client.models.list().data[0].id
        clock = Clock()
        said = {"chat": chat, "responses": responses}[WAY](client, model, clock)
    print(json.dumps(said | {"first": clock.first}))


main()
