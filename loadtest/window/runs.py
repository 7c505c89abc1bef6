"""One answer in the simulator (``tests/sim``) under one policy of the window, and what came of it.

Everything of the protocol is the real code: window, producer, receiver, sender and the store's
twin. Virtual are the clock, the network and the engine, which makes a token every 1/rate s.
"""

import itertools
from dataclasses import dataclass, replace
from statistics import median

from lore.protocol.window import Window
from tests.sim.faults import Options
from tests.sim.reader import Reader
from tests.sim.run import Simulation

FOREVER_S = 50_000.0
WIDE_SOCKET_CHUNKS = 4096
SEEDS = range(3)
READING = 15.0
"""Tokens a second that a quick person reads (some 650 words a minute)."""


class Additive(Window):
    """Grows by its first size at a time, where Lore's doubles."""

    def _doubled(self) -> int:
        most = max(self.size, self._config.maximum_tokens)
        return min(self.size + self._config.initial_tokens, most)


@dataclass(frozen=True)
class Policy:
    name: str
    initial_tokens: int = 32
    maximum_tokens: int = 1024
    window: type[Window] = Window

    @property
    def fixed(self) -> bool:
        return self.initial_tokens == self.maximum_tokens


DEFAULT = Policy("32, doubling to 1,024")
POLICIES = (
    DEFAULT,
    Policy("fixed 32", 32, 32),
    Policy("fixed 1,024", 1024, 1024),
    Policy("8, doubling to 1,024", 8),
    Policy("64, doubling to 1,024", 64),
    Policy("128, doubling to 1,024", 128),
    Policy("32, adding 32 to 1,024", window=Additive),
)


@dataclass(frozen=True)
class Path:
    """The way to the reader, and what the engine does."""

    rtt_s: float
    rate: float
    """Tokens a second."""
    tokens: int = 1000
    """Of the whole answer."""


@dataclass
class Run:
    """What was seen of one answer. Times are the simulator's."""

    stalled_s: float = 0.0
    """The engine stood still for the window."""
    stalls: int = 0
    lasted_s: float = 0.0
    """From the first token to the last."""
    window: int = 0
    lead: int = 0
    """The most tokens that were generated and not yet with the reader."""
    wasted: int = 0
    """Generated, and never with the reader, in the end."""
    starved_s: float = 0.0
    """Somebody who reads ``READING`` tokens a second had nothing left to read."""

    @property
    def stalled_share(self) -> float:
        return self.stalled_s / self.lasted_s if self.lasted_s else 0.0


def healthy(policy: Policy, path: Path) -> Run:
    """A reader who takes everything at once."""
    return _middle([_simulate(policy, path, seed) for seed in SEEDS])


def absent(policy: Policy, path: Path) -> Run:
    """A reader who is gone, without a word, about when half of the answer could be there.

    The worst of some moments, as the one of the last ack decides what was on its way.
    """
    half_s = path.tokens / path.rate / 2
    moments = [half_s + seed * 0.13 * (path.rtt_s + 0.2) for seed in range(5)]
    runs = [_simulate(policy, path, seed, leaves_s=at) for seed, at in enumerate(moments)]
    return max(runs, key=lambda run: run.wasted)


def slow(policy: Policy, path: Path, chunk_every_s: float) -> Run:
    """A reader who takes no more than one chunk in this time."""
    return _middle([_simulate(policy, path, seed, spacing_s=chunk_every_s) for seed in SEEDS])


def _options(policy: Policy, path: Path, *, narrow: bool) -> Options:
    options = Options(
        generators=1,
        edges=1,
        requests=1,
        answer_tokens=path.tokens,
        tokens_per_step=1,
        step_s=1 / path.rate,
        window_tokens=policy.initial_tokens,
        window_maximum_tokens=policy.maximum_tokens,
        window_silence_s=5.0,
        fixed_window=policy.fixed,
        window=policy.window,
        lease_s=10.0,
        arrive_within_s=0.0,
        faults_until_s=FOREVER_S,
        delay_min_s=0.0003,
        delay_max_s=0.001,
        reader_delay_s=path.rtt_s / 2,
    )
    # What a kernel's buffer takes is more than any window; a slow reader's is full.
    return options if narrow else replace(options, socket_chunks=WIDE_SOCKET_CHUNKS)


def _simulate(
    policy: Policy, path: Path, seed: int, *, leaves_s: float = 0.0, spacing_s: float = 0.0
) -> Run:
    simulation = Simulation(seed, _options(policy, path, narrow=spacing_s > 0), None)
    (reader,) = simulation.readers
    reader.spacing_s = spacing_s
    seen = _Seen(simulation)
    if leaves_s:
        # Neither the reader's acks nor a word that it left: its machine is gone.
        world = simulation.world
        world.at(leaves_s + path.rtt_s, simulation.fate, _is_gone, reader)
    simulation.run()
    view = simulation.store.state.view(reader.request_id, now_ms=simulation.world.now_ms)
    assert view is not None
    times = [when for when, _ in seen.decoded]
    step_s = 1 / path.rate
    waits = [b - a - step_s for a, b in itertools.pairwise(times)]
    stalls = [wait for wait in waits if wait > step_s / 100]
    return Run(
        stalled_s=sum(stalls),
        stalls=len(stalls),
        lasted_s=times[-1] - times[0],
        window=view.window,
        lead=seen.lead,
        wasted=view.generated_tokens - seen.tokens_with_reader,
        starved_s=starved_s(seen.read, min(READING, path.rate * 0.75)),
    )


class _Seen:
    """Each token and each text, noted beside what the simulator's own checkers do with them."""

    def __init__(self, simulation: Simulation) -> None:
        self.decoded: list[tuple[float, int]] = []
        self.read: list[tuple[float, int]] = []
        self.lead = 0
        self._world, self._safety = simulation.world, simulation.safety
        self._on_decoded, self._on_text = self._safety.on_decoded, self._safety.on_text
        self._safety.on_decoded, self._safety.on_text = self._decoded, self._text

    @property
    def tokens_with_reader(self) -> int:
        return self.read[-1][1] if self.read else 0

    def _decoded(self, request_id: str, generated: int, limit: int | None, size: int) -> None:
        self.decoded.append((self._world.now, generated))
        self.lead = max(self.lead, generated - self.tokens_with_reader)
        self._on_decoded(request_id, generated, limit, size)

    def _text(
        self, name: str, request_id: str, log_id: str, start: int, end: int, text: str
    ) -> None:
        if not end:
            return  # no text yet
        tokens = self._safety.logs[request_id, log_id][end - 1][1]
        self.read.append((self._world.now, tokens))
        self._on_text(name, request_id, log_id, start, end, text)


def starved_s(read: list[tuple[float, int]], rate: float) -> float:
    """How long somebody who reads at this rate from the first text on waits for more."""
    had, waited_s = 0, 0.0
    done_at = read[0][0] if read else 0.0
    for when, tokens in read:
        waited_s += max(0.0, when - done_at)
        done_at = max(done_at, when) + (tokens - had) / rate
        had = tokens
    return waited_s


def _is_gone(reader: Reader) -> None:
    reader.present = False
    reader.incarnation += 1


def _middle(runs: list[Run]) -> Run:
    return Run(
        stalled_s=median(run.stalled_s for run in runs),
        stalls=int(median(run.stalls for run in runs)),
        lasted_s=median(run.lasted_s for run in runs),
        window=int(median(run.window for run in runs)),
        lead=int(median(run.lead for run in runs)),
        wasted=int(median(run.wasted for run in runs)),
        starved_s=median(run.starved_s for run in runs),
    )
