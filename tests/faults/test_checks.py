"""The fault run's own judges: each finds what it is there to find."""

from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

import jsonschema
import pytest

from lore.protocol.commands import Cancel
from lore.store import MemoryStore, Store
from lore.store.base import NewRequest
from lore.store.types import Open
from lore_client.sse import ServerEvent
from tests.faults import checker
from tests.faults.dialects import Form, Responses, Said
from tests.faults.kinds import KINDS, Kind
from tests.faults.readers import Outcome, Question, Wrong, compare
from tests.faults.run import Round

ANSWER = "one two three four five six seven eight nine ten"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        pytest.param("one two four five six", Outcome.LOST, id="lost"),
        pytest.param("one two two three four", Outcome.DOUBLED, id="doubled"),
        pytest.param("one two five and other words", Outcome.REORDERED, id="not in the answer"),
    ],
)
def test_text_that_is_no_prefix_of_the_answer_is_named(text: str, outcome: Outcome) -> None:
    """P1"""
    with pytest.raises(Wrong) as found:
        compare(text, ANSWER)
    assert found.value.outcome is outcome


@pytest.mark.parametrize("text", ["", "one tw", ANSWER])
def test_every_prefix_of_the_answer_is_right(text: str) -> None:
    """P1"""
    compare(text, ANSWER)


def _question(outcome: Outcome) -> Question:
    return Question([], {}, 0, ANSWER, request_id="a", outcome=outcome)


def _kind(*, may_lose: bool) -> Kind:
    return next(kind for kind in KINDS if kind.may_lose == may_lose)


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.WHOLE])
def test_a_stream_that_is_not_whole_is_a_violation(outcome: Outcome) -> None:
    """``history_lost`` is allowed where the store loses data, and nowhere else."""
    for may_lose in (False, True):
        this = Round([_kind(may_lose=may_lose)], [_question(outcome)])
        assert bool(this.violations) != (may_lose and outcome is Outcome.TOLD)


def test_a_store_loses_what_its_full_disk_did_not_take_if_it_ends_as_well() -> None:
    alone = [kind for kind in KINDS if kind.fills_disk or kind.ends_store]
    assert len(alone) > 2
    assert not any(Round([kind], []).may_lose for kind in alone)
    assert Round(alone, []).may_lose


@pytest.mark.parametrize(("acked", "floor_s", "may"), [(1, 0, True), (0, 0, False), (1, 60, False)])
async def test_only_what_was_read_and_is_old_enough_may_be_given_up(
    acked: int, floor_s: float, may: bool
) -> None:
    """P17"""
    question = _question(Outcome.TOLD)
    view = SimpleNamespace(
        request_id="a", given_up_ms=2000, finished_ms=1000, acked_seq=acked, next_seq=2
    )
    store = SimpleNamespace(view=AsyncMock(return_value=view))
    found = await checker.given_up(cast("Store", store), [question], floor_s=floor_s)
    assert found == ({"a"} if may else set())
    this = Round([_kind(may_lose=False)], [question], given_up=found)
    assert bool(this.violations) != may
    this.found.append("what an injection saw")
    assert "what an injection saw" in this.violations[-1]


async def test_a_request_without_an_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """P17: one that still waits, and one that is nowhere."""
    monkeypatch.setattr(checker, "END_S", 0.2)
    store, question = MemoryStore(), _question(Outcome.WHOLE)
    (line,) = await checker.check_ends(store, [question], may_lose=False)
    assert "forgotten" in line
    assert await checker.check_ends(store, [question], may_lose=True) == []
    await store.do(Open(NewRequest("a", "", "{}", "", "client", 32), queue_limit=9))
    (line,) = await checker.check_ends(store, [question], may_lose=True)
    assert "still queued" in line
    await store.do(Cancel("a", retention_ms=1000))
    (line,) = await checker.check_ends(store, [question], may_lose=True)
    assert "cancelled" in line


@pytest.mark.parametrize(
    ("numbers", "outcome"),
    [((0, 2), Outcome.LOST), ((0, 0), Outcome.DOUBLED), ((0, 100_002), None)],
)
def test_an_event_that_does_not_follow_is_found(
    numbers: tuple[int, ...], outcome: Outcome | None
) -> None:
    """O7: numbers rise by one, or to those of another log."""
    place = Responses()
    *before, last = [
        ServerEvent("message", f'{{"type": "a", "sequence_number": {number}}}', "")
        for number in numbers
    ]
    for event in before:
        place.take(event)
    if outcome is None:
        place.take(last)
        return
    with pytest.raises(Wrong) as found:
        place.take(last)
    assert found.value.outcome is outcome


@pytest.mark.parametrize(
    "said", [Said("", [("save", '{"a": 1}')], False), Said("", [("save", '{"a')], False)]
)
def test_a_call_that_is_not_valid_is_found(said: Said) -> None:
    schema = {"type": "object", "additionalProperties": False}
    form = Form([{"name": "save", "parameters": schema}])
    with pytest.raises((ValueError, jsonschema.ValidationError)):
        form.check(said)
    with pytest.raises(ValueError, match="no call"):
        form.check(Said("", [], False))
    form.check(Said("", said.calls, is_cut=True))
