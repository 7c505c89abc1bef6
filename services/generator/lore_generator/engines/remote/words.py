"""Converts messages, ids and text: with a tokenizer here, or with that of an engine.

Of a GGUF file, only the engine has the tokenizer.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from lore.messages import Message
from lore.request import StreamRequest
from lore_generator.engines import turns
from lore_generator.engines.conversation import (
    Refused,
    prompt_ids,
    refused_by_template,
)
from lore_generator.engines.remote.dialects import llamacpp
from lore_generator.engines.remote.dialects.base import Ask, chat_of
from lore_generator.engines.remote.token_bytes import bytes_of
from lore_generator.engines.remote.tokenizer import ModelText
from lore_generator.engines.remote.trouble import Kind, Trouble
from lore_generator.engines.stops import StopStrings
from lore_generator.engines.transcript import Transcript

CHARACTER_TOKENS = 4
"""Bytes that are no character after so many tokens never become one (UTF-8: four bytes)."""
MAX_SAID = 500_000
"""More than the size of any vocabulary; further entries could only be runs of incomplete
characters.
"""
PROBE = ({"role": "user", "content": "1"},)
STAND_INS = 0xF0000
"""Private use (Unicode 16, section 23.5)."""


class OwnWords:
    """Converts with the model's tokenizer."""

    def __init__(self, text: ModelText) -> None:
        self.text = text
        self.eos_ids = text.eos_ids
        self.vocabulary: int | None = text.vocabulary
        self.tokenizer_file = text.file
        self.parts = text.parts
        """How the model writes what is not text (``lore.parts.formats``)."""
        self.switches = text.switches
        """How its template lets a caller switch reasoning (``lore.template_args.SWITCHES``)."""
        added = text.tokenizer.get_added_tokens_decoder().items()
        self._special = self.eos_ids | {number for number, one in added if one.special}

    async def may_end(self, token: int) -> bool:
        """Whether an answer may end with this token: it has no text for a reader."""
        return token in self._special

    async def prompt(self, request: StreamRequest) -> list[int]:
        """The ids of a request's prompt. Raises Refused."""
        # In a thread: a long prompt must not delay the other answers.
        text = self.text
        return await asyncio.to_thread(prompt_ids, request, text.tokenizer, text.render)

    def learn(self, token: int, text: str) -> None:
        """Note the text that the engine wrote for one token."""
        del token, text

    async def tail(self, ids: Sequence[int]) -> str:
        """The text of a few tokens, special ones too."""
        return self.text.tokenizer.decode(ids, skip_special_tokens=False)

    async def bytes_of(self, token: int) -> bytes:
        """What a token stands for; the name of a special one."""
        return bytes_of(self.text.tokenizer, token)

    def script(self, stops: Sequence[str], shown: Collection[str] = ()) -> "_OwnScript":
        """``shown``: special tokens that are text all the same."""
        return _OwnScript(Transcript(self.text.tokenizer, stops, shown))


class _OwnScript:
    """The text of one answer as its tokens arrive (``transcript.py``)."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self.finish = transcript.finish

    @property
    def stopped(self) -> bool:
        return self._transcript.stopped

    async def feed(self, ids: Sequence[int]) -> str:
        return self._transcript.feed(ids)


class EngineWords:
    """The same with the tokenizer of a llama.cpp server. It asks once for the text of each token,
    and raises Trouble where the server does not answer.
    """

    tokenizer_file = ""

    def __init__(
        self,
        ask: Ask,
        args: Mapping[str, object],
        parts: str = "",
        switches: str = "",
        vocabulary: int | None = None,
    ) -> None:
        self.parts = parts
        self.switches = switches
        self.vocabulary = vocabulary
        self._ask = ask
        self._args = args
        self.eos_ids: frozenset[int] = frozenset()
        self._said: dict[tuple[int, ...], str] = {}
        self._special: dict[int, bool] = {}

    async def prepare(self, ask: Ask, eos: str | None) -> None:
        """See whether a server has each call that answers need. Raises Trouble.

        ``eos``: the text of the token that ends an answer.
        """
        try:
            ids = await llamacpp.encode(ask, eos or "1", special=True)
            self.eos_ids = frozenset(ids if eos and len(ids) == 1 else [])
            await llamacpp.decode(ask, ids)
            await llamacpp.render(ask, chat_of(PROBE, self._args))
        except Trouble as trouble:
            if trouble.is_absent:
                said = f"it lacks a call that Lore needs: {trouble.message}"
                raise Trouble(Kind.UNFIT, said) from None
            if trouble.kind is not Kind.REFUSED:  # a template may refuse some messages
                raise

    async def prompt(self, request: StreamRequest) -> list[int]:
        if isinstance(request.prompt, list):
            return request.prompt
        if request.prompt is not None:
            return await llamacpp.encode(self._ask, request.prompt, special=True, add_special=True)
        messages, args = request.conversation(), {**self._args, **(request.template_args or {})}
        tools = turns.functions(request)
        turned = turns.conversation(messages)
        said = "\n".join(turns.texts([turned, tools]))
        try:
            text, plain, special = await asyncio.gather(
                llamacpp.render(self._ask, chat_of(turned, args, tools)),
                llamacpp.encode(self._ask, said, special=False),
                llamacpp.encode(self._ask, said, special=True),
            )
            if plain == special:
                return await llamacpp.encode(self._ask, text, special=True, add_special=True)
            if tools or any("tool_calls" in turn for turn in turned):
                raise Refused("a message or a tool holds a special token: set LORE_TOKENIZER")
            return await self._literally(messages, args)
        except Trouble as trouble:
            if trouble.kind is Kind.REFUSED:
                raise refused_by_template(trouble) from None
            raise

    async def _literally(
        self, messages: Sequence[Message], args: Mapping[str, object]
    ) -> list[int]:
        """The prompt if a message contains the name of a special token, which is text there: the
        template and the messages are encoded separately.
        """
        names = [chr(STAND_INS + number) for number, _ in enumerate(messages)]
        turned = [
            {"role": one.role, "content": name} for one, name in zip(messages, names, strict=True)
        ]
        rest = await llamacpp.render(self._ask, chat_of(turned, args))
        ids: list[int] = []
        for name, message in zip(names, messages, strict=True):
            before, found, rest = rest.partition(name)
            if not found:
                raise Refused("a message holds a special token, and the chat template hides it")
            ids += await llamacpp.encode(self._ask, before, special=True, add_special=not ids)
            ids += await llamacpp.encode(self._ask, message.content, special=False)
        return ids + await llamacpp.encode(self._ask, rest, special=True)

    def learn(self, token: int, text: str) -> None:
        """Note a token's text from a stream, which saves a question: it is complete, and not
        special.
        """
        if "\N{REPLACEMENT CHARACTER}" not in text:
            self._remember((token,), text)
            self._special.setdefault(token, False)

    async def tail(self, ids: Sequence[int]) -> str:
        return await self.text(tuple(ids))

    async def bytes_of(self, token: int) -> bytes:
        """b"" for a part of a character, which only the engine knows."""
        text = await self.text((token,))
        return b"" if "\N{REPLACEMENT CHARACTER}" in text else text.encode()

    def script(self, stops: Sequence[str], shown: Collection[str] = ()) -> "_EngineScript":
        return _EngineScript(self, stops, shown)

    async def text(self, ids: tuple[int, ...]) -> str:
        said = self._said.get(ids)
        if said is None:
            said = await llamacpp.decode(self._ask, ids)
            self._remember(ids, said)
        return said

    def _remember(self, ids: tuple[int, ...], said: str) -> None:
        if len(self._said) >= MAX_SAID:
            self._said.clear()
        self._said.setdefault(ids, said)

    async def may_end(self, token: int) -> bool:
        """Whether its text appears only when special tokens are written out: it has none for a
        reader.
        """
        known = self._special.get(token)
        if known is None:
            name = await self.text((token,))
            known = self._special[token] = not name or await self._is_name(name)
        return known

    async def _is_name(self, name: str) -> bool:
        if name.strip().isalnum():
            return False  # most tokens: special ones have brackets in all vocabularies
        plain, special = await asyncio.gather(
            llamacpp.encode(self._ask, name, special=False),
            llamacpp.encode(self._ask, name, special=True),
        )
        return plain != special


class _EngineScript:
    def __init__(self, words: EngineWords, stops: Sequence[str], shown: Collection[str]) -> None:
        self._shown = shown
        self._words = words
        self._stops = StopStrings(stops)
        self._part: tuple[int, ...] = ()
        """The tokens of an incomplete character."""

    @property
    def stopped(self) -> bool:
        return self._stops.hit

    async def feed(self, ids: Sequence[int]) -> str:
        said: list[str] = []
        for token in ids:
            if await self._words.may_end(token):
                name = await self._words.text((token,)) if self._shown else ""
                said.append(self._stops.feed(name) if name in self._shown else "")
                continue
            part = (*self._part, token)
            text = await self._words.text(part)
            if text.endswith("\N{REPLACEMENT CHARACTER}") and len(part) < CHARACTER_TOKENS:
                self._part = part
                continue
            self._part = ()
            said.append(self._stops.feed(text))
        return "".join(said)

    def finish(self) -> str:
        return self._stops.flush()


Words = OwnWords | EngineWords
