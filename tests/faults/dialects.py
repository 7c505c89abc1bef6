"""OpenAI's two dialects, as a reader of them knows them: what to ask for, where to go on, and what
an answer says that is calls of tools or an object of a schema.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema

from lore_client.sse import ServerEvent
from lore_edge.openai.numbers import STRIDE
from tests.faults.readers import Outcome, Wrong

Json = dict[str, Any]


class Failed(Exception):
    """The reader was told of an error."""


@dataclass(frozen=True)
class Said:
    """What an answer says, in whichever dialect."""

    text: str
    calls: Sequence[tuple[str, str]]
    """Names and arguments."""
    is_cut: bool
    """By ``max_tokens``."""

    def joined(self) -> str:
        return self.text + "".join(begun(name) + arguments for name, arguments in self.calls)


def begun(name: str) -> str:
    """Where a call begins, in a text of everything that an answer says."""
    return f"\x1d{name}\x1e"


@dataclass(frozen=True)
class Form:
    """What an answer has to be: calls of these functions, or an object of the schema."""

    functions: Sequence[Json] = ()
    choice: str = "required"
    """Or the name of the function that has to be called."""
    parallel: bool = True
    schema: Json | None = None

    def body_of(self, dialect: type["Dialect"]) -> Json:
        body: Json = {}
        if self.schema is not None:
            body |= dialect.format_of({"name": "answer", "schema": self.schema, "strict": True})
        if self.functions:
            choice = dialect.function({"name": self.choice})
            body["tools"] = [dialect.function(one) for one in self.functions]
            body["tool_choice"] = self.choice if self.choice == "required" else choice
            body["parallel_tool_calls"] = self.parallel
        return body

    def check(self, said: Said) -> None:
        """Raises ``jsonschema.ValidationError`` or ``ValueError`` where something is not valid."""
        schemas = {one["name"]: one["parameters"] for one in self.functions}
        for name, arguments in said.calls[:-1] if said.is_cut else said.calls:
            jsonschema.validate(json.loads(arguments), schemas[name])
        if self.schema is not None and not said.is_cut:
            jsonschema.validate(json.loads(said.text), self.schema)
        if self.functions and not (said.calls or said.is_cut):
            raise ValueError("no call")


class Dialect:
    """One reader's place in one answer."""

    path = prefix = ""

    def __init__(self) -> None:
        self.name = ""
        """The answer's id, once it is known."""
        self.is_over = False
        self.told = ""
        """What all events together said, ``told_at`` the last of them."""
        self.told_at = 0.0

    @staticmethod
    def function(about: Json) -> Json:
        raise NotImplementedError

    @staticmethod
    def format_of(named: Json) -> Json:
        raise NotImplementedError

    @staticmethod
    def asked(text: str, max_tokens: int) -> Json:
        raise NotImplementedError

    @staticmethod
    def said(whole: Json) -> Said:
        raise NotImplementedError

    def headers(self) -> dict[str, str]:
        return {}

    def params(self) -> dict[str, str]:
        return {"stream": "true"}

    def take(self, event: ServerEvent) -> str:
        """What the event adds. Raises Failed, or Wrong for one that does not follow."""
        raise NotImplementedError


class Chat(Dialect):
    path, prefix = "/v1/chat/completions", "chatcmpl-"

    def __init__(self) -> None:
        super().__init__()
        self._last_id = ""

    @staticmethod
    def function(about: Json) -> Json:
        return {"type": "function", "function": about}

    @staticmethod
    def format_of(named: Json) -> Json:
        return {"response_format": {"type": "json_schema", "json_schema": named}}

    @staticmethod
    def asked(text: str, max_tokens: int) -> Json:
        return {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}

    @staticmethod
    def said(whole: Json) -> Said:
        (choice,) = whole["choices"]
        message = choice["message"]
        calls = [one["function"] for one in message.get("tool_calls", ())]
        pairs = [(one["name"], one["arguments"]) for one in calls]
        return Said(message["content"] or "", pairs, choice["finish_reason"] == "length")

    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self._last_id} if self._last_id else {}

    def take(self, event: ServerEvent) -> str:
        if event.data == "[DONE]":
            return ""
        data = json.loads(event.data)
        if "error" in data:
            raise Failed(str(data["error"]))
        self.name = data["id"]
        self._last_id = event.last_event_id or self._last_id
        (choice,) = data["choices"]
        self.is_over = choice["finish_reason"] is not None
        delta = choice["delta"]
        said = delta.get("content") or ""
        for call in delta.get("tool_calls", ()):
            function = call["function"]
            said += (begun(function["name"]) if "id" in call else "") + function["arguments"]
        return said


class Responses(Dialect):
    path, prefix = "/v1/responses", "resp_"

    def __init__(self) -> None:
        super().__init__()
        self._next = 0

    @staticmethod
    def function(about: Json) -> Json:
        return {"type": "function", **about}

    @staticmethod
    def format_of(named: Json) -> Json:
        return {"text": {"format": {"type": "json_schema", **named}}}

    @staticmethod
    def asked(text: str, max_tokens: int) -> Json:
        return {"input": text, "max_output_tokens": max_tokens}

    @staticmethod
    def said(whole: Json) -> Said:
        items = whole["output"]
        parts = [part for item in items if item["type"] == "message" for part in item["content"]]
        calls = [item for item in items if item["type"] == "function_call"]
        pairs = [(one["name"], one["arguments"]) for one in calls]
        text = "".join(part["text"] for part in parts)
        return Said(text, pairs, whole["status"] == "incomplete")

    def params(self) -> dict[str, str]:
        return super().params() | ({"starting_after": str(self._next - 1)} if self._next else {})

    def take(self, event: ServerEvent) -> str:
        data = json.loads(event.data)
        kind = data["type"]
        if kind in ("error", "response.failed"):
            raise Failed(event.data)
        number = data["sequence_number"]
        if number < self._next:
            raise Wrong(Outcome.DOUBLED, number)
        if self._next < number < self._next + STRIDE:  # else its log has forked (O7)
            raise Wrong(Outcome.LOST, number)
        self._next = number + 1
        if "response" in data:
            self.name = data["response"]["id"]
            self.is_over = data["response"]["status"] in ("completed", "incomplete")
        if kind == "response.output_item.added" and data["item"]["type"] == "function_call":
            return begun(data["item"]["name"])
        is_said = kind.endswith(("output_text.delta", "function_call_arguments.delta"))
        return data["delta"] if is_said else ""


DIALECTS: tuple[type[Dialect], ...] = (Chat, Responses)
