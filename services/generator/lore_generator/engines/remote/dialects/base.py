"""The interface of the engines' dialects."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

from lore.request import StreamRequest
from lore_generator.engines.remote.trouble import Kind, Trouble

Event = dict[str, Any]
Ask = Callable[..., Awaitable[Event]]
"""``Server.ask``."""
ENDS = {"stop": "stop", "length": "length"}
"""Why a call ended, in OpenAI's words."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server says that it serves. Two servers of one fleet must say the same."""

    model: str
    context_tokens: int
    print: str = ""
    """Tells the model from another of that name: whatever the engine says of it."""

    @property
    def revision(self) -> str:
        """The same, short."""
        return hashlib.blake2b(self.print.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class Facts:
    """What else is known of a server once it was identified."""

    identity: Identity
    slots: int | None
    tokenizer: str | None = None
    """The folder, or the name on the hub, that it says its tokenizer is from."""
    eos: str | None = None
    """The text of the token that ends an answer."""


class Call(NamedTuple):
    """One streamed call: what to continue, and for how long."""

    model: str
    ids: Sequence[int]
    most: int
    """Tokens that it may make."""
    request: StreamRequest
    seed: int
    name: str
    """Its own, in the engine."""


class Said(NamedTuple):
    """What one event of a stream brought."""

    ids: Sequence[int] = ()
    end: str | None = None
    """``stop`` or ``length``."""
    missing: int = 0
    """Ids that should stand before these, and that the stream does not tell."""
    text: str = ""
    """What those that are missing and these say together, where the engine tells it."""


class Load(NamedTuple):
    """How busy an engine says that it is."""

    waiting: int
    kv_used_ratio: float


class Dialect(ABC):
    """How one kind of engine is spoken to. Holds nothing of a server or a request."""

    name: str
    title: str
    """As people call it."""
    has_own_text = False
    """It renders templates and turns ids into text where Lore has no tokenizer."""
    path: str
    """Of a streamed call."""
    load_gauges: tuple[str, str]
    """Its metrics of calls that wait, and of the share of KV memory in use."""

    def refuses(self, request: StreamRequest) -> str | None:
        """The sampling parameter that would mean something else here, or None."""
        return "no_repeat_ngram_size" if request.no_repeat_ngram_size else None

    @abstractmethod
    async def identify(self, ask: Ask, model: str | None) -> Facts:
        """Raises Trouble: unfit where another kind of engine, or another model, answers."""

    async def tokenize(self, ask: Ask, model: str, text: str) -> list[int] | None:
        """The engine's ids of a text without special tokens; None where it cannot say."""
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        return ids_of((await ask("POST", "/tokenize", body)).get("tokens"))

    async def template(
        self,
        ask: Ask,
        model: str,
        messages: Sequence[Mapping[str, str]],
        args: Mapping[str, object],
    ) -> list[int] | None:
        """The engine's own prompt for a conversation; None where it cannot say."""
        del ask, model, messages, args
        return None

    @abstractmethod
    def body(self, call: Call) -> dict[str, object]: ...

    @abstractmethod
    def read(self, event: Event, made: int) -> Said:
        """``made``: ids that the call had brought before. Raises Trouble."""

    def abort(self, name: str) -> tuple[str, dict[str, object]] | None:
        """Path and body that stop a call; None where closing its connection is enough."""
        del name
        return None

    async def load(self, ask_text: Callable[..., Awaitable[str]]) -> Load:
        """Raises Trouble where its metrics are off."""
        waiting, kv = gauges(await ask_text("GET", "/metrics"), *self.load_gauges)
        return Load(int(waiting), kv)


@runtime_checkable
class Mends(Protocol):
    """A dialect whose stream does not tell all ids."""

    async def recover(self, ask: Ask, said: Said) -> list[int] | None:
        """All ids of an event that lacks some; None where they cannot be known."""
        ...

    def whole(self, body: dict[str, object], most: int) -> dict[str, object]:
        """The same call for ``most`` tokens, which is answered in one piece, with all ids."""
        ...

    def read_whole(self, answer: Event, most: int) -> Said: ...


def ids_of(value: object) -> list[int] | None:
    """A list of token ids, or None."""
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    return cast("list[int]", items) if all(type(one) is int for one in items) else None


def end_of(reason: object, ends: Mapping[str, str] = ENDS) -> str:
    """``stop`` or ``length``. Raises Trouble for any other end."""
    end = ends.get(str(reason))
    if end is None:
        raise Trouble(Kind.FAILED, f"it ended the call: {reason}")
    return end


def gauges(page: str, *names: str) -> list[float]:
    """The sums of these metrics on a page in Prometheus' text format; 0 where it is none."""
    sums = dict.fromkeys(names, 0.0)
    for line in page.splitlines():
        name = line.partition(" ")[0].partition("{")[0]
        if name in sums:
            value = line.rpartition(" ")[2]
            sums[name] += float(value) if value not in ("NaN", "+Inf", "-Inf") else 0.0
    return [sums[name] for name in names]
