"""How long a prompt is, is known before its request ends."""

from lore.store.base import Outcome
from tests.store.backends import RETENTION_MS, Backend, chunks


async def test_what_was_told_stays_with_a_request_that_is_cancelled(backend: Backend) -> None:
    claimed = await backend.owned()
    store, view = backend.store, claimed.view
    assert (await store.prompt("a", "g1", view.epoch, 12)).outcome is Outcome.OK
    await backend.append(claimed, *chunks(1, 2))
    await store.cancel("a", retention_ms=RETENTION_MS)
    after = await store.view("a")
    assert after is not None
    assert (after.prompt_tokens, after.generated_tokens) == (12, chunks(1, 2)[-1].tokens)


async def test_only_the_owner_tells(backend: Backend) -> None:
    """P2"""
    claimed = await backend.owned()
    store, epoch = backend.store, claimed.view.epoch
    assert (await store.prompt("a", "g2", epoch, 12)).outcome is Outcome.FENCED
    assert (await store.prompt("a", "g1", epoch - 1, 12)).outcome is Outcome.FENCED
    assert (await store.prompt("b", "g1", epoch, 12)).outcome is Outcome.UNKNOWN
    assert await store.view("b") is None
    view = await store.view("a")
    assert view is not None
    assert view.prompt_tokens == 0
