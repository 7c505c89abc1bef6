"""A loop of tools and a schema with the OpenAI SDK for Python, in each of its ways.

Says as JSON of each way the cities that it was asked for, and what was said at the end; or the
object that it got. Its arguments name the ways; without any it goes all of them. With
``LORE_FORCED`` a tool has to be called in so many steps, and must not be in later ones: no model
needs to know when.
"""

import json
import os
import sys
from typing import Any

import openai
from pydantic import BaseModel, Field

client = openai.OpenAI(base_url=f"{os.environ['LORE_URL']}/v1", max_retries=0)
(MODEL,) = client.models.list()
QUESTION = "How is the weather in Oslo and Rome?"
MAX_STEPS = 5
FORCED = int(os.environ.get("LORE_FORCED", "0"))
MAX_TOKENS = 48


class Place(BaseModel):
    city: str = Field(max_length=12)
    degrees: int = Field(ge=-90, le=60)


class Weather(BaseModel):
    """The weather of a city."""

    city: str = Field(max_length=12)


TOOL: Any = openai.pydantic_function_tool(Weather, name="weather")
FLAT: Any = {"type": "function", **TOOL["function"]}


def forced(step: int) -> dict[str, Any]:
    if not FORCED:
        return {}
    choice = "required" if step < FORCED else "none"
    return {"tool_choice": choice, "parallel_tool_calls": False, "temperature": 0}


def weather(arguments: str, cities: list[str]) -> str:
    cities.append(Weather.model_validate_json(arguments).city)
    return f"{cities[-1]} is cold."


def chat(*, streamed: bool) -> Any:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    cities: list[str] = []
    for step in range(MAX_STEPS):
        asked: Any = {"model": MODEL.id, "messages": messages, "tools": [TOOL], **forced(step)}
        asked["max_tokens"] = MAX_TOKENS
        if streamed:
            with client.chat.completions.stream(**asked) as stream:
                choice = stream.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**asked).choices[0]
        message = choice.message
        messages.append(message)
        if choice.finish_reason != "tool_calls":
            return {"cities": cities, "said": message.content}
        for call in message.tool_calls or ():
            assert call.type == "function"
            told = weather(call.function.arguments, cities)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": told})
    return {"cities": cities}


def responses(*, streamed: bool, by_name: bool) -> Any:
    history: list[Any] = [{"role": "user", "content": QUESTION}]
    cities: list[str] = []
    more: dict[str, Any] = {}
    for step in range(MAX_STEPS):
        asked: Any = {"model": MODEL.id, "input": history, "tools": [FLAT], **more, **forced(step)}
        asked["max_output_tokens"] = MAX_TOKENS
        if streamed:
            with client.responses.stream(**asked) as stream:
                answer = stream.get_final_response()
        else:
            answer = client.responses.create(**asked)
        calls = [item for item in answer.output if item.type == "function_call"]
        results = [
            {
                "type": "function_call_output",
                "call_id": call.call_id,
                "output": weather(call.arguments, cities),
            }
            for call in calls
        ]
        if not calls:
            return {"cities": cities, "said": answer.output_text}
        if by_name:
            history, more = results, {"previous_response_id": answer.id}
        else:
            history += [*answer.output, *results]
    return {"cities": cities}


def chat_schema() -> Any:
    messages: Any = [{"role": "user", "content": QUESTION}]
    answer = client.chat.completions.parse(model=MODEL.id, messages=messages, response_format=Place)
    return _object(answer.choices[0].message.parsed)


def chat_schema_streamed() -> Any:
    messages: Any = [{"role": "user", "content": QUESTION}]
    with client.chat.completions.stream(
        model=MODEL.id, messages=messages, response_format=Place
    ) as stream:
        return _object(stream.get_final_completion().choices[0].message.parsed)


def response_schema() -> Any:
    answer = client.responses.parse(model=MODEL.id, input=QUESTION, text_format=Place)
    return _object(answer.output_parsed)


def _object(parsed: Place | None) -> Any:
    return {"object": parsed.model_dump() if parsed else None}


WAYS: dict[str, Any] = {
    "chat, tools": lambda: chat(streamed=False),
    "chat, tools, streamed": lambda: chat(streamed=True),
    "chat, schema": chat_schema,
    "chat, schema, streamed": chat_schema_streamed,
    "responses, tools": lambda: responses(streamed=False, by_name=False),
    "responses, tools, streamed": lambda: responses(streamed=True, by_name=False),
    "responses, tools, by previous_response_id": lambda: responses(streamed=False, by_name=True),
    "responses, schema": response_schema,
}
print(json.dumps({way: WAYS[way]() for way in sys.argv[1:] or WAYS}))
