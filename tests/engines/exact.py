"""``python -m tests.engines.exact``: is an answer behind Lore that of the engine asked directly?

Greedy answers of a real server under windows, each taken over three times: dropped in the middle
and submitted again with what its log would hold. Where one differs from the direct call, the margin
of the two best tokens there is held against the engine's own noise in that answer: how far a margin
is another one when the same engine comes to the same place by reading all before it as a prompt. A
difference within the noise is one that the engine has with itself.
"""

import argparse
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lore.request import StreamRequest
from tests.engines import llamacpp, vllm
from tests.engines.llamacpp import LlamaServer
from tests.engines.running import Running, ask
from tests.engines.server import EngineServer, Step
from tests.engines.vllm import VllmServer

PROMPTS = (
    *("What is recursion?", "Tell me about rivers.", "Name three colours.", "Write a haiku."),
    *("What is TCP?", "Explain a pointer.", "Sum up Hamlet.", "Count to ten.", "Was ist Brot?"),
    *("Continue: 🙂 😀", "用中文写一句话。", "Print hello in C.", "Why is the sky blue?"),
)
WINDOWS = (8, 32, None)
TAKEOVERS = 3
ENGINES = {"llamacpp": (LlamaServer, llamacpp.missing), "vllm": (VllmServer, vllm.missing)}


class Case(NamedTuple):
    content: str
    window: int | None
    at: list[int]
    """Tokens after which it changes hands."""

    def __str__(self) -> str:
        return f"{self.content!r} window {self.window} at {self.at}"


def taken_over(running: Running, request: StreamRequest, case: Case) -> tuple[int, ...]:
    """The ids of an answer that changes hands."""
    name, ids, text = str(case), (), ""
    for number, until in enumerate([*case.at, None]):
        part = f"{name}.{number}"
        limit = None if case.window is None else len(ids) + case.window
        running.submit(part, request, limit, log=ids, text=text)
        wanted, ended = request.max_tokens if until is None else until, False
        while True:
            made = len(ids) + len(running.sink.ids(part))
            for last in running.sink.of(part)[-1:]:
                if last.given_up is not None or last.error is not None:
                    raise RuntimeError(f"{part}: {last.given_up or last.error}")
                ended = last.finish_reason is not None
            if ended or (made >= wanted and until is not None):
                break
            if limit is not None and made >= limit:
                assert case.window is not None
                limit += case.window
                running.engine.grant(part, limit)
            more = min(wanted, limit or wanted) - len(ids)
            running.sink.until(lambda part=part, more=more: running.sink.moved(part, more))
        running.engine.cancel(part)
        pieces = list(running.sink.of(part))
        ids += tuple(token for piece in pieces for token in piece.token_ids)
        text += "".join(piece.text for piece in pieces)
        if pieces and pieces[-1].finish_reason:
            return ids
    return ids


def noise_at(server: EngineServer, prompt: Sequence[int], steps: Sequence[Step], at: int) -> float:
    """How far the margin at a place is another one when all before it is read as a prompt."""
    if not steps[at].best:
        return 0.0
    before = [*prompt, *(step.token for step in steps[:at])]
    (again,) = server.steps(before, 1)
    found = dict(again.best)
    first, second = (token for token, _ in steps[at].best[:2])
    # Both are among the ten best again, or something else than noise is at work.
    return abs(steps[at].margin - (found[first] - found[second]))


class Judge:
    """Holds answers against those of direct calls, which are made when they are needed."""

    def __init__(self, server: EngineServer, tokens: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.noise: list[float] = []
        """At each place where it was measured."""
        self._server = server
        self._tokens = tokens
        self._direct: dict[str, tuple[list[int], list[Step]]] = {}

    def measure(self, content: str) -> list[float]:
        """The engine's noise at each place of an answer."""
        prompt, steps = self._of(content)
        noise = [noise_at(self._server, prompt, steps, at) for at in range(len(steps))]
        self.noise += noise
        return noise

    def judge(self, case: Case, ids: Sequence[int]) -> None:
        _, steps = self._of(case.content)
        expected = [step.token for step in steps]
        # llama.cpp does not tell the ids of half a character at the very end.
        rest = len(expected) - len(ids)
        if list(ids) == expected[: len(ids)] and rest <= (3 if len(ids) < self._tokens else 0):
            self.outcomes["equal"] += 1
            return
        pairs = zip([*ids, -1], [*expected, -1], strict=False)
        at = next(n for n, (one, other) in enumerate(pairs) if one != other)
        if at >= len(steps):
            self.outcomes["differs in length"] += 1
            print(f"{case}: {len(ids)} tokens, and {len(expected)} directly", flush=True)
            return
        noise = self.measure(case.content)
        within = steps[at].margin <= max(noise)
        self.outcomes["differs within the noise" if within else "differs"] += 1
        said = f"noise there {noise[at]:.4f}, in the answer up to {max(noise):.4f}"
        print(f"{case}: token {at}, margin {steps[at].margin:.4f}, {said}", flush=True)

    def _of(self, content: str) -> tuple[list[int], list[Step]]:
        if content not in self._direct:
            prompt = self._server.prompt(content)
            self._direct[content] = prompt, self._server.steps(prompt, self._tokens)
        return self._direct[content]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.engines.exact", description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, default="llamacpp")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="to go on with a run, in pieces")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=60, help="no prompt begins later")
    parser.add_argument("--seed", type=int, default=16)
    options = parser.parse_args()
    kind, missing = ENGINES[options.engine]
    if why := missing():
        sys.exit(why)
    until_s = time.monotonic() + 60 * options.minutes
    with kind() as server, Running(server.dialect, server.url) as running:
        judge = Judge(server, options.tokens)
        number = options.first
        judge.measure(content_of(number))
        while number < options.prompts and time.monotonic() < until_s:
            cases = cases_of(number, options.tokens, options.seed)

            def one(case: Case) -> tuple[int, ...]:
                return taken_over(running, ask(case.content, max_tokens=options.tokens), case)

            with ThreadPoolExecutor(len(cases)) as pool:
                found = list(pool.map(one, cases))
            for case, ids in zip(cases, found, strict=True):
                judge.judge(case, ids)
            number += 1
    print(f"prompts {options.first} to {number - 1}: {dict(judge.outcomes)}")
    middle, most = statistics.median(judge.noise), max(judge.noise)
    print(f"the engine's own noise at {len(judge.noise)} places: {middle:.4f}, at most {most:.4f}")
    sys.exit(bool(judge.outcomes["differs"] or judge.outcomes["differs in length"]))


def content_of(number: int) -> str:
    return f"{PROMPTS[number % len(PROMPTS)]} ({number})"


def cases_of(number: int, tokens: int, seed: int) -> list[Case]:
    rng = random.Random(f"{seed} {number}")
    places = range(1, tokens)
    return [
        Case(content_of(number), window, sorted(rng.sample(places, TAKEOVERS)))
        for window in WINDOWS
    ]


if __name__ == "__main__":
    main()
