"""Readers of answers that are calls of tools, or objects of a schema, by OpenAI's two dialects.

Each joins the events that it is given, compares what they say with the reference as it grows, goes
on at another edge whenever it is cut off or leaves, and in the end reads the whole object.
"""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
import jsonschema

from lore_client.sse import ServerEvent, SseParser
from lore_edge.openai.numbers import STRIDE
from tests.faults.readers import STREAM_S, Outcome, Question, Wrong, compare

Json = dict[str, Any]

AGAIN_S = 0.1
"""A client's pause before it goes to the next edge."""
WAITS = httpx.Timeout(4.0)
"""Longer than any edge is silent (``heartbeat_s``)."""
COME_BACK = {429, 502, 503}


class Failed(Exception):
    """The reader was told of an error."""


@dataclass(frozen=True)
class Said:
    """What an answer says, in whichever dialect."""

    text: str
    calls: Sequence[tuple[str, str]]
    """Names and arguments."""
    is_cut: bool
    """By ``max_tokens``."""

    def joined(self) -> str:
        return self.text + "".join(begun(name) + arguments for name, arguments in self.calls)


def begun(name: str) -> str:
    """Where a call begins, in a text of everything that an answer says."""
    return f"\x1d{name}\x1e"


@dataclass(frozen=True)
class Form:
    """What an answer has to be: calls of these functions, or an object of the schema."""

    functions: Sequence[Json] = ()
    choice: str = "required"
    """Or the name of the function that has to be called."""
    parallel: bool = True
    schema: Json | None = None

    def body_of(self, dialect: type["Dialect"]) -> Json:
        body: Json = {}
        if self.schema is not None:
            body |= dialect.format_of({"name": "answer", "schema": self.schema, "strict": True})
        if self.functions:
            choice = dialect.function({"name": self.choice})
            body["tools"] = [dialect.function(one) for one in self.functions]
            body["tool_choice"] = self.choice if self.choice == "required" else choice
            body["parallel_tool_calls"] = self.parallel
        return body

    def check(self, said: Said) -> None:
        """Raises ``jsonschema.ValidationError`` or ``ValueError`` where something is not valid."""
        schemas = {one["name"]: one["parameters"] for one in self.functions}
        for name, arguments in said.calls[:-1] if said.is_cut else said.calls:
            jsonschema.validate(json.loads(arguments), schemas[name])
        if self.schema is not None and not said.is_cut:
            jsonschema.validate(json.loads(said.text), self.schema)
        if self.functions and not (said.calls or said.is_cut):
            raise ValueError("no call")


class Dialect:
    """One reader's place in one answer."""

    path = prefix = ""

    def __init__(self) -> None:
        self.name = ""
        """The answer's id, once it is known."""
        self.is_over = False
        self.told = ""
        """What all events together said, ``told_at`` the last of them."""
        self.told_at = 0.0

    @staticmethod
    def function(about: Json) -> Json:
        raise NotImplementedError

    @staticmethod
    def format_of(named: Json) -> Json:
        raise NotImplementedError

    @staticmethod
    def asked(text: str, max_tokens: int) -> Json:
        raise NotImplementedError

    @staticmethod
    def said(whole: Json) -> Said:
        raise NotImplementedError

    def headers(self) -> dict[str, str]:
        return {}

    def params(self) -> dict[str, str]:
        return {"stream": "true"}

    def take(self, event: ServerEvent) -> str:
        """What the event adds. Raises Failed, or Wrong for one that does not follow."""
        raise NotImplementedError


class Chat(Dialect):
    path, prefix = "/v1/chat/completions", "chatcmpl-"

    def __init__(self) -> None:
        super().__init__()
        self._last_id = ""

    @staticmethod
    def function(about: Json) -> Json:
        return {"type": "function", "function": about}

    @staticmethod
    def format_of(named: Json) -> Json:
        return {"response_format": {"type": "json_schema", "json_schema": named}}

    @staticmethod
    def asked(text: str, max_tokens: int) -> Json:
        return {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}

    @staticmethod
    def said(whole: Json) -> Said:
        (choice,) = whole["choices"]
        message = choice["message"]
        calls = [one["function"] for one in message.get("tool_calls", ())]
        pairs = [(one["name"], one["arguments"]) for one in calls]
        return Said(message["content"] or "", pairs, choice["finish_reason"] == "length")

    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self._last_id} if self._last_id else {}

    def take(self, event: ServerEvent) -> str:
        if event.data == "[DONE]":
            return ""
        data = json.loads(event.data)
        if "error" in data:
            raise Failed(str(data["error"]))
        self.name = data["id"]
        self._last_id = event.last_event_id or self._last_id
        (choice,) = data["choices"]
        self.is_over = choice["finish_reason"] is not None
        delta = choice["delta"]
        said = delta.get("content") or ""
        for call in delta.get("tool_calls", ()):
            function = call["function"]
            said += (begun(function["name"]) if "id" in call else "") + function["arguments"]
        return said


class Responses(Dialect):
    path, prefix = "/v1/responses", "resp_"

    def __init__(self) -> None:
        super().__init__()
        self._next = 0

    @staticmethod
    def function(about: Json) -> Json:
        return {"type": "function", **about}

    @staticmethod
    def format_of(named: Json) -> Json:
        return {"text": {"format": {"type": "json_schema", **named}}}

    @staticmethod
    def asked(text: str, max_tokens: int) -> Json:
        return {"input": text, "max_output_tokens": max_tokens}

    @staticmethod
    def said(whole: Json) -> Said:
        items = whole["output"]
        parts = [part for item in items if item["type"] == "message" for part in item["content"]]
        calls = [item for item in items if item["type"] == "function_call"]
        pairs = [(one["name"], one["arguments"]) for one in calls]
        text = "".join(part["text"] for part in parts)
        return Said(text, pairs, whole["status"] == "incomplete")

    def params(self) -> dict[str, str]:
        return super().params() | ({"starting_after": str(self._next - 1)} if self._next else {})

    def take(self, event: ServerEvent) -> str:
        data = json.loads(event.data)
        kind = data["type"]
        if kind in ("error", "response.failed"):
            raise Failed(event.data)
        number = data["sequence_number"]
        if number < self._next:
            raise Wrong(Outcome.DOUBLED, number)
        if self._next < number < self._next + STRIDE:  # else its log has forked (O7)
            raise Wrong(Outcome.LOST, number)
        self._next = number + 1
        if "response" in data:
            self.name = data["response"]["id"]
            self.is_over = data["response"]["status"] in ("completed", "incomplete")
        if kind == "response.output_item.added" and data["item"]["type"] == "function_call":
            return begun(data["item"]["name"])
        is_said = kind.endswith(("output_text.delta", "function_call_arguments.delta"))
        return data["delta"] if is_said else ""


DIALECTS: tuple[type[Dialect], ...] = (Chat, Responses)


@dataclass
class Asked(Question):
    """``answer`` is the text of the log, and ``told`` what a reader is told of it."""

    form: Form = field(default_factory=Form)
    told: str = ""
    dialect: type[Dialect] = Chat
    stays: int = 0
    """Events after which the reader leaves for another edge, each time; 0: it draws them."""

    @property
    def body(self) -> Json:
        ((question,), tokens) = self.messages, self.parameters["max_tokens"]
        asked = self.dialect.asked(question["content"], tokens) | self.form.body_of(self.dialect)
        return {"model": "default", "temperature": 0} | asked


async def read_parts(edges: Sequence[str], asked: Asked, rng: random.Random) -> None:
    """Sets its ``outcome``; never raises."""
    try:
        async with httpx.AsyncClient(timeout=WAITS, trust_env=False) as http:
            async with asyncio.timeout(STREAM_S):
                await _read(http, edges, asked, rng)
    except TimeoutError:
        asked.note = f"no end within {STREAM_S:g} s"
    except Wrong as wrong:
        asked.outcome, asked.note = wrong.outcome, str(wrong)
    except (Failed, ValueError, jsonschema.ValidationError) as error:
        asked.outcome, asked.note = Outcome.FAILED, f"{type(error).__name__}: {error}"
    else:
        asked.outcome = Outcome.WHOLE
    finally:
        asked.is_read = False


async def _read(
    http: httpx.AsyncClient, edges: Sequence[str], asked: Asked, rng: random.Random
) -> None:
    place = asked.dialect()
    ways = itertools.cycle(rng.sample(edges, len(edges)))
    key = f"{rng.getrandbits(64):x}"
    while not place.is_over:
        stays = asked.stays or (rng.randint(1, 80) if rng.random() < 0.5 else -1)
        async with aclosing(_visit(http, next(ways), asked, place, key)) as events:
            if not await _take(events, asked, place, stays):
                await asyncio.sleep(AGAIN_S)
    if place.told != asked.told:
        raise Wrong(Outcome.LOST, len(place.told))
    whole = place.said(await _whole(http, ways, place))
    if whole.joined() != place.told:
        raise Failed("the whole is not what the events say")
    asked.form.check(whole)


async def _take(
    events: AsyncIterator[ServerEvent], asked: Asked, place: Dialect, stays: int
) -> bool:
    """So many events, or all. False when the connection was over before that."""
    now = asyncio.get_running_loop().time
    async for event in events:
        if added := place.take(event):
            if place.told:
                asked.pause_s = max(asked.pause_s, now() - place.told_at)
            place.told, place.told_at = place.told + added, now()
            asked.is_read = True
            compare(place.told, asked.told)
        asked.request_id = place.name.removeprefix(place.prefix)
        stays -= 1
        if stays == 0 or place.is_over:
            return True
    return False


async def _visit(
    http: httpx.AsyncClient, edge: str, asked: Asked, place: Dialect, key: str
) -> AsyncGenerator[ServerEvent]:
    """Of one connection, to its end, whatever ends it."""
    url, headers = edge + place.path, {"Idempotency-Key": key}
    if place.name:
        headers = place.headers()
        call = http.stream("GET", f"{url}/{place.name}", params=place.params(), headers=headers)
    else:
        call = http.stream("POST", url, json=asked.body | {"stream": True}, headers=headers)
    parser = SseParser()
    try:
        async with call as answer:
            if answer.status_code in COME_BACK:
                return
            if not answer.is_success:
                raise Failed(f"{answer.url} {headers}: {(await answer.aread()).decode()}")
            async for data in answer.aiter_bytes():
                for event in parser.feed(data):
                    yield event
    except httpx.HTTPError:
        return


async def _whole(http: httpx.AsyncClient, ways: Iterator[str], place: Dialect) -> Json:
    while True:
        try:
            answer = await http.get(f"{next(ways)}{place.path}/{place.name}")
        except httpx.HTTPError:
            await asyncio.sleep(AGAIN_S)
            continue
        if answer.is_success:
            return answer.json()
        if answer.status_code not in COME_BACK:
            raise Failed(answer.text)
        await asyncio.sleep(AGAIN_S)
