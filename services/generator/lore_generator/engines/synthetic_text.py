"""The answers of the synthetic engine: a pure function of the question and the seed.

Tokens are pieces of UTF-8, and some are incomplete characters, as in a real model: an emoji is two
tokens, and its text comes only with the second.
"""

import codecs
import hashlib
import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from lore.request import StreamRequest
from lore_generator.engines.stops import StopStrings

_WORDS = (
    " a", " the", " loop", " variable", " function", " naïve", " café", " façade", " value",
    " list", " reads", " returns", " window", " stream", " token", " reader", " über", " señor",
    " 世界", " Привет", " keeps", " repeats", " each", " until", " while", " number", " text",
    " is", " and", " of", " in", " to", ", then", ", so", ".", ".\n\n", " **bold**", " `x`",
    " <b>not html</b>", " &amp;",
)  # fmt: skip
_SPLIT = ("🎉", "👩‍💻", "—", "…", "🇫🇷")
_CODE = (
    "\n\n```python\n",
    "for",
    " i",
    " in",
    " range",
    "(3)",
    ":\n",
    "    print",
    "(i)",
    "\n```\n\n",
)


def _halves(text: str) -> tuple[bytes, bytes]:
    data = text.encode()
    return data[:2], data[2:]


_SPLIT_PIECES = tuple(piece for text in _SPLIT for piece in _halves(text))
VOCABULARY: tuple[bytes, ...] = tuple(
    dict.fromkeys((*(word.encode() for word in (*_WORDS, *_CODE)), *_SPLIT_PIECES))
)
"""Token id to bytes; every piece occurs once."""

_IDS = {piece: token_id for token_id, piece in enumerate(VOCABULARY)}
_CODE_IDS = tuple(_IDS[piece.encode()] for piece in _CODE)
_SPLIT_IDS = tuple(tuple(_IDS[half] for half in _halves(text)) for text in _SPLIT)
_WORD_IDS = tuple(_IDS[word.encode()] for word in _WORDS)

_SHORTEST_TOKENS, _SPREAD_TOKENS = 60, 240


@dataclass(frozen=True, slots=True)
class SyntheticAnswer:
    """All tokens of an answer; ``texts[i]`` is the text that token ``i`` completes."""

    token_ids: tuple[int, ...]
    texts: tuple[str, ...]
    finish_reason: str


def answer(request: StreamRequest, length_tokens: int | None = None) -> SyntheticAnswer:
    """The whole answer, cut at a stop string or at ``max_tokens``.

    ``length_tokens`` is its natural length; unset, 60 to 299 tokens, by the question. Sampling
    parameters other than ``seed``, ``max_tokens`` and ``stop`` have no effect: there is no
    distribution to sample.
    """
    digest = _digest(request)
    if length_tokens is None:
        length_tokens = _SHORTEST_TOKENS + digest[0] * _SPREAD_TOKENS // 256
    chooser = random.Random(digest)
    stops = StopStrings(request.stop)
    decoder = codecs.getincrementaldecoder("utf-8")()
    ids: list[int] = []
    texts: list[str] = []
    for token_id in _tokens(chooser):
        if len(ids) == min(length_tokens, request.max_tokens):
            break
        ids.append(token_id)
        texts.append(stops.feed(decoder.decode(VOCABULARY[token_id])))
        if stops.hit:
            return SyntheticAnswer(tuple(ids), tuple(texts), "stop")
    texts[-1] += stops.flush()
    return SyntheticAnswer(
        tuple(ids),
        tuple(texts),
        "stop" if length_tokens <= request.max_tokens else "length",
    )


def ids_of(request: StreamRequest) -> tuple[int, ...]:
    """The ids of its prompt: a word is a token, always the same."""
    if isinstance(request.prompt, list):
        return tuple(request.prompt)
    words = (word for text in request.texts() for word in text.split())
    return tuple(zlib.crc32(word.encode()) % len(VOCABULARY) for word in words)


def synthetic_answer(request: StreamRequest, length_tokens: int | None = None) -> list[str]:
    """The text of each token in order; some are empty. Joined, it is the whole answer."""
    return list(answer(request, length_tokens).texts)


def _digest(request: StreamRequest) -> bytes:
    asked = request.prompt or [[m.role, m.content] for m in request.conversation()]
    return hashlib.sha256(json.dumps([asked, request.seed]).encode()).digest()


def _tokens(chooser: random.Random) -> Iterator[int]:
    while True:
        kind = chooser.random()
        if kind < 0.02:
            yield from _CODE_IDS
        elif kind < 0.12:
            yield from chooser.choice(_SPLIT_IDS)
        else:
            yield chooser.choice(_WORD_IDS)
