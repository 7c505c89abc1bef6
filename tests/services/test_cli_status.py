"""``lore status`` on a screen: what is shown fits, and nothing of it is cut."""

import io

import pytest
from rich.console import Console

from lore.cli.status import ROWS, picture
from lore.protocol.commands import Claim
from lore.store.keys import partition_of
from lore.store.memory import MemoryStore
from tests.services.generator_harness import ask as question
from tests.services.generator_harness import open_request

OWNER = "generator-1-node-with-a-long-name-6f9c4d7b8-x2x9p-1a2b3c4d"


async def ask(store: MemoryStore, number: int) -> str:
    """The id, which is as long as edges make them."""
    request_id = f"{number:022}"
    await open_request(store, request_id, question())
    return request_id


def screen(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)


async def shown(store: MemoryStore, console: Console) -> list[str]:
    console.print(await picture(store, console))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
async def test_everything_fits_whatever_the_width(width: int) -> None:
    store = MemoryStore()
    names = [await ask(store, number) for number in range(3)]
    await store.do(Claim(partition_of(names[0]), OWNER, 10_000))
    lines = await shown(store, screen(width))
    assert max(map(len, lines)) <= width
    text = "".join(line.strip() for line in lines)
    assert all(name in text for name in names)
    assert OWNER in text
    assert not any("…" in line for line in lines)
    assert all(text.count(name) == (1 if width == 160 else 3) for name in ("acked", "window"))
    assert lines[-1].startswith("3 live, 2 waiting")


async def test_a_figure_stays_beside_its_name() -> None:
    store = MemoryStore()
    await ask(store, 1)
    for width in range(30, 60):
        lines = await shown(store, screen(width))
        assert sum("idle 0 s" in line for line in lines) == 1, width


async def test_more_than_a_screen_holds_are_said_to_be_more() -> None:
    store = MemoryStore()
    for number in range(ROWS):
        await ask(store, number)
    assert (await shown(store, screen(160)))[-1].startswith(f"{ROWS} live, ")
    await ask(store, ROWS)
    last = (await shown(store, screen(160)))[-1]
    assert last.startswith(f"{ROWS} of the live requests, ")
    whole = Console(file=io.StringIO(), width=10_000)
    assert (await shown(store, whole))[-1].startswith(f"{ROWS + 1} live, ")
