"""What the OpenAI SDK for Python makes of each fault: one question, in each way, to each address.

Takes {fault: address} and says, by fault and way, what was raised.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import openai

Ask = Callable[[openai.AsyncOpenAI, str, str], Awaitable[Any]]


async def chat(client: openai.AsyncOpenAI, model: str, question: str) -> None:
    messages: Any = [{"role": "user", "content": question}]
    await client.chat.completions.create(model=model, messages=messages)


async def chat_stream(client: openai.AsyncOpenAI, model: str, question: str) -> None:
    messages: Any = [{"role": "user", "content": question}]
    async for _ in await client.chat.completions.create(
        model=model, messages=messages, stream=True
    ):
        pass


async def responses(client: openai.AsyncOpenAI, model: str, question: str) -> Any:
    return (await client.responses.create(model=model, input=question)).status


async def responses_stream(client: openai.AsyncOpenAI, model: str, question: str) -> Any:
    last: Any = None
    async for event in await client.responses.create(model=model, input=question, stream=True):
        last = event
    return last.response.status


WAYS: dict[str, Ask] = {
    "chat": chat,
    "chat, streamed": chat_stream,
    "responses": responses,
    "responses, streamed": responses_stream,
}


async def ask(fault: str, url: str, way: str) -> dict[str, Any]:
    name = f"python {way}"
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=name.replace(" ", "_"), max_retries=1)
    model = "gpt-4" if fault == "wrong_model" else "synthetic"
    try:
        return {"ended": await WAYS[way](client, model, f"{fault} {name}")}
    except openai.APIError as error:
        return {
            "error": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": error.code,
        }


async def main(addresses: dict[str, str]) -> dict[str, Any]:
    keys = [(fault, url, way) for fault, url in addresses.items() for way in WAYS]
    told = await asyncio.gather(*(ask(*key) for key in keys))
    return {f"{fault}/python {way}": said for (fault, _, way), said in zip(keys, told, strict=True)}


print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
