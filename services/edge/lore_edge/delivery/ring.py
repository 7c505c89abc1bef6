"""The latest chunks of a followed request, bounded, and encoded once for all its native readers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lore.protocol.logprobs import Scored
from lore.store.base import ChunkMessage
from lore_edge.wire import sse


@dataclass(slots=True, eq=False)
class EncodedChunk:
    """Not frozen, nor a tuple: one is made for every chunk, and either takes longer."""

    seq: int
    data: bytes
    """The chunk as a server-sent event."""
    at_ms: int
    """When it was appended, by the store's clock."""
    text: str
    fork: str
    """The log, once the request's log was forked; else empty."""
    tokens: int
    """How many tokens the answer has up to here."""
    scored: tuple[Scored, ...] = ()
    """Their log probabilities, if the request asks for them."""
    token_ids: tuple[int, ...] = ()
    prompt_ids: tuple[int, ...] | None = None
    """As of ``ChunkMessage``."""

    @property
    def event_id(self) -> str:
        return sse.event_id(self.seq, self.fork)


def encode(chunk: ChunkMessage, fork: str) -> EncodedChunk:
    """``fork``: the chunk's log, once the request's log was forked; else ''."""
    seq, text, tokens, at_ms, _, scored, token_ids, prompt_ids = chunk
    event_id = sse.event_id(seq, fork) if fork else str(seq)
    ids = None if prompt_ids is None else shown_ids(token_ids, prompt_ids)
    data = sse.chunk(seq, text, tokens, event_id, scored, ids)
    return EncodedChunk(seq, data, at_ms, text, fork, tokens, scored, token_ids, prompt_ids)


def shown_ids(
    token_ids: Sequence[int], prompt_ids: Sequence[int] | None
) -> dict[str, Sequence[int]]:
    """The members that show the ids of chunks, under the names that vLLM has for them; none where
    they were not asked for.
    """
    if prompt_ids is None:
        return {}
    of_prompt = {"prompt_token_ids": prompt_ids} if prompt_ids else {}
    return {"token_ids": token_ids, **of_prompt}


class Ring:
    __slots__ = ("_pieces", "_room_bytes", "_room_chunks", "_size_bytes", "_size_chunks")

    def __init__(self, *, chunks: int, size_bytes: int) -> None:
        self._pieces: dict[int, EncodedChunk] = {}
        self._room_chunks = self._size_chunks = chunks
        self._room_bytes = self._size_bytes = size_bytes

    def get(self, seq: int) -> EncodedChunk | None:
        return self._pieces.get(seq)

    def after(self, seq: int) -> Iterator[EncodedChunk]:
        """The chunks that follow ``seq`` without a gap."""
        while (piece := self._pieces.get(seq := seq + 1)) is not None:
            yield piece

    def push(self, piece: EncodedChunk) -> None:
        """Add a chunk. Drops the oldest ones when there is no room."""
        self._pieces[piece.seq] = piece
        self._room_chunks -= 1
        self._room_bytes -= len(piece.data)
        while self._room_bytes < 0 or self._room_chunks < 0:
            oldest = self._pieces.pop(next(iter(self._pieces)))
            self._room_chunks += 1
            self._room_bytes += len(oldest.data)

    def clear(self) -> None:
        self._pieces.clear()
        self._room_chunks, self._room_bytes = self._size_chunks, self._size_bytes
