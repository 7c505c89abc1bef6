"""Python's clients: each asks and reads behind a proxy, and says the request's ``id``, the
``text``, and when the ``first`` of it came, in seconds after the question. Lore's reader also says
how many ``polls`` it took."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from openai import DefaultHttpxClient, OpenAI

from lore_client import Reader, Text

Said = dict[str, Any]


class Clock:
    def __init__(self) -> None:
        self._began = time.monotonic()
        self.first: float | None = None

    def took(self) -> None:
        if self.first is None:
            self.first = time.monotonic() - self._began


async def reader(url: str, question: str) -> Said:
    clock, text = Clock(), ""
    async with Reader([url]) as lore:
        asked = await lore.create(question)
        stream = lore.stream(asked.request_id)
        async for event in stream:
            if isinstance(event, Text):
                clock.took()
                text += event.text
    polls = stream.counters.polls
    return {"id": asked.request_id, "text": text, "polls": polls, "first": clock.first}


def chat(client: OpenAI, model: str, question: str) -> Said:
    clock, request_id, text = Clock(), "", ""
    for chunk in client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], stream=True
    ):
        request_id = chunk.id.removeprefix("chatcmpl-")
        if piece := chunk.choices[0].delta.content:
            clock.took()
            text += piece
    return {"id": request_id, "text": text, "first": clock.first}


def responses(client: OpenAI, model: str, question: str) -> Said:
    """Leaves a stream after its first text, resumes it, and asks for the whole."""
    clock = Clock()
    asked = client.responses.create(model=model, input=question, background=True)
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
    return {"id": asked.id.removeprefix("resp_"), "text": text, "first": clock.first}


async def openai(way: Callable[[OpenAI, str, str], Said], url: str, question: str) -> Said:
    def ask() -> Said:
        http = DefaultHttpxClient(trust_env=False)
        with OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, http_client=http) as client:
            return way(client, client.models.list().data[0].id, question)

    return await asyncio.to_thread(ask)


CLIENTS = {
    "the Python reader": reader,
    "OpenAI for Python, chat": partial(openai, chat),
    "OpenAI for Python, responses": partial(openai, responses),
}
