"""Conversations with the OpenAI SDK for Python; each way carries on as its users do.

Says as JSON what it got: of each way and each conversation, of each turn the text that it
goes on with, or null, and what was raised.
"""

import asyncio
import json
import os
import sys
from typing import Any

import openai

client = openai.AsyncOpenAI(base_url=f"{os.environ['LORE_URL']}/v1", max_retries=0)


class Said(Exception):
    """What there is of an answer that ended in an error."""

    def __init__(self, text: str | None, error: Exception) -> None:
        super().__init__(str(error))
        self.text = text
        self.error = error


class Chat:
    def __init__(self, model: str) -> None:
        self.model = model
        self.messages: list[Any] = []

    async def ask(self, question: str) -> str | None:
        self.messages.append({"role": "user", "content": question})
        answer = await client.chat.completions.create(model=self.model, messages=self.messages)
        self.messages.append(answer.choices[0].message)
        return answer.choices[0].message.content

    def keep(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})


class ChatDumped(Chat):
    """Keeps its history as JSON, nulls and all."""

    async def ask(self, question: str) -> str | None:
        said = await super().ask(question)
        self.messages[-1] = json.loads(self.messages[-1].model_dump_json())
        return said


class ChatStream(Chat):
    async def ask(self, question: str) -> str | None:
        self.messages.append({"role": "user", "content": question})
        text = ""
        try:
            async with client.chat.completions.stream(
                model=self.model, messages=self.messages
            ) as stream:
                async for event in stream:
                    if event.type == "content.delta":
                        text += event.delta
                last = (await stream.get_final_completion()).choices[0].message
        except openai.LengthFinishReasonError as error:
            last = error.completion.choices[0].message
        except openai.APIError as error:
            raise Said(text, error) from None
        self.messages.append(last)
        return last.content or ""


class Responses:
    def __init__(self, model: str) -> None:
        self.model = model
        self.input: list[Any] = []

    async def ask(self, question: str) -> str | None:
        self.input.append({"role": "user", "content": question})
        answer = await client.responses.create(model=self.model, input=self.input)
        self.input += answer.output
        return answer.output_text if answer.output else None

    def keep(self, text: str) -> None:
        self.input.append({"role": "assistant", "content": text})


class ResponsesDumped(Responses):
    async def ask(self, question: str) -> str | None:
        said = await super().ask(question)
        self.input = json.loads(
            json.dumps(self.input, default=lambda item: json.loads(item.model_dump_json()))
        )
        return said


class ResponsesStream(Responses):
    async def ask(self, question: str) -> str | None:
        self.input.append({"role": "user", "content": question})
        stream = await client.responses.create(model=self.model, input=self.input, stream=True)
        last: Any = None
        async for event in stream:
            last = event
        self.input += last.response.output
        return last.response.output_text if last.response.output else None


class ResponsesBackground(Responses):
    async def ask(self, question: str) -> str | None:
        self.input.append({"role": "user", "content": question})
        begun = await client.responses.create(model=self.model, input=self.input, background=True)
        answer = await client.responses.retrieve(begun.id)
        self.input += answer.output
        return answer.output_text if answer.output else None


class References(Responses):
    """Names what was said instead of saying it again."""

    async def ask(self, question: str) -> str | None:
        said = await super().ask(question)
        self.input = [
            {"type": "item_reference", "id": item.id} if hasattr(item, "id") else item
            for item in self.input
        ]
        return said


class Previous:
    def __init__(self, model: str) -> None:
        self.model = model
        self.previous: str | None = None

    async def ask(self, question: str) -> str | None:
        answer = await client.responses.create(
            model=self.model, input=question, previous_response_id=self.previous
        )
        self.previous = answer.id
        return answer.output_text


WAYS = {
    "chat": Chat,
    "chat, as JSON": ChatDumped,
    "chat, streamed": ChatStream,
    "responses": Responses,
    "responses, as JSON": ResponsesDumped,
    "responses, streamed": ResponsesStream,
    "responses, in the background": ResponsesBackground,
    "responses, by item_reference": References,
    "responses, by previous_response_id": Previous,
}


async def converse(way: str, questions: list[str], model: str) -> list[dict[str, Any]]:
    conversation: Any = WAYS[way](model)
    turns: list[dict[str, Any]] = []
    for question in questions:
        try:
            turns.append({"said": await conversation.ask(f"{question}, {way}")})
        except (openai.APIError, Said) as error:
            text = error.text if isinstance(error, Said) else None
            if text is not None:
                conversation.keep(text)
            turns.append({"said": text, "error": str(error)})
    return turns


async def main(conversations: list[list[str]]) -> dict[str, Any]:
    (model,) = (await client.models.list()).data
    return {
        way: [await converse(way, questions, model.id) for questions in conversations]
        for way in WAYS
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
