"""The interface of the engines' dialects."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

from lore.protocol.logprobs import Likely, Scored, likely
from lore.request import StreamRequest
from lore_generator.engines.remote.constraint import Constraint
from lore_generator.engines.remote.trouble import Kind, Trouble

Event = dict[str, Any]
Ask = Callable[..., Awaitable[Event]]
"""``Server.ask``."""
Chat = dict[str, Any]
"""A conversation, as these engines are told of it (``chat_of``)."""
ENDS = {"stop": "stop", "length": "length"}
"""Why a call ended, in OpenAI's terms."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server says that it serves. All servers of a pool must say the same."""

    model: str
    context_tokens: int
    print: str = ""
    """Distinguishes the model from others of that name: whatever the engine says about it."""

    @property
    def revision(self) -> str:
        """A short hash of ``print``."""
        return hashlib.blake2b(self.print.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What else is known of an identified server."""

    identity: Identity
    slots: int | None
    tokenizer: str | None = None
    """The folder, or the name on the hub, from which its tokenizer is."""
    eos: str | None = None
    """The text of the token that ends an answer."""
    template: str = ""
    """The chat template, where it tells that."""
    vocabulary: int | None = None
    """How many tokens its model has, where it tells that."""


class EngineCall(NamedTuple):
    """One streamed call: the tokens to continue, and how far."""

    model: str
    ids: Sequence[int]
    most: int
    """The most tokens that it may generate."""
    request: StreamRequest
    seed: int
    name: str
    """The call's name in the engine."""


class EngineEvent(NamedTuple):
    """What one event of a stream contains."""

    ids: Sequence[int] = ()
    end: str | None = None
    """``stop`` or ``length``."""
    missing: int = 0
    """How many ids that belong before these the stream does not contain."""
    text: str = ""
    """The text of the missing ids and these together, if the engine sends it."""
    scored: Sequence[Scored] = ()
    """Of these ids, in order, if the call asks for it; some may be missing. Texts may be, too. The
    alternatives may be more than asked for, in any order.
    """


class EngineDialect(ABC):
    """How to talk to one kind of engine. Has no state of a server or a request."""

    name: str
    title: str
    """The engine's name for people."""
    has_own_text = False
    """Whether it can render templates and turn ids into text, where Lore has no tokenizer."""
    path: str
    """The path of a streamed call."""
    load_gauges: tuple[str, str]
    """The names of its metrics for waiting calls and for the share of KV memory in use."""

    def refuses(self, request: StreamRequest) -> str | None:
        """The parameter that this engine would not honour, or not as Lore's own does; or None.

        Behind a window that closes, and after a takeover, these engines begin a call anew, and with
        it the count of the tokens for presence and frequency penalties: vLLM and SGLang count those
        of the call alone, llama.cpp those of the prompt as well.
        """
        names = ("presence_penalty", "frequency_penalty", "no_repeat_ngram_size")
        return next((name for name in names if getattr(request, name)), None)

    @abstractmethod
    async def identify(self, ask: Ask, model: str | None) -> ServerFacts:
        """Identify a server. Raises Trouble, unfit if it is another kind of engine or serves
        another model.
        """

    async def tokenize(self, ask: Ask, model: str, text: str) -> list[int] | None:
        """The engine's ids of a text without special tokens; None if it cannot tell."""
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        return ids_of((await ask("POST", "/tokenize", body)).get("tokens"))

    async def template(self, ask: Ask, model: str, chat: Chat) -> list[int] | None:
        """The engine's own prompt for a conversation; None if it cannot tell."""
        del ask, model, chat
        return None

    @abstractmethod
    def body(self, call: EngineCall) -> dict[str, object]: ...

    @abstractmethod
    async def constrain(
        self, ask: Ask, body: dict[str, object], constraint: Constraint
    ) -> dict[str, object]:
        """The same call for an answer of this form, which begins where the call does. Raises
        Trouble.
        """

    @abstractmethod
    def read(self, event: Event, made: int) -> EngineEvent:
        """Parse an event. ``made``: how many ids the call has brought before. Raises Trouble."""

    def abort(self, name: str) -> tuple[str, dict[str, object]] | None:
        """The path and body that stop a call; None if closing its connection is enough."""
        del name
        return None

    async def load(self, ask_text: Callable[..., Awaitable[str]]) -> tuple[int, float]:
        """How many calls wait, and the share of KV memory in use. Raises Trouble if the server's
        metrics are off.
        """
        waiting, kv = gauges(await ask_text("GET", "/metrics"), *self.load_gauges)
        return int(waiting), kv


@runtime_checkable
class Mends(Protocol):
    """A dialect whose stream does not contain all ids."""

    async def recover(self, ask: Ask, said: EngineEvent) -> list[int] | None:
        """All ids of an event that lacks some; None if they cannot be determined."""
        ...

    def whole(self, body: dict[str, object], most: int) -> dict[str, object]:
        """The same call for ``most`` tokens, answered in one piece with all ids."""
        ...

    def read_whole(self, answer: Event, most: int) -> EngineEvent: ...


def chat_of(
    messages: Sequence[Mapping[str, Any]],
    args: Mapping[str, object],
    tools: Sequence[Mapping[str, Any]] = (),
) -> Chat:
    """``args``: of the chat template."""
    chat = {"messages": list(messages), "chat_template_kwargs": dict(args)}
    return chat | ({"tools": list(tools)} if tools else {})


def ids_of(value: object) -> list[int] | None:
    """A list of token ids, or None."""
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    return cast("list[int]", items) if all(type(one) is int for one in items) else None


def unnamed(token: int, logprob: float | None) -> Likely:
    """A token whose text the engine does not send. None: it is too unlikely for a number."""
    return likely(token, b"", -math.inf if logprob is None else logprob)


def end_of(reason: object, ends: Mapping[str, str] = ENDS) -> str:
    """``stop`` or ``length``. Raises Trouble for any other end."""
    end = ends.get(str(reason))
    if end is None:
        raise Trouble(Kind.FAILED, f"it ended the call: {reason}")
    return end


def gauges(page: str, *names: str) -> list[float]:
    """The sums of these metrics on a page in Prometheus' text format; 0 for a missing one."""
    sums = dict.fromkeys(names, 0.0)
    for line in page.splitlines():
        name = line.partition(" ")[0].partition("{")[0]
        if name in sums:
            value = line.rpartition(" ")[2]
            sums[name] += float(value) if value not in ("NaN", "+Inf", "-Inf") else 0.0
    return [sums[name] for name in names]
