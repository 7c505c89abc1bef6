"""A chunk: a piece of an answer's text, numbered by ``seq`` from 1 without gaps."""

from typing import Any, NamedTuple, Protocol, TypeVar, cast

from lore.protocol.logprobs import Scored

T = TypeVar("T")


class _Make(Protocol):
    def __call__(self, kind: type[T], fields: tuple[Any, ...], /) -> T: ...


make = cast("_Make", cast("Any", tuple).__new__)
"""Makes a named tuple of all its fields in a third of the time that calling its class takes. For
what is made for each chunk.
"""


class Chunk(NamedTuple):
    """One entry of a log.

    ``tokens`` is cumulative: the number of generated tokens in the log up to and including this
    chunk. ``token_ids`` are this chunk's own; a generator that takes the request over re-prefills
    from them. ``text`` is empty when the window closed on tokens that do not yet make a whole
    character.
    """

    seq: int
    text: str
    token_ids: tuple[int, ...]
    tokens: int
    scored: tuple[Scored, ...] = ()
    """The log probabilities of its tokens, if the request asks for them."""
    prompt_ids: tuple[int, ...] | None = None
    """None unless the request asks for token ids. The first chunk has those of the prompt."""
