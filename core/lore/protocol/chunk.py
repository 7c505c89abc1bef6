"""A chunk: a piece of an answer's text, numbered by ``seq`` from 1 without gaps."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chunk:
    """One entry of a log.

    ``tokens`` is cumulative: how many generated tokens the log holds up to and
    including this chunk. ``token_ids`` are this chunk's own; a generator that takes
    the request over re-prefills from them. ``text`` may be empty, when tokens were
    generated that do not yet make a whole character and the window closed on them.
    """

    seq: int
    text: str
    token_ids: tuple[int, ...]
    tokens: int
