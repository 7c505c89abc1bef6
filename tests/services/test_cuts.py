"""Many readers, two edges, real processes between them, and a network that cuts without end."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from lore_client import Reader, Text
from tests.services.command_line import Running
from tests.services.cutting_proxy import CuttingProxy

pytestmark = pytest.mark.long
CUTS = 8
SETTINGS = {"LORE_SYNTHETIC_RATE": "50", "LORE_SYNTHETIC_LENGTH": "250"}


async def read_one(reader: Reader, number: int, limit: int) -> tuple[str, str, str]:
    """A request's id, its text as it was read, and as the edge knows it."""
    asked = await reader.create(f"Tell a story of {number} loops.", seed=number, max_tokens=limit)
    stream = reader.stream(asked.request_id)
    text = "".join([event.text async for event in stream if isinstance(event, Text)])
    return asked.request_id, text, (await reader.view(asked.request_id)).text


@pytest.mark.rule("P1.1")
@pytest.mark.parametrize(
    ("engine", "readers", "limit"),
    [
        ("synthetic", 20, 512),
        pytest.param("transformers", 3, 24, marks=pytest.mark.model),
    ],
)
async def test_streams_cut_eight_times_each_lose_and_double_nothing(
    engine: str, readers: int, limit: int, tmp_path: Path
) -> None:
    cuts: Counter[str] = Counter()
    rng = random.Random(1)
    with Running("up", "--engine", engine, "--port", "0", data_dir=tmp_path, **SETTINGS) as up:
        await asyncio.to_thread(up.until, "Ctrl-C stops everything.")
        first, second = up.edges
        async with (
            CuttingProxy(first, cuts, times=CUTS, rng=rng) as one,
            CuttingProxy(second, cuts, times=CUTS, rng=rng) as two,
            Reader([one.url, two.url]) as reader,
            asyncio.timeout(400),
        ):
            answers = await asyncio.gather(*(read_one(reader, n, limit) for n in range(readers)))
    assert cuts == {request_id: CUTS for request_id, _, _ in answers}
    for _, read, kept in answers:
        assert read == kept
        assert read
