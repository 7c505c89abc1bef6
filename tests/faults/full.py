"""A store that is full to its floor of retention (P17): what begins is refused with
``store_full``, answers that were read are given up once they are old enough, the oldest first,
new requests are taken again when they were promised, and nothing else is touched."""

import asyncio
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence

import httpx

from lore.protocol.lifecycle import ENDED
from lore.store.base import View
from lore.store.keys import log_key
from lore.store.valkey.room import LOOK_AGAIN_S
from lore_client import Reader
from tests.faults.fleet import FLOOR_S, Fleet
from tests.faults.readers import READER, Outcome, Question, ask_and_read, read_answer

SPENT, UNREAD, LIVE = 12, 2, 8
SPENT_TOKENS, UNREAD_TOKENS, LIVE_TOKENS, LATE_TOKENS = 40, 8, 500, 8
"""An unread answer fits its window, so that it ends without an acknowledgement."""
ASK_EVERY_S = 0.3
MOST_REFUSALS = 4
"""Of one who comes back when it is told to, while others take room as well."""
ANEW = httpx.Limits(max_keepalive_connections=0)
"""An edge may close a connection that waits just when the next call begins."""
CALL_S, WAIT_S = 30.0, 60.0


async def store_full(fleet: Fleet, rng: random.Random) -> None:
    """What is wrong goes to ``fleet.found``, and its own requests to ``fleet.questions``."""
    await fleet.settle()
    async with (
        Reader(fleet.readers, config=READER) as reader,
        httpx.AsyncClient(timeout=CALL_S, trust_env=False, limits=ANEW) as http,
        asyncio.TaskGroup() as tasks,
    ):
        try:
            await _FullStore(fleet, rng, reader, http, tasks).run()
        finally:
            await fleet.valkey.admin.config_set("maxmemory", 0)


class _FullStore:
    def __init__(
        self,
        fleet: Fleet,
        rng: random.Random,
        reader: Reader,
        http: httpx.AsyncClient,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._fleet, self._rng, self._reader = fleet, rng, reader
        self._http, self._tasks = http, tasks
        self._numbers = itertools.count(1_000_000)
        self._answers = Counter[str]()
        """To those who asked for something new, by code."""

    async def run(self) -> None:
        live = self._draw(LIVE, LIVE_TOKENS)
        for question in live:
            self._tasks.create_task(ask_and_read(self._reader, question, self._rng))
        spent, unread = self._draw(SPENT, SPENT_TOKENS), self._draw(UNREAD, UNREAD_TOKENS)
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as reading:
            for question in spent:
                reading.create_task(self._spend(question, acks=True))
            for question in unread:
                reading.create_task(self._spend(question, acks=False))
        await self._fleet.until_asked()
        await self._no_room_at_all()
        impatient = [self._tasks.create_task(self._ask_on(url)) for url in self._fleet.readers]
        await self._room_as_answers_grow_old()
        for task in impatient:
            task.cancel()
        await asyncio.sleep(FLOOR_S)  # all that were spent are old enough now
        await self._no_room_at_all()
        await self._check(spent, unread)
        await self._fleet.valkey.admin.config_set("maxmemory", 0)
        await self._accepted(0)
        others = set(self._answers) - {"", "store_full"}
        self._expect(not others, f"refused with {others}")
        print(f"  asked for something new: {dict(self._answers)}", flush=True)

    async def _no_room_at_all(self) -> None:
        """Each edge refuses, and gives up all that is read and old enough. What it promises is
        when the unread expire, which no reader waits for: none asks meanwhile."""
        await self._fleet.valkey.admin.config_set("maxmemory", 1)
        for url in self._fleet.readers:
            code, _ = await self._ask(url)
            self._expect(code == "store_full", f"no room at all: {code or 'accepted'}")

    async def _room_as_answers_grow_old(self) -> None:
        """Half of what was read has to go. The oldest of it does."""
        read = [view for view in await self._views(self._fleet.questions) if _is_read(view)]
        limit = await self._limit(read)
        await asyncio.sleep(LOOK_AGAIN_S)  # until then the refusals before it stand
        await self._accepted(MOST_REFUSALS, read=read, limit=limit)
        now = [view for view in await self._views_of(read) if view.finished_ms]
        gone = [view.finished_ms for view in now if view.given_up_ms]
        left = [view.finished_ms for view in now if not view.given_up_ms]
        fine = not gone or not left or max(gone) <= min(left)
        self._expect(fine, "an older answer was kept, and a younger one given up")

    async def _limit(self, read: Sequence[View], at_least: int = 1) -> int:
        """Set one that leaves no room, and that half of what was read is enough to keep."""
        admin = self._fleet.valkey.admin
        kept = [view for view in await self._views_of(read) if not view.given_up_ms]
        sizes = [await admin.memory_usage(log_key(view.request_id)) or 0 for view in kept]
        used = (await admin.info("memory"))["used_memory"]
        limit = max(at_least, used - sum(sizes) // 2)
        await admin.config_set("maxmemory", limit)
        return limit

    async def _accepted(self, refusals: int, *, read: Sequence[View] = (), limit: int = 0) -> None:
        """Ask, and again when told to. What live answers add meanwhile is no part of what was
        promised, so the limit follows it."""
        for times in range(refusals + 1):
            code, retry_s = await self._ask(self._rng.choice(self._fleet.readers))
            if not code:
                print(f"  told to come back {times} times, and accepted", flush=True)
                return
            within = retry_s <= math.ceil(FLOOR_S)
            self._expect(within, f"Retry-After: {retry_s}, and the floor is {FLOOR_S} s")
            await asyncio.sleep(min(retry_s, FLOOR_S))
            if limit:
                limit = await self._limit(read, limit)
        self._expect(False, f"not accepted at the time that it was told, {refusals + 1} times")

    async def _ask_on(self, url: str) -> None:
        """Whatever the answer is."""
        while True:
            await self._ask(url)
            await asyncio.sleep(ASK_EVERY_S)

    async def _ask(self, url: str) -> tuple[str, int]:
        """Something new: the code of the refusal, or '', and when to come back."""
        (question,) = self._draw(1, LATE_TOKENS, keep=False)
        body = {"messages": question.messages, "seed": question.seed} | question.parameters
        try:
            answer = await self._http.post(f"{url}/v1/streams", json=body)
        except httpx.TransportError as error:
            self._answers[type(error).__name__] += 1
            return type(error).__name__, 1
        if answer.is_success:
            question.request_id = answer.json()["request_id"]
            self._fleet.questions.append(question)
            self._tasks.create_task(read_answer(self._reader, question, self._rng))
            self._answers[""] += 1
            return "", 0
        code, retry = answer.json()["error"]["code"], int(answer.headers.get("retry-after", 0))
        self._answers[code] += 1
        if code == "store_full":
            told = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
            self._expect(told, f"store_full with HTTP {answer.status_code}")
            self._expect(retry >= 1, "store_full without a Retry-After")
        return code, retry

    async def _spend(self, question: Question, *, acks: bool) -> None:
        """Read it to its end, and acknowledge all of it, or nothing."""
        asked = await self._reader.create(
            messages=question.messages, seed=question.seed, **question.parameters
        )
        question.request_id = asked.request_id
        async for _ in self._reader.stream(asked.request_id, acks=acks):
            pass
        question.outcome = Outcome.WHOLE  # the log is compared with the answer afterwards

    async def _check(self, spent: Sequence[Question], unread: Sequence[Question]) -> None:
        for question in (*spent, *unread):
            (view,) = await self._views([question])
            old = view.given_up_ms or _is_read(view)
            self._expect(bool(old) == (question in spent), f"{view}: acknowledged?")
            url = f"{self._rng.choice(self._fleet.readers)}/v1/streams/{question.request_id}"
            answer = await self._http.get(url)
            if question in spent:
                code = (answer.json()["error"] or {}).get("code")  # a view has one, too: null
                gone = (answer.status_code, code) == (httpx.codes.GONE, "given_up")
                self._expect(gone, f"read and old, and {answer.status_code} {code}")
            else:
                same = answer.is_success and answer.json()["text"] == question.answer
                self._expect(same, f"not read, and {answer.status_code}")

    def _draw(self, count: int, tokens: int, *, keep: bool = True) -> list[Question]:
        drawn = [
            Question.draw(self._rng, next(self._numbers), ack="client", max_tokens=tokens)
            for _ in range(count)
        ]
        if keep:
            self._fleet.questions += drawn
        return drawn

    async def _views(self, questions: Iterable[Question]) -> list[View]:
        ids = [question.request_id for question in questions if question.request_id]
        views = await asyncio.gather(*map(self._fleet.store.view, ids))
        return [view for view in views if view is not None]

    async def _views_of(self, views: Iterable[View]) -> list[View]:
        """As they are now."""
        now = await asyncio.gather(*(self._fleet.store.view(view.request_id) for view in views))
        return [view for view in now if view is not None]

    def _expect(self, fine: bool, what: str) -> None:
        if not fine:
            self._fleet.found.append(f"store full: {what}")


def _is_read(view: View) -> bool:
    """Ended and acknowledged to its last chunk, and still there."""
    read = view.status in ENDED and view.acked_seq >= view.next_seq - 1
    return read and not view.given_up_ms
