"""A loop of tools and a schema with LangChain and LiteLLM. Says as JSON what tools_python.py says.

Runs in the environment that has them.
"""

# pyright: reportMissingImports=false

import json
import os
import sys
from typing import Any

import litellm
import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

URL, KEY = f"{os.environ['LORE_URL']}/v1", os.environ["OPENAI_API_KEY"]
(MODEL,) = openai.OpenAI(base_url=URL, api_key=KEY).models.list()
QUESTION = "How is the weather in Oslo and Rome?"
MAX_STEPS = 5
FORCED = int(os.environ.get("LORE_FORCED", "0"))
MAX_TOKENS = 48
litellm.suppress_debug_info = True


class Place(BaseModel):
    """A place and its temperature."""

    city: str = Field(max_length=12)
    degrees: int = Field(ge=-90, le=60)


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"{city} is cold."


def forced(step: int) -> dict[str, Any]:
    if not FORCED:
        return {}
    choice = "required" if step < FORCED else "none"
    return {"tool_choice": choice, "parallel_tool_calls": False, "temperature": 0}


def langchain(*, responses: bool = False) -> Any:
    return ChatOpenAI(
        model=MODEL.id, base_url=URL, api_key=KEY, max_retries=0, use_responses_api=responses
    )


def langchain_tools(*, responses: bool, streamed: bool) -> Any:
    model = langchain(responses=responses)
    messages: list[Any] = [HumanMessage(QUESTION)]
    cities: list[str] = []
    for step in range(MAX_STEPS):
        bound = model.bind_tools([weather], strict=True, max_tokens=MAX_TOKENS, **forced(step))
        if streamed:
            answer: Any = None
            for chunk in bound.stream(messages):
                answer = chunk if answer is None else answer + chunk
        else:
            answer = bound.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            return {"cities": cities, "said": str(answer.text)}
        for call in answer.tool_calls:
            cities.append(call["args"]["city"])
            told = f"{cities[-1]} is cold."
            messages.append(ToolMessage(told, tool_call_id=call["id"]))
    return {"cities": cities}


def langchain_schema(method: str) -> Any:
    model = langchain().with_structured_output(Place, method=method)
    return {"object": model.invoke(QUESTION).model_dump()}


def litellm_tools(*, streamed: bool) -> Any:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    }
    one = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    cities: list[str] = []
    for step in range(MAX_STEPS):
        answer: Any = litellm.completion(
            model=f"openai/{MODEL.id}",
            api_base=URL,
            api_key=KEY,
            messages=messages,
            tools=[one],
            stream=streamed,
            max_tokens=MAX_TOKENS,
            max_retries=0,
            **forced(step),
        )
        if streamed:
            answer = litellm.stream_chunk_builder(list(answer), messages=messages)
        message = answer.choices[0].message
        messages.append(message.model_dump())
        if not message.tool_calls:
            return {"cities": cities, "said": message.content}
        for call in message.tool_calls:
            cities.append(json.loads(call.function.arguments)["city"])
            told = f"{cities[-1]} is cold."
            messages.append({"role": "tool", "tool_call_id": call.id, "content": told})
    return {"cities": cities}


def litellm_schema() -> Any:
    answer: Any = litellm.completion(
        model=f"openai/{MODEL.id}",
        api_base=URL,
        api_key=KEY,
        messages=[{"role": "user", "content": QUESTION}],
        response_format=Place,
        max_retries=0,
    )
    return {"object": json.loads(answer.choices[0].message.content)}


WAYS: dict[str, Any] = {
    "langchain, tools": lambda: langchain_tools(responses=False, streamed=False),
    "langchain, tools, streamed": lambda: langchain_tools(responses=False, streamed=True),
    "langchain responses, tools": lambda: langchain_tools(responses=True, streamed=False),
    "langchain responses, tools, streamed": lambda: langchain_tools(responses=True, streamed=True),
    "langchain, schema": lambda: langchain_schema("json_schema"),
    "langchain, schema as a tool": lambda: langchain_schema("function_calling"),
    "litellm, tools": lambda: litellm_tools(streamed=False),
    "litellm, tools, streamed": lambda: litellm_tools(streamed=True),
    "litellm, schema": litellm_schema,
}
print(json.dumps({way: WAYS[way]() for way in sys.argv[1:] or WAYS}))
