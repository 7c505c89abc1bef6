"""Log probabilities in OpenAI's formats (O25)."""

from collections.abc import Iterable, Sequence
from typing import Any

from lore.protocol.logprobs import Scored
from lore_edge.openai.errors import refused
from lore_edge.openai.parts import Chunk

Json = dict[str, Any]


def check(*, wanted: bool, top: int, needs: str) -> None:
    """Raises OpenAIError 400 if the likeliest tokens are wanted without ``needs``."""
    if top and not wanted:
        raise refused(
            "invalid_parameter_combination",
            f"Setting 'top_logprobs' is only supported with {needs}.",
            "top_logprobs",
        )


def of_choice(scored: Sequence[Scored]) -> Json | None:
    """The ``logprobs`` of a chat's choice, and of a choice in a chunk."""
    return {"content": of_part(scored), "refusal": None} if scored else None


def of_text(chunks: Iterable[Chunk], offset: int = 0) -> Json | None:
    """The ``logprobs`` of a completion's choice: those of these chunks, of which the first begins
    at ``offset`` in the answer's text. A token that is a part of a character is ``bytes:\\xf0``, as
    OpenAI writes it.
    """
    told: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for chunk in chunks:
        text = chunk.text.encode()
        begun = _elsewhere(text, b"".join(one.chosen.text for one in chunk.scored))
        for one in chunk.scored:
            told["tokens"].append(_named(one.chosen.text))
            told["token_logprobs"].append(one.chosen.logprob)
            told["top_logprobs"].append(
                {_named(some.text): some.logprob for some in (*one.top, one.chosen)}
            )
            # Behind the text are tokens without any, as the one that ends the answer.
            told["text_offset"].append(offset + len(text[:begun].decode(errors="ignore")))
            begun += len(one.chosen.text)
        offset += len(chunk.text)
    return told if told["tokens"] else None


def _elsewhere(text: bytes, tokens: bytes) -> int:
    """How many bytes of a chunk's first character are of tokens of the chunk before."""
    first = len(text.decode()[:1].encode())
    here = next((at for at, byte in enumerate(tokens) if byte & 0xC0 != 0x80), len(tokens))
    return max(0, first - here) if here else 0


def _named(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in text)


def of_part(scored: Sequence[Scored]) -> list[Json]:
    return [one.as_json() for one in scored]


def of_event(scored: Sequence[Scored]) -> list[Json]:
    """In the events about a response's text, tokens come without their bytes."""
    return [
        {
            "token": told["token"],
            "logprob": told["logprob"],
            "top_logprobs": [
                {"token": one["token"], "logprob": one["logprob"]} for one in told["top_logprobs"]
            ],
        }
        for told in of_part(scored)
    ]


class Pending:
    """Tokens whose text was not returned yet."""

    def __init__(self) -> None:
        self._tokens: list[Scored] = []

    def add(self, scored: Sequence[Scored]) -> None:
        self._tokens += scored

    def take(self, text: str) -> list[Scored]:
        """The tokens that stand for this text. Those before it, which are markers, are dropped;
        those behind it stay. If tokens and text do not match, all are taken.
        """
        wanted = text.encode()
        start = b"".join(one.chosen.text for one in self._tokens).find(wanted)
        if start < 0:
            return self.take_all()
        taken: list[Scored] = []
        at = used = 0
        for one in self._tokens:
            if at >= start + len(wanted):
                break
            at, used = at + len(one.chosen.text), used + 1
            if at > start:
                taken.append(one)
        del self._tokens[:used]
        return taken

    def take_all(self) -> list[Scored]:
        taken, self._tokens = self._tokens, []
        return taken
