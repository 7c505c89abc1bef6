"""The official OpenAI SDK for Node, unmodified, against two edges that want a key."""

from collections import Counter
from typing import Any

import pytest

from tests.examples.stack import Stack, tell

CUTS = 20


async def ask(stack: Stack, edges: list[str], way: str) -> Any:
    return await tell("openai_node.mjs", way, *edges, env=stack.environment(""))


@pytest.mark.rule("O1")
@pytest.mark.parametrize("way", ["chat", "responses"])
async def test_a_stream_is_the_answer_that_the_other_edge_has(stack: Stack, way: str) -> None:
    said = await ask(stack, stack.edges, way)
    assert said["read"] == said["whole"] == await stack.text(said["id"]) != ""


@pytest.mark.parametrize(("way", "most_bytes"), [("retrieve", 2_000), ("stream", 15_000)])
async def test_a_background_response_is_resumed_under_twenty_cuts(
    stack: Stack, way: str, most_bytes: int
) -> None:
    """P1, P12. ``stream`` reads from the start each time and drops what it has had, so that its
    cuts come later."""
    cuts: Counter[str] = Counter()
    async with (
        stack.balancer(cuts, CUTS, most_bytes) as near,
        stack.balancer(cuts, CUTS, most_bytes) as far,
    ):
        said = await ask(stack, [near.url, far.url], way)
    assert cuts == {said["id"]: CUTS}
    assert said["numbers"] == list(range(len(said["numbers"])))
    assert said["read"] == said["whole"] == await stack.text(said["id"]) != ""
