"""Conversations with LangChain and LiteLLM; each way carries on as its users do.

Says as JSON what openai_python.py says. Runs in the environment that has them.
"""

# pyright: reportMissingImports=false

import json
import os
import sys
from typing import Any

import litellm
import openai
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI

URL, KEY = f"{os.environ['LORE_URL']}/v1", os.environ["OPENAI_API_KEY"]
(MODEL,) = openai.OpenAI(base_url=URL, api_key=KEY).models.list()
litellm.suppress_debug_info = True


class Said(Exception):
    """What there is of an answer that ended in an error."""

    def __init__(self, text: str | None, error: Exception) -> None:
        super().__init__(str(error))
        self.text = text


class LangChain:
    def __init__(self, *, responses: bool = False, streamed: bool = False) -> None:
        self._model = ChatOpenAI(
            model=MODEL.id, base_url=URL, api_key=KEY, max_retries=0, use_responses_api=responses
        )
        self._streamed = streamed
        self._messages: list[Any] = []

    def ask(self, question: str) -> str | None:
        self._messages.append(HumanMessage(question))
        if not self._streamed:
            answer = self._model.invoke(self._messages)
        else:
            answer: Any = None
            try:
                for chunk in self._model.stream(self._messages):
                    answer = chunk if answer is None else answer + chunk
            except Exception as error:  # noqa: BLE001 - each library has its own
                raise Said(None if answer is None else answer.text, error) from None
        self._messages.append(answer)
        return None if answer.content == [] else str(answer.text)  # that is no message then

    def keep(self, text: str) -> None:
        self._messages.append(AIMessage(text))


class LiteLLM:
    def __init__(self, *, streamed: bool = False, dumped: bool = False) -> None:
        self._streamed = streamed
        self._dumped = dumped
        self._messages: list[Any] = []

    def ask(self, question: str) -> str | None:
        self._messages.append({"role": "user", "content": question})
        asked: dict[str, Any] = {
            "model": f"openai/{MODEL.id}",
            "api_base": URL,
            "api_key": KEY,
            "messages": self._messages,
            "max_retries": 0,
        }
        if not self._streamed:
            answer: Any = litellm.completion(**asked)
        else:
            chunks: list[Any] = []
            try:
                chunks.extend(litellm.completion(**asked, stream=True))
            except Exception as error:  # noqa: BLE001 - each library has its own
                text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
                raise Said(text, error) from None
            answer = litellm.stream_chunk_builder(chunks, messages=self._messages)
        message = answer.choices[0].message
        self._messages.append(message.model_dump() if self._dumped else message)
        return message.content

    def keep(self, text: str) -> None:
        self._messages.append({"role": "assistant", "content": text})


class LiteLLMResponses:
    def __init__(self) -> None:
        self._previous: str | None = None

    def ask(self, question: str) -> str | None:
        answer: Any = litellm.responses(
            model=f"openai/{MODEL.id}",
            api_base=URL,
            api_key=KEY,
            input=question,
            previous_response_id=self._previous,
        )
        self._previous = answer.id
        return "".join(part.text for item in answer.output for part in item.content)


WAYS: dict[str, Any] = {
    "langchain": lambda: LangChain(),
    "langchain, streamed": lambda: LangChain(streamed=True),
    "langchain responses": lambda: LangChain(responses=True),
    "langchain responses, streamed": lambda: LangChain(responses=True, streamed=True),
    "litellm": lambda: LiteLLM(),
    "litellm, as JSON": lambda: LiteLLM(dumped=True),
    "litellm, streamed": lambda: LiteLLM(streamed=True),
    "litellm responses": LiteLLMResponses,
}


def converse(way: str, questions: list[str]) -> list[dict[str, Any]]:
    conversation = WAYS[way]()
    turns: list[dict[str, Any]] = []
    for question in questions:
        try:
            turns.append({"said": conversation.ask(f"{question}, {way}")})
        except Exception as error:  # noqa: BLE001 - each library has its own
            text = error.text if isinstance(error, Said) else None
            if text is not None:
                conversation.keep(text)
            turns.append({"said": text, "error": f"{type(error).__name__}: {error}"})
    return turns


print(
    json.dumps(
        {way: [converse(way, questions) for questions in json.loads(sys.argv[1])] for way in WAYS}
    )
)
