"""After the faults: every accepted request has reached an end state (protocol P17)."""

import asyncio
import contextlib
from collections.abc import Sequence

from lore.protocol.commands import Reap
from lore.protocol.lifecycle import ENDED, Status
from lore.store import Store, StoreUnavailable
from lore.store.base import View
from tests.faults.readers import Outcome, Question

END_S = 30.0
LOOK_EVERY_S = 0.2
IDLE_MS = 10_000
RETENTION_MS = 60_000


async def given_up(store: Store, questions: Sequence[Question], *, floor_s: float) -> set[str]:
    """The requests whose text a full store gave up as it may (P17): wholly acknowledged, and kept
    for the floor. One that was given up otherwise is left to ``check_ends``."""
    ids = [question.request_id for question in questions if question.request_id]
    views = await asyncio.gather(*map(store.view, ids))
    return {
        view.request_id
        for view in views
        if view is not None
        and view.given_up_ms >= view.finished_ms + 1000 * floor_s
        and view.acked_seq >= view.next_seq - 1
    }


async def check_ends(store: Store, questions: Sequence[Question], *, may_lose: bool) -> list[str]:
    """A line for each accepted request that did not end as it should; waits a while for them."""
    accepted = [question for question in questions if question.request_id]
    async with asyncio.TaskGroup() as tasks:
        lines = [
            tasks.create_task(_check(store, question, may_lose=may_lose)) for question in accepted
        ]
    return [line for task in lines if (line := task.result())]


async def _check(store: Store, question: Question, *, may_lose: bool) -> str:
    view = await _end(store, question.request_id)
    name = f"request {question.request_id}"
    if view is None:
        told = may_lose and question.outcome in (Outcome.TOLD, Outcome.WHOLE)
        return "" if told else f"{name}: forgotten, and its reader {question.outcome}"
    if view.status is Status.REAPED and may_lose:
        return ""
    if view.status not in ENDED:
        return f"{name}: still {view.status} with {view.generated_tokens} tokens"
    if view.status is not Status.DONE:
        return f"{name}: {view.status}, {view.error or 'without a reason'}"
    text = "".join(chunk.text for chunk in await store.log(question.request_id))
    return "" if text == question.answer else f"{name}: its log is not the answer"


async def _end(store: Store, request_id: str) -> View | None:
    """The view once the request has ended, or after ``END_S`` in any case."""
    for _ in range(round(END_S / LOOK_EVERY_S)):
        with contextlib.suppress(StoreUnavailable):  # it may be on its way back
            view = await store.view(request_id)
            if view is None or view.status in ENDED:
                return view
        await asyncio.sleep(LOOK_EVERY_S)
    # Nobody reads it any more, and an answer whose end the store forgot was begun again: it
    # stops at its window (P7), and whoever watches over the fleet reaps it (P16).
    await store.do(Reap(request_id, idle_ms=IDLE_MS, retention_ms=RETENTION_MS))
    return await store.view(request_id)
