"""How long a prompt is, is known before its request ends."""

import pytest

from lore.protocol.commands import Cancel, Claim, Others, Prompt, Release
from lore.store.base import Outcome, StateMessage
from lore.store.keys import partition_of
from tests.store.backends import (
    LEASE_MS,
    RETENTION_MS,
    Backend,
    Recorder,
    chunks,
    ids_in_one_partition,
)


async def test_what_was_told_stays_with_a_request_that_is_cancelled(backend: Backend) -> None:
    claimed = await backend.owned()
    store, view = backend.store, claimed.view
    assert (await store.do(Prompt("a", "g1", view.epoch, 12))).outcome is Outcome.OK
    await backend.append(claimed, *chunks(1, 2))
    await store.do(Cancel("a", retention_ms=RETENTION_MS))
    after = await store.view("a")
    assert after is not None
    assert (after.prompt_tokens, after.generated_tokens) == (12, chunks(1, 2)[-1].tokens)


async def test_only_the_owner_tells(backend: Backend) -> None:
    """P2"""
    claimed = await backend.owned()
    store, epoch = backend.store, claimed.view.epoch
    assert (await store.do(Prompt("a", "g2", epoch, 12))).outcome is Outcome.FENCED
    assert (await store.do(Prompt("a", "g1", epoch - 1, 12))).outcome is Outcome.FENCED
    assert (await store.do(Prompt("b", "g1", epoch, 12))).outcome is Outcome.UNKNOWN
    assert await store.view("b") is None
    view = await store.view("a")
    assert view is not None
    assert view.prompt_tokens == 0


@pytest.mark.rule("P15.21")
async def test_readers_are_told_when_an_answer_goes_on_with_another_model(
    backend: Backend,
) -> None:
    """Not of the first model, nor when the same one goes on."""
    await backend.open("a")
    heard = Recorder()
    await backend.store.follow("a", heard)
    claimed = await backend.claim("a")

    async def told(model: str | None) -> str:
        told = Prompt("a", "g1", claimed.view.epoch, 12, model)
        assert (await backend.store.do(told)).outcome is Outcome.OK
        view = await backend.store.view("a")
        assert view is not None
        return view.model

    assert await told("m@1") == "m@1"
    assert await told("m@2") == "m@2", "there is no text yet"
    await backend.append(claimed, *chunks(1, 2))
    assert await told(None) == "m@2"
    assert await told("m@2") == "m@2"
    assert await told("m@3") == "m@3"
    await backend.finish(claimed, 3)
    states = [one.reason for one in await heard.first(5) if isinstance(one, StateMessage)]
    assert states == ["claimed", "other_model", "ended"]
    ended = await backend.store.view("a")
    assert ended is not None
    assert ended.model == "m@3"


LEFT_MS = 10 * LEASE_MS
CAN, CANNOT = Others("m@1", LEFT_MS), Others("m@2", LEFT_MS)


async def _begun(backend: Backend, request_id: str, *, model: str = "m@1", text: int = 2) -> None:
    """An answer of so many chunks whose lease has lapsed."""
    claimed = await backend.owned(request_id)
    await backend.store.do(Prompt(request_id, "g1", claimed.view.epoch, 12, model))
    await backend.append(claimed, *chunks(1, text))
    backend.pass_time(LEASE_MS)


async def _taken(backend: Backend, request_id: str, others: Others) -> str:
    """Which request a claim gets, '' for none."""
    claimed = await backend.store.do(Claim(partition_of(request_id), "g2", LEASE_MS, others=others))
    return claimed.view.request_id if claimed else ""


@pytest.mark.rule("P15.22")
@pytest.mark.parametrize("is_queued", [True, False], ids=["in the queue", "its lease has lapsed"])
async def test_an_answer_of_another_model_is_left_for_a_time_to_those_that_have_it(
    backend: Backend, is_queued: bool
) -> None:
    """A claim takes what is behind it."""
    one, two = ids_in_one_partition(2)
    await _begun(backend, one)
    if is_queued:
        again = await backend.claim(one)
        await backend.store.do(Release(one, "g1", again.view.epoch))
    assert await _taken(backend, one, CANNOT) == ""
    await backend.open(two)
    assert await _taken(backend, one, CANNOT) == two
    backend.pass_time(LEFT_MS - 1)
    assert await _taken(backend, one, CANNOT) in ("", two), "its lease has lapsed by now"
    assert await _taken(backend, one, CAN) == one


@pytest.mark.rule("P15.22")
async def test_nobody_waits_longer_than_that_for_a_model_that_does_not_come(
    backend: Backend,
) -> None:
    """And anew, once it had an owner."""
    await _begun(backend, "a")
    for _ in range(2):
        assert await _taken(backend, "a", CANNOT) == ""
        backend.pass_time(LEFT_MS)
        assert await _taken(backend, "a", CANNOT) == "a"
        backend.pass_time(LEASE_MS)


@pytest.mark.rule("P15.22")
@pytest.mark.parametrize(
    ("model", "text"), [("m@1", 0), ("", 2)], ids=["without text", "of an owner that does not say"]
)
async def test_what_no_other_model_has_begun_is_passed_over_by_nobody(
    backend: Backend, model: str, text: int
) -> None:
    await _begun(backend, "a", model=model, text=text)
    assert await _taken(backend, "a", CANNOT) == "a"
