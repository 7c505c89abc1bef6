"""What a run is made of and what goes wrong in it: one frozen dataclass, drawn from the seed."""

from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any

from lore.protocol.pace_types import PaceConfig
from lore.protocol.window import Window
from lore_generator.settings import GeneratorSettings

LONGEST_FREEZE = 2.5
"""In leases."""


@dataclass(frozen=True)
class Options:
    """Rates are per virtual second and part, ratios per message or call, times in seconds."""

    # the system
    generators: int = 2
    edges: int = 2
    requests: int = 2
    readers_per_request: int = 1
    answer_tokens: int = 80
    tokens_per_step: int = 4
    step_s: float = 0.1
    prompt_steps: int = 1  # that reading a prompt takes
    window_tokens: int = 16
    window_maximum_tokens: int = 64
    window_silence_s: float = 2.0
    fixed_window: bool = False
    window: type[Window] = Window  # studies of the window try others
    slots: int = 3  # of each generator
    pace: float | None = None  # tokens a second of each reader; None: first come, first served
    pace_step: int = 4
    pace_calm_s: float = 5.0
    unbound_ratio: float = 0.0  # requests with ack "none": machines
    failing_ratio: float = 0.0  # answers that end in an engine's error
    poisonous_ratio: float = 0.0  # requests that kill their generator at their middle
    lease_s: float = 6.0
    poll_s: float = GeneratorSettings.model_fields["poll_s"].default
    grace_s: float = GeneratorSettings.model_fields["return_grace_s"].default
    reap_idle_s: float = 0.0  # 0: nothing is reaped
    seizure_rate: float = 0.0  # owners that an operator takes for lost, dead or not
    arrive_within_s: float = 5.0

    # the network
    faults_until_s: float = 40.0
    delay_min_s: float = 0.002
    delay_max_s: float = 0.05
    reader_delay_s: float = 0.0  # more than that, between edges and readers, one way
    socket_chunks: int = 8  # more are not on their way to a reader at a time
    event_loss: float = 0.0  # edge to reader: a proxy or a page that swallows an event
    event_duplication: float = 0.0
    event_reordering: float = 0.0
    news_loss: float = 0.0  # store to edge or owner: publications are hints
    news_duplication: float = 0.0
    news_reordering: float = 0.0
    call_lost: float = 0.0  # a call of the store or an edge that never arrives
    answer_lost: float = 0.0  # it takes effect, the caller never hears of it
    call_late: float = 0.0  # and it takes effect long after the caller gave up
    partition_rate: float = 0.0
    partition_s: float = 8.0

    # the parts
    generator_crash_rate: float = 0.0
    subscription_loss_rate: float = 0.0  # of one generator, whose calls go on
    connection_loss_rate: float = 0.0  # of one generator
    client_loss_rate: float = 0.0  # of all generators at once, by a store that goes on
    late_ratio: float = 0.0  # of the generators, to come back to a store that crashed
    move_rate: float = 0.0  # another server has the store's data, and knows no subscriber
    generator_freeze_rate: float = 0.0  # paused for longer than its lease: a zombie
    generator_drain_rate: float = 0.0
    edge_crash_rate: float = 0.0
    store_crash_rate: float = 0.0
    forget_ratio: float = 0.0  # of the store's crashes: it comes back with less than it had
    forget_s: float = 2.0  # at most so much of the past is gone
    wipe_ratio: float = 0.0  # of the store's crashes: it comes back empty
    crash_together_ratio: float = 0.0  # a generator that crashes with the store
    down_s: float = 3.0

    # the readers
    slow_ratio: float = 0.0
    slow_spacing_s: float = 1.0  # a slow reader takes one chunk per this time
    vanish_ratio: float = 0.0
    return_ratio: float = 0.5  # of those who vanish
    reload_ratio: float = 0.3  # of those who return: from the start
    cancel_ratio: float = 0.0

    @property
    def pace_config(self) -> PaceConfig | None:
        if self.pace is None:
            return None
        return PaceConfig(
            tokens_per_s=self.pace,
            lead_tokens=3 * self.pace_step,
            step_tokens=self.pace_step,
            calm_s=self.pace_calm_s,
        )

    @property
    def tells_in_time(self) -> bool:
        """Whether an owner that lives hears what it lost before anybody else works on it."""
        return not (self.news_loss or self.news_reordering or self.partition_rate)

    @property
    def is_prompt(self) -> bool:
        """Whether a part that lives can say so at any time, where it is connected."""
        lossy = self.call_lost, self.call_late, self.answer_lost, self.partition_rate
        return not any((*lossy, self.generator_freeze_rate)) and self.delay_max_s <= 0.05


# Each kind of trouble comes or stays away as one, so that runs differ in kind and not only in
# degree. A value is (low, high) and is drawn between them.
TROUBLES: tuple[dict[str, tuple[float, float]], ...] = (
    {"event_loss": (0.01, 0.2)},
    {"event_duplication": (0.01, 0.2)},
    {"event_reordering": (0.01, 0.2)},
    {"news_loss": (0.01, 0.3)},
    {"news_duplication": (0.01, 0.2), "news_reordering": (0.01, 0.2)},
    {"call_lost": (0.01, 0.1), "answer_lost": (0.01, 0.1)},
    {"call_late": (0.005, 0.05)},
    {"partition_rate": (0.005, 0.03), "partition_s": (1.0, 15.0)},
    {"generator_crash_rate": (0.01, 0.06)},
    {"subscription_loss_rate": (0.02, 0.1), "connection_loss_rate": (0.02, 0.1)},
    {"client_loss_rate": (0.02, 0.1), "move_rate": (0.02, 0.1)},
    {"late_ratio": (0.1, 0.5)},
    {"generator_freeze_rate": (0.01, 0.06)},
    {"generator_drain_rate": (0.01, 0.06)},
    {"edge_crash_rate": (0.01, 0.06)},
    {"store_crash_rate": (0.02, 0.1), "forget_ratio": (0.0, 1.0), "forget_s": (0.2, 3.0)},
    {"store_crash_rate": (0.02, 0.1), "wipe_ratio": (0.2, 1.0)},
    {"crash_together_ratio": (0.2, 1.0)},
    {"down_s": (3.0, 15.0)},
    {"slow_ratio": (0.2, 1.0), "slow_spacing_s": (0.2, 2.0)},
    {"vanish_ratio": (0.2, 1.0), "return_ratio": (0.0, 1.0)},
    {"cancel_ratio": (0.1, 0.5)},
    {"reap_idle_s": (5.0, 20.0)},
    {"unbound_ratio": (0.2, 0.8)},
    {"failing_ratio": (0.2, 0.8)},
    {"poisonous_ratio": (0.2, 0.8)},
    {"delay_max_s": (0.1, 2.0)},
    {"seizure_rate": (0.02, 0.2)},
)


def draw(random: Random) -> Options:
    """The options of one run."""
    chosen: dict[str, float] = {}
    for trouble in TROUBLES:
        if random.random() < 0.35:
            chosen |= {name: random.uniform(*bounds) for name, bounds in trouble.items()}
    return replace(
        Options(),
        generators=random.randint(1, 3),
        edges=random.randint(1, 3),
        requests=random.randint(1, 3),
        readers_per_request=random.choice((1, 1, 1, 2, 3)),
        answer_tokens=random.choice((1, 20, 60, 100, 160)),
        step_s=random.choice((0.1, 0.3, 0.6, 1.0)),
        tokens_per_step=random.randint(2, 8),
        window_tokens=random.choice((1, 4, 16, 32)),
        fixed_window=random.random() < 0.3,
        lease_s=random.uniform(3.0, 8.0),
        prompt_steps=random.choice((1, 1, 4, 12)),
        **chosen,
        **(_crowded(random) if random.random() < 0.4 else {}),
    )


def _crowded(random: Random) -> dict[str, Any]:
    """Fewer slots than requests, shared by their readers' pace."""
    return {
        "slots": random.choice((1, 1, 2)),
        "pace": random.uniform(5.0, 60.0),
        "pace_step": random.randint(1, 8),
        "pace_calm_s": random.uniform(0.0, 10.0),
    }


def calm(options: Options) -> Options:
    """The same system with a network and parts that work. Readers stay as they are."""
    at_rest = {
        f.name: 0.0
        for f in fields(Options)
        if f.name.endswith("_rate")
        or f.name.startswith(("event_", "news_", "call_", "answer_lost"))
    }
    return replace(options, delay_max_s=0.05, **at_rest)
