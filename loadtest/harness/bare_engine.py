"""A model and nothing around it: transformers' batching manager, or Lore's engine on it.

A process of its own, told what to do on its standard input, a JSON list of prompts a line, and
answering each on its standard output when all are generated.
"""

import argparse
import json
import queue
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from transformers import GenerationConfig

from loadtest.harness.prompts import GREEDY
from lore.messages import Message
from lore.request import StreamRequest
from lore_generator.engine import Job, Piece
from lore_generator.engines import loading
from lore_generator.engines.loading import Loaded
from lore_generator.engines.options import TransformersOptions
from lore_generator.engines.prompt import prompt_tokens
from lore_generator.engines.transformers_engine import TransformersEngine, batching_config

NO_EOS = -1
WITHIN_S = 600.0
NO_ANSWER = "the answers did not come in time"


def request(prompt: str, tokens: int) -> StreamRequest:
    messages = [Message(role="user", content=prompt)]
    return StreamRequest(messages=messages, max_tokens=tokens, **GREEDY)


class Side(Protocol):
    def ask(self, name: str, prompt: str, tokens: int) -> None: ...

    def arrivals(self, within_s: float) -> Iterator[tuple[str, int, bool]]:
        """(name, tokens that came, whether these were the last), for ever. Raises TimeoutError."""
        ...

    def stop(self) -> None: ...


class Manager:
    """Set up as Lore's engine sets it up, with its own scheduler and sampling."""

    def __init__(self, options: TransformersOptions, loaded: Loaded | None = None) -> None:
        self._loaded = loaded or loading.load(options)
        model = self._loaded.model
        config = batching_config(options, model)
        config.scheduler_type = "fifo"
        eos = sorted(self._loaded.eos_ids) or NO_EOS
        greedy = GenerationConfig(do_sample=False, eos_token_id=eos)
        self._manager: Any = model.init_continuous_batching(greedy, config)  # pyright: ignore[reportCallIssue]
        self._manager.warmup()
        self._manager.start()

    def ask(self, name: str, prompt: str, tokens: int) -> None:
        ids = prompt_tokens(Job(name, request(prompt, tokens)), self._loaded.tokenizer)
        self._manager.add_request(ids, name, max_new_tokens=tokens, streaming=True)

    def arrivals(self, within_s: float) -> Iterator[tuple[str, int, bool]]:
        had: dict[str, int] = {}
        until_s = time.perf_counter() + within_s
        while True:
            output = self._manager.get_result(timeout=max(0.0, until_s - time.perf_counter()))
            if output is None:
                raise TimeoutError(NO_ANSWER)
            count = len(output.generated_tokens)
            yield output.request_id, count - had.get(output.request_id, 0), output.is_finished()
            had[output.request_id] = count

    def stop(self) -> None:
        self._manager.stop(block=True, hard_stop=True)
        self._manager.destroy()


class LoreEngine:
    """The engine of the service, without the service: its scheduler, sampler and detokeniser."""

    def __init__(self, options: TransformersOptions, loaded: Loaded | None = None) -> None:
        self._engine = TransformersEngine(options, loaded)
        self._pieces: queue.SimpleQueue[Sequence[Piece]] = queue.SimpleQueue()
        self._engine.start(self._pieces.put)

    def ask(self, name: str, prompt: str, tokens: int) -> None:
        self._engine.submit(Job(name, request(prompt, tokens)), None)

    def arrivals(self, within_s: float) -> Iterator[tuple[str, int, bool]]:
        until_s = time.perf_counter() + within_s
        while True:
            try:
                pieces = self._pieces.get(timeout=max(0.0, until_s - time.perf_counter()))
            except queue.Empty:
                raise TimeoutError(NO_ANSWER) from None
            for piece in pieces:
                if piece.finish_reason == "error":
                    raise RuntimeError(piece.error)
                yield piece.request_id, len(piece.token_ids), piece.finish_reason is not None

    def stop(self) -> None:
        self._engine.stop()


def generate(
    side: Side, turn: str, prompts: Sequence[str], tokens: int, within_s: float = WITHIN_S
) -> dict[str, Any]:
    """Everything at once; what came when. Raises TimeoutError."""
    began_s = time.perf_counter()
    for number, prompt in enumerate(prompts):
        side.ask(f"{turn}.{number}", prompt, tokens)
    first: dict[str, float] = {}
    left, count = len(prompts), 0
    for name, came, is_last in side.arrivals(within_s):
        if came:
            first.setdefault(name, time.perf_counter() - began_s)
            count += came
        left -= is_last
        if not left:
            break
    took_s = time.perf_counter() - began_s
    return {"tokens": count, "took_s": took_s, "first_s": list(first.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("manager", "engine"))
    parser.add_argument("--model")
    parser.add_argument("--device")
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    chosen = parser.parse_args()
    options = TransformersOptions(model=chosen.model, device_map=chosen.device, slots=chosen.slots)
    side: Side = Manager(options) if chosen.side == "manager" else LoreEngine(options)
    print("ready", flush=True)
    for turn, line in enumerate(sys.stdin):
        print(json.dumps(generate(side, str(turn), json.loads(line), chosen.tokens)), flush=True)
    side.stop()


if __name__ == "__main__":
    main()
