"""The generator's service: questions in, exact answers out, window by window."""

from lore.protocol.lifecycle import Status
from lore.store import MemoryStore
from tests.services.generator_harness import Generator, ask, reader_of, text_of


async def test_an_answer_is_the_engines_text_with_its_tokens() -> None:
    """P1"""
    store = MemoryStore()
    async with Generator(store):
        reader = await reader_of(store, "a", ask())
        view = await reader.read_to_end()
        assert view.status is Status.DONE
        assert view.finish_reason == "stop"
        assert view.prompt_tokens == 4
        assert await reader.text() == text_of(ask())
        log = await store.log("a")
        assert view.generated_tokens == sum(len(chunk.token_ids) for chunk in log)


async def test_generation_stops_exactly_at_the_window_and_an_ack_opens_it() -> None:
    """P5"""
    store = MemoryStore()
    async with Generator(store):
        reader = await reader_of(store, "a", ask(window=8))
        view = await reader.until_status(Status.PAUSED)
        assert view.generated_tokens == 8
        await reader.ack()
        view = await reader.until(lambda v: v.status is Status.PAUSED and v.acked_tokens == 8)
        assert view.generated_tokens == 16
        assert (await reader.read_to_end()).status is Status.DONE
        assert await reader.text() == text_of(ask())
