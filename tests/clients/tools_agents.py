"""A loop of tools and a schema with OpenAI's agents. Says as JSON what tools_python.py says.

Runs in the environment that has them.
"""

# pyright: reportMissingImports=false

import asyncio
import json
import os
import sys
from typing import Any

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

CLIENT = AsyncOpenAI(base_url=f"{os.environ['LORE_URL']}/v1", max_retries=0)
QUESTION = "How is the weather in Oslo and Rome?"
MAX_TOKENS = 48
FORCED = int(os.environ.get("LORE_FORCED", "0"))
MODELS: dict[str, Any] = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
set_tracing_disabled(True)


class Place(BaseModel):
    """A place and its temperature."""

    city: str = Field(max_length=12)
    degrees: int = Field(ge=-90, le=60)


async def tools(model: Any, *, streamed: bool) -> Any:
    cities: list[str] = []

    @function_tool
    def weather(city: str) -> str:
        """The weather of a city."""
        cities.append(city)
        return f"{city} is cold."

    # Agents that have to call a tool may do as they like from the second step on.
    must: Any = {"tool_choice": "required", "parallel_tool_calls": False, "temperature": 0}
    settings = ModelSettings(max_tokens=MAX_TOKENS, **(must if FORCED else {}))
    agent = Agent("helper", model=model, tools=[weather], model_settings=settings)
    if streamed:
        run = Runner.run_streamed(agent, QUESTION)
        async for _ in run.stream_events():
            pass
    else:
        run = await Runner.run(agent, QUESTION)
    return {"cities": cities, "said": run.final_output}


async def schema(model: Any) -> Any:
    agent = Agent("helper", model=model, output_type=Place)
    run = await Runner.run(agent, QUESTION)
    return {"object": run.final_output.model_dump()}


async def main(ways: list[str]) -> dict[str, Any]:
    served = (await CLIENT.models.list()).data[0].id
    told: dict[str, Any] = {}
    for name, kind in MODELS.items():
        model = kind(model=served, openai_client=CLIENT)
        runs: dict[str, Any] = {
            f"agents {name}, tools": lambda model=model: tools(model, streamed=False),
            f"agents {name}, tools, streamed": lambda model=model: tools(model, streamed=True),
            f"agents {name}, schema": lambda model=model: schema(model),
        }
        told |= {way: await run() for way, run in runs.items() if not ways or way in ways}
    return told


print(json.dumps(asyncio.run(main(sys.argv[1:]))))
