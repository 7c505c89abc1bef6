"""Each client that has OpenAI's completions gets the whole answer to a raw prompt, in each way."""

from collections import Counter

import pytest

from lore.request import KeptRequest
from lore_generator.engines.synthetic_text import synthetic_answer
from tests.clients.test_round_trips import OTHERS, run
from tests.clients.test_tool_loops import by_turns
from tests.examples.stack import NODE
from tests.services.edge_harness import FaultyStore, running_edge
from tests.services.generator_harness import Generator, SyntheticOptions
from tests.services.openai_harness import MODEL

PROMPT = "Once upon a time"
PROGRAMS = {
    "Node": (NODE, "prompts.mjs"),
    "LangChain and LiteLLM": (str(OTHERS), "prompts_others.py"),
}


@pytest.mark.rule("O26", "O1")
@pytest.mark.parametrize("client", PROGRAMS)
async def test_a_prompt_is_continued_the_same_by_each_client(client: str) -> None:
    store, options = FaultyStore(), SyntheticOptions(rate_tokens_per_s=2_000)
    async with (
        Generator(store, engine=options),
        running_edge(store, model=MODEL) as one,
        running_edge(store, model=MODEL, edge_id="edge-2") as two,
        by_turns(one.url, two.url) as edges,
    ):
        told = await run(PROGRAMS[client], edges.url, MODEL, PROMPT)
    text = "".join(synthetic_answer(KeptRequest(prompt=PROMPT, seed=7, max_tokens=90)))
    assert Counter(told.values()) == {text: len(told)}
