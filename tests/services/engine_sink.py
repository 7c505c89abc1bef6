"""A sink that engine tests can wait on."""

import threading
from collections.abc import Callable, Sequence

from lore_generator.engine import Piece

WAIT_S = 120.0


class Collector:
    """Keeps every piece. Waits are bounded: a test that would hang fails instead."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.pieces: list[Piece] = []
        self.calls = 0

    def __call__(self, pieces: Sequence[Piece]) -> None:
        with self._changed:
            self.pieces.extend(pieces)
            self.calls += 1
            self._changed.notify_all()

    def of(self, request_id: str) -> list[Piece]:
        return [piece for piece in self.pieces if piece.request_id == request_id]

    def ids(self, request_id: str) -> tuple[int, ...]:
        return tuple(token for piece in self.of(request_id) for token in piece.token_ids)

    def text(self, request_id: str) -> str:
        return "".join(piece.text for piece in self.of(request_id))

    def until(self, happened: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(happened, WAIT_S)

    def moved(self, request_id: str, count: int) -> bool:
        """It has that many tokens, or has ended, or is given up."""
        pieces = self.of(request_id)
        over = any(piece.finish_reason or piece.given_up for piece in pieces)
        return over or len(self.ids(request_id)) >= count

    def until_given_up(self, request_id: str) -> Piece:
        self.until(lambda: any(piece.given_up for piece in self.of(request_id)))
        return self.of(request_id)[-1]

    def until_tokens(self, request_id: str, count: int) -> None:
        self.until(lambda: len(self.ids(request_id)) >= count)

    def until_end(self, request_id: str) -> Piece:
        self.until(lambda: any(piece.finish_reason for piece in self.of(request_id)))
        return self.of(request_id)[-1]
