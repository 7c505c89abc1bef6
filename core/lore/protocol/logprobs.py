"""Log probabilities of an answer's tokens, and how a log holds what a request asks for.

It stands behind the token ids of a chunk, as more integers: a release that does not know them
reads integers there too, and refuses the request by its parameter.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

LOGPROBS = "+logprobs"
"""At the end of a request's fingerprint: its log has them."""
IDS = "+ids"
"""The same for token ids that its readers are shown; log probabilities stand behind it."""
SEPARATOR = -1
"""No token has this id, nor the next."""
PROMPT = -2
"""The ids of a chunk are shown; in the first chunk, those of the prompt follow."""
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


def pack(
    token_ids: Sequence[int], scored: Sequence[Scored], prompt_ids: Sequence[int] | None = None
) -> tuple[int, ...]:
    packed = [*token_ids]
    if prompt_ids is not None:
        packed += (PROMPT, *prompt_ids)
    if scored:
        packed.append(SEPARATOR)
    for one in scored:
        packed.append(len(one.top))
        for token_id, text, logprob in (one.chosen, *one.top):
            packed += (token_id, int.from_bytes(b"\1" + text), round(-logprob * _UNIT))
    return tuple(packed)


class Unpacked(NamedTuple):
    token_ids: tuple[int, ...]
    scored: tuple[Scored, ...] = ()
    prompt_ids: tuple[int, ...] | None = None
    """None unless the token ids are shown."""


def unpack(packed: Sequence[int]) -> Unpacked:
    ids, scored = _split(tuple(packed), SEPARATOR)
    token_ids, prompt_ids = _split(ids, PROMPT)
    rest = iter(scored or ())
    return Unpacked(token_ids, tuple(_scored(more, rest) for more in rest), prompt_ids)


def _split(ids: tuple[int, ...], at: int) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    if at not in ids:
        return ids, None
    place = ids.index(at)
    return ids[:place], ids[place + 1 :]


def _scored(more: int, rest: Iterator[int]) -> Scored:
    chosen, *top = (_likely(rest) for _ in range(1 + more))
    return Scored(chosen, tuple(top))


def _likely(rest: Iterator[int]) -> Likely:
    token_id, text, logprob = next(rest), next(rest), next(rest)
    return Likely(token_id, text.to_bytes((text.bit_length() + 7) // 8)[1:], -logprob / _UNIT)


def _json(one: Likely) -> dict[str, Any]:
    text = one.text.decode(errors="replace")
    return {"token": text, "logprob": one.logprob, "bytes": list(one.text)}
