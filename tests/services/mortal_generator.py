"""A generator whose process dies in the step in which it is to decode a poisonous request."""

import os
import signal

from lore_generator import main as generator
from lore_generator.engine import Piece
from lore_generator.engines.options import SyntheticOptions, TransformersOptions
from lore_generator.engines.synthetic import SyntheticEngine

POISON = "poison"


class MortalEngine(SyntheticEngine):
    def _take_due(self, now: float, pieces: list[Piece]) -> None:
        super()._take_due(now, pieces)
        # What the others were to get of this step is lost with it.
        if any(piece.request_id.startswith(POISON) for piece in pieces):
            os.kill(os.getpid(), signal.SIGKILL)


def create_engine(name: str, options: SyntheticOptions | TransformersOptions) -> MortalEngine:
    assert name == "synthetic"
    assert isinstance(options, SyntheticOptions)
    return MortalEngine(options)


if __name__ == "__main__":
    generator.create_engine = create_engine
    generator.main()
