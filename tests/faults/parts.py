"""Readers of answers that are calls of tools, or objects of a schema, by OpenAI's two dialects.

Each joins the events that it is given, compares what they say with the reference as it grows, goes
on at another edge whenever it is cut off or leaves, and in the end reads the whole object.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx
import jsonschema

from lore_client.sse import ServerEvent, SseParser
from tests.faults.dialects import Chat, Dialect, Failed, Form, Json
from tests.faults.readers import STREAM_S, Outcome, Question, Wrong, compare

AGAIN_S = 0.1
"""Between two visits: an edge that is away, or starts, tells nobody when it is back."""
"""A client's pause before it goes to the next edge."""
WAITS = httpx.Timeout(4.0)
"""Longer than any edge is silent (``heartbeat_s``)."""
COME_BACK = {429, 502, 503}


@dataclass
class Asked(Question):
    """``answer`` is the text of the log, and ``told`` what a reader is told of it."""

    form: Form = field(default_factory=Form)
    told: str = ""
    dialect: type[Dialect] = Chat
    visits: int = 0
    """How many connections its reader has had."""
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
        asked.visits += 1
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
