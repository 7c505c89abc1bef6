"""Log probabilities of an answer's tokens, and how a log holds them.

They stand behind the token ids of a chunk, as more integers: a release that does not know them
reads integers there too, and refuses the request by its parameter.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

LOGPROBS = "+logprobs"
"""At the end of a request's fingerprint: its log has them."""
SEPARATOR = -1
"""No token has this id."""
_UNIT = 1_000_000
_LEAST = -9999.0
"""What is less likely, OpenAI's API says so."""


class Likely(NamedTuple):
    token_id: int
    text: bytes
    """What the token stands for; it may be part of a character."""
    logprob: float
    """Of the model's own distribution, before penalties, temperature and forms; a millionth is
    the least step."""


class Scored(NamedTuple):
    """A token of an answer, and the likeliest ones in its place, the likeliest first."""

    chosen: Likely
    top: tuple[Likely, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As OpenAI's API writes it."""
        return {**_json(self.chosen), "top_logprobs": [_json(one) for one in self.top]}


def likely(token_id: int, text: bytes, logprob: float) -> Likely:
    """Rounded to what a log can hold, so that it is equal before and behind it."""
    return Likely(token_id, text, round(max(logprob, _LEAST) * _UNIT) / _UNIT)


def pack(token_ids: Sequence[int], scored: Sequence[Scored]) -> tuple[int, ...]:
    packed = [*token_ids, SEPARATOR]
    for one in scored:
        packed.append(len(one.top))
        for token_id, text, logprob in (one.chosen, *one.top):
            packed += (token_id, int.from_bytes(b"\1" + text), round(-logprob * _UNIT))
    return tuple(packed)


def unpack(packed: Sequence[int]) -> tuple[tuple[int, ...], tuple[Scored, ...]]:
    """The token ids, and what is behind them."""
    if SEPARATOR not in packed:
        return tuple(packed), ()
    at = packed.index(SEPARATOR)
    rest = iter(packed[at + 1 :])
    scored = tuple(_scored(more, rest) for more in rest)
    return tuple(packed[:at]), scored


def _scored(more: int, rest: Iterator[int]) -> Scored:
    chosen, *top = (_likely(rest) for _ in range(1 + more))
    return Scored(chosen, tuple(top))


def _likely(rest: Iterator[int]) -> Likely:
    token_id, text, logprob = next(rest), next(rest), next(rest)
    return Likely(token_id, text.to_bytes((text.bit_length() + 7) // 8)[1:], -logprob / _UNIT)


def _json(one: Likely) -> dict[str, Any]:
    text = one.text.decode(errors="replace")
    return {"token": text, "logprob": one.logprob, "bytes": list(one.text)}
