"""Answers that are calls and objects, by both of OpenAI's dialects, while what serves them is cut,
killed and left: the short form of ``python -m tests.faults.structured``.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests import programs
from tests.examples.stack import NODE
from tests.faults.dialects import DIALECTS, Form, Responses
from tests.faults.fleet import Fleet
from tests.faults.kinds import KINDS
from tests.faults.parts import Asked, read_parts
from tests.faults.readers import Outcome
from tests.faults.structured import FORMS, LONG, TOKENS, draw, references, stand, structured_round
from tests.services.cutting_proxy import CuttingProxy
from tests.services.openai_harness import read_through_cuts, sdk

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.model, pytest.mark.faults]

SEED = 1
STREAMS = 12
NAMES = ("generator kill -9", "edge kill -9", "network reset")
CUTS = 20
MOST_BYTES = 2_000
"""Less than the last event has, so that no stream ends before it was cut often enough."""
LIMIT_S = 300.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet() -> AsyncIterator[Fleet]:
    if find_spec("transformers") is None:
        pytest.skip("needs lore-generator[transformers]")
    async with stand() as fleet:
        yield fleet
        fleet.forget_logs()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def known(fleet: Fleet) -> list[Asked]:
    return await references(fleet, len(FORMS))


@pytest.mark.rule("O5", "O7", "P19.2")
async def test_a_reader_who_leaves_at_each_event_gets_the_same_at_the_next_edge(
    fleet: Fleet, known: list[Asked]
) -> None:
    """While the answer is made, also within the arguments of its calls."""
    short = [one for one in known if one.parameters["max_tokens"] == min(TOKENS)]
    asked = [replace(one, dialect=dialect, stays=1) for one in short for dialect in DIALECTS]
    rng = random.Random(SEED)
    readers = [read_parts(fleet.readers, one, random.Random(rng.random())) for one in asked]
    await asyncio.gather(*readers)
    assert [one.note for one in asked if one.outcome is not Outcome.WHOLE] == []
    assert min(one.visits for one in asked) > 3


@pytest.mark.rule("O1", "O7")
async def test_background_calls_and_objects_are_resumed_by_the_sdks_under_twenty_cuts(
    fleet: Fleet,
) -> None:
    cuts: Counter[str] = Counter()
    rng = random.Random(SEED)
    settings: dict[str, Any] = {"times": CUTS, "rng": rng, "most_bytes": MOST_BYTES}
    async with (
        CuttingProxy(fleet.readers, cuts, **settings) as near,
        CuttingProxy(fleet.readers, cuts, **settings) as far,
        sdk(near.url, max_retries=0) as one,
        sdk(far.url, max_retries=0) as two,
        asyncio.timeout(LIMIT_S),
    ):
        asked = [await one.responses.create(**body, background=True) for body in map(_body, LONG)]
        names = [response.id for response in asked]
        node = asyncio.create_task(_node(near.url, far.url))
        read = await asyncio.gather(*(read_through_cuts(name, [one, two], rng) for name in names))
        of_node = await node
        told = [[event.to_dict(warnings=False) for event in one] for one in read] + of_node
        wholes = [await two.responses.retrieve(one[0]["response"]["id"]) for one in told]
    assert sorted(cuts.values()) == [CUTS] * 2 * len(LONG)
    for events, whole, form in zip(told, wholes, [*LONG, *LONG], strict=True):
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        said = Responses.said(whole.to_dict())
        assert Responses.said(events[-1]["response"]) == said
        form.check(said)
        deltas = [event["delta"] for event in events if event["type"].endswith(".delta")]
        assert "".join(deltas) == said.text + "".join(arguments for _, arguments in said.calls)


def _body(form: Form) -> dict[str, Any]:
    asked = Responses.asked("What is a list?", 400) | form.body_of(Responses)
    return {"model": "default", "temperature": 0} | asked


async def _node(*urls: str) -> Any:
    program = Path(__file__).with_name("background.mjs")
    bodies = json.dumps([_body(form) for form in LONG])
    done = await programs.run(NODE, str(program), bodies, *urls, env=os.environ, limit_s=LIMIT_S)
    assert done.status == 0, done.out + done.err
    return json.loads(done.out)


@pytest.mark.rule("P1.1", "H14", "P15.2", "P19.2")
async def test_no_fault_costs_a_call_or_an_object_a_character(
    fleet: Fleet, known: list[Asked]
) -> None:
    """Each is what it is while nothing happens, and valid."""
    rng = random.Random(SEED)
    kinds = [kind.once() for kind in KINDS if kind.name in NAMES]
    this = await structured_round(fleet, kinds, draw(rng, known, STREAMS), rng)
    assert this.violations == [], f"logs: {fleet.folder}"
    assert this.injected.keys() == set(NAMES)
