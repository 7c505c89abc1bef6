"""A loop of a tool, and an object of a JSON schema, with the OpenAI SDK as it is.

    pip install openai
    OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_API_KEY=lore_… python openai_tools.py

The model has to call tools. SmolLM2 does if Lore is started with LORE_PARTS=hermes.
"""

from typing import Any, Literal

from openai import OpenAI, pydantic_function_tool
from openai.types.chat.chat_completion import Choice
from pydantic import BaseModel, Field


class Weather(BaseModel):
    """The weather of a city."""

    city: str = Field(max_length=20)


class Place(BaseModel):
    city: str = Field(max_length=20)
    degrees: int = Field(ge=-90, le=60)


client = OpenAI()
(model,) = client.models.list()  # an edge serves one
messages: list[Any] = [{"role": "user", "content": "How is the weather in Oslo, and in Rome?"}]


def ask(tool_choice: Literal["auto", "required"]) -> Choice:
    (choice,) = client.chat.completions.create(
        model=model.id,
        messages=messages,
        tools=[pydantic_function_tool(Weather, name="weather")],
        tool_choice=tool_choice,
        parallel_tool_calls=False,
        max_tokens=100,
    ).choices
    return choice


# Where a call is required, its arguments keep to the schema. Else they are what the model writes.
# Only "tool_calls" says that the calls are whole: a call that max_tokens has cut is none to run.
choice = ask("required")
while choice.finish_reason == "tool_calls" and len(messages) < 9:
    messages.append(choice.message)
    for call in choice.message.tool_calls or ():
        assert call.type == "function"
        city = Weather.model_validate_json(call.function.arguments).city
        print(f"weather({city})")
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"{city} is cold."})
    choice = ask("auto")
print(choice.message.content)

(place,) = client.chat.completions.parse(
    model=model.id,
    messages=[{"role": "user", "content": "Oslo has 3 degrees. Say so as JSON."}],
    response_format=Place,
    max_tokens=100,
).choices
print(place.message.parsed)
