"""What a grammar costs a step of the transformers engine.

As many answers are free as keep to a JSON schema. All are in one engine, with prompts alike, and
take turns of a few tokens by their credit, so that both sides have the same lengths and the same
minutes of a busy machine. A step lasts from one delivery to the next; those with all of a side's
answers in both count. The loop's wait for masks that are not ready behind the model is timed
apart: nothing if they are computed beside it.

Usage: python -m loadtest.bench.masks [--streams 16] [--rounds 20] [--device cuda:0]
"""

import queue
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from loadtest.harness.prompts import GREEDY, prompts_of
from loadtest.harness.record import Report, middle, options
from lore.messages import Message
from lore.request import KeptRequest
from lore_generator.engine import Job, Piece
from lore_generator.engines import sampling
from lore_generator.engines.automata import Allowed, Automata
from lore_generator.engines.options import TransformersOptions
from lore_generator.engines.transformers_engine import TransformersEngine

STEPS = 8
"""Of a turn."""
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "likes": {"type": "array", "items": {"enum": ["tea", "trains", "rain"]}},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
# So many that no answer ends.
FORMAT = {
    "type": "json_schema",
    "name": "people",
    "schema": {"type": "array", "items": PERSON, "minItems": 1_000},
    "strict": True,
}
FREE, MASKED = "free", "with a grammar"


class TimedAutomata(Automata):
    """Adds up what the loop waits for."""

    waited_s = 0.0

    def end(self) -> Allowed | None:
        began_s = time.perf_counter()
        allowed = super().end()
        TimedAutomata.waited_s += time.perf_counter() - began_s
        return allowed


class Bench:
    def __init__(self, chosen: Any) -> None:
        self._engine = TransformersEngine(
            TransformersOptions(
                model=chosen.model, device_map=chosen.device, slots=2 * chosen.streams
            )
        )
        self._pieces: queue.SimpleQueue[tuple[float, Sequence[Piece]]] = queue.SimpleQueue()
        self._tokens = STEPS * (chosen.rounds + 2)
        self._limits: dict[str, int] = {}
        self._ended: set[str] = set()
        self.info = self._engine.start(
            lambda pieces: self._pieces.put((time.perf_counter(), pieces))
        )

    def ask(self, side: str, prompts: Sequence[str]) -> list[str]:
        given: dict[str, Any] = {"max_tokens": self._tokens, **GREEDY}
        if side == MASKED:
            given["response_format"] = FORMAT
        names = [f"{side} {number}" for number in range(len(prompts))]
        for name, prompt in zip(names, prompts, strict=True):
            messages = [Message(role="user", content=prompt)]
            request = KeptRequest.model_validate({"messages": messages, **given}, strict=False)
            self._limits[name] = 1
            self._engine.submit(Job(name, request), 1)
        missing = set(names)
        for _, pieces in self._deliveries():
            missing -= {piece.request_id for piece in pieces if piece.token_ids}
            if not missing:
                break
        return names

    def turn(self, names: Sequence[str]) -> list[float]:
        """The seconds of each step that had all of these."""
        left = dict.fromkeys(names, STEPS)
        for name in names:
            self._limits[name] += STEPS
            self._engine.grant(name, self._limits[name])
        steps: list[float] = []
        before_s: float | None = None
        for at_s, pieces in self._deliveries():
            for piece in pieces:
                left[piece.request_id] -= len(piece.token_ids)
                if piece.finish_reason:
                    left.pop(piece.request_id)
                    self._ended.add(piece.request_id)
            has_all = len(pieces) == len(names)
            if has_all and before_s is not None:
                steps.append(at_s - before_s)
            before_s = at_s if has_all else None
            if not any(left.values()):
                return steps
        raise AssertionError("unreachable")

    def live(self, sides: dict[str, list[str]]) -> dict[str, list[str]]:
        """Those that have not ended, as many of each side."""
        live = {side: [n for n in names if n not in self._ended] for side, names in sides.items()}
        return {side: names[: min(map(len, live.values()))] for side, names in live.items()}

    def stop(self) -> None:
        self._engine.stop()

    def _deliveries(self) -> Iterator[tuple[float, Sequence[Piece]]]:
        while True:
            yield self._pieces.get(timeout=120)


def main() -> None:
    parser = options(__doc__)
    parser.set_defaults(rounds=20)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--model", help="as LORE_MODEL; unset, SmolLM2-135M")
    parser.add_argument("--device", help="as LORE_DEVICE_MAP: cpu, cuda:0")
    chosen = parser.parse_args()
    command = f"python -m loadtest.bench.masks --streams {chosen.streams} --rounds {chosen.rounds}"
    report = Report("What a grammar costs a step", command)
    sampling.Automata = TimedAutomata
    bench = Bench(chosen)
    try:
        prompts = prompts_of(1, chosen.streams)
        sides = {side: bench.ask(side, prompts) for side in (FREE, MASKED)}
        for names in sides.values():
            bench.turn(names)  # what is done once is done
        TimedAutomata.waited_s = 0.0
        steps: dict[str, list[list[float]]] = {FREE: [], MASKED: []}
        for number in range(chosen.rounds):
            sides = bench.live(sides)
            for side in (FREE, MASKED) if number % 2 else (MASKED, FREE):
                steps[side].append(bench.turn(sides[side]))
    finally:
        bench.stop()
    count = sum(map(len, steps[MASKED]))
    medians = {side: middle(one for turn in some for one in turn) for side, some in steps.items()}
    turns = zip(steps[FREE], steps[MASKED], strict=True)
    pairs = [middle(masked) / middle(free) for free, masked in turns if free and masked]
    report.say(
        f"{bench.info.model} on {bench.info.details['device']}, greedy, {chosen.streams} answers of"
        f" each side, {len(sides[FREE])} to the end. llguidance {version('llguidance')}, torch"
        f" {version('torch')}."
    )
    report.table(
        ("steps", "free: median ms", "with a grammar", "ratio", "wait for masks: mean ms"),
        [
            [
                count,
                f"{1e3 * medians[FREE]:.1f}",
                f"{1e3 * medians[MASKED]:.1f}",
                f"{middle(pairs):.3f}",
                f"{1e3 * TimedAutomata.waited_s / (STEPS * chosen.rounds):.2f}",
            ]
        ],
    )
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()
