"""A chunk: a piece of an answer's text, numbered by ``seq`` from 1 without gaps."""

from typing import NamedTuple


class Chunk(NamedTuple):
    """One entry of a log. A tuple, as all that is made for each chunk: a frozen dataclass takes
    three times as long to make.

    ``tokens`` is cumulative: how many generated tokens the log holds up to and
    including this chunk. ``token_ids`` are this chunk's own; a generator that takes
    the request over re-prefills from them. ``text`` may be empty, when tokens were
    generated that do not yet make a whole character and the window closed on them.
    """

    seq: int
    text: str
    token_ids: tuple[int, ...]
    tokens: int
