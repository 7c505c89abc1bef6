"""What the window is for: tokens for those who read, and none for those who have left.

More readers than the model has slots ask at once. 30 % of them leave after a few words, 20 % read
slowly, the others take what comes. With the window a slot goes to the next who reads; beside it
the same load with the window off (every answer is made to its end), and with an answer cancelled
when its reader's connection goes, as servers do that know nothing of coming back. When all healthy
readers are done the tokens are counted; then those who left come back for their answers.

Usage: python -m loadtest.bench.useful [--engines transformers synthetic] [--rounds 3]
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from loadtest.harness import taps
from loadtest.harness.crowd import HEALTHY, VANISHING, Crowd, Member, mixed
from loadtest.harness.prompts import GREEDY, prompts_of
from loadtest.harness.record import Report, middle, options, quantile, ratio
from loadtest.harness.stage import Stage
from lore.store import ValkeyStore
from lore_client import Reader

VANISHING_SHARE, SLOW_SHARE = 0.3, 0.2
PATIENCE_S = 900.0
WINDOW = "window"
SIDES = {
    WINDOW: {"ack": "client", "stops": False},
    "window off": {"ack": "none", "stops": False},
    "abort on disconnect": {"ack": "none", "stops": True},
}
HEAD = (
    "engine",
    "side",
    "generated",
    "delivered",
    "acknowledged",
    "for nobody, a vanished reader: mean",
    "most",
    "healthy done: median s",
    "last s",
    "off / this",
    "answers lost",
)


@dataclass(frozen=True)
class Load:
    engine: str
    readers: int
    slots: int
    tokens: int
    """An answer's mean: each is between half and one and a half as long."""
    slow_every_s: float
    settings: dict[str, Any]


LOADS = {
    "transformers": Load("transformers", 24, 8, 96, 0.5, {"threads": 2}),
    "synthetic": Load(
        "synthetic", 150, 50, 200, 0.25, {"synthetic_rate": 20, "synthetic_length": 300}
    ),
}


@dataclass(frozen=True)
class Sample:
    generated: int
    delivered: int
    acked: int
    wasted: list[int]
    """For each reader who vanished: generated and not delivered before it came back."""
    healthy_s: list[float]
    lost: int


async def measure(load: Load, turn: int, side: dict[str, Any]) -> Sample:
    members = mixed(load.readers, VANISHING_SHARE, SLOW_SHARE)
    async with Stage() as stage:
        await stage.generator(engine=load.engine, slots=load.slots, **load.settings)
        ports = [(await stage.edge())[1] for _ in range(2)]
        store = ValkeyStore(stage.valkey_url)
        await store.connect()
        try:
            async with Reader([f"http://127.0.0.1:{port}" for port in ports]) as reader:
                crowd = Crowd(reader, members, **side, slow_every_s=load.slow_every_s)
                async with asyncio.timeout(PATIENCE_S):
                    return await _turn(crowd, members, store, load, turn)
        finally:
            await store.close()


async def _turn(
    crowd: Crowd, members: Sequence[Member], store: ValkeyStore, load: Load, turn: int
) -> Sample:
    rng = random.Random(turn)  # the same lengths on every side
    bodies = [
        {"messages": [{"role": "user", "content": prompt}], "max_tokens": length, **GREEDY}
        for prompt in prompts_of(turn, len(members))
        for length in [rng.randint(load.tokens // 2, load.tokens * 3 // 2)]
    ]
    began_s = time.perf_counter()
    await crowd.ask(bodies)
    slow = await crowd.until_the_healthy_are_done(began_s)
    generated = delivered = acked = 0
    wasted: list[int] = []
    for member in members:
        view = await store.view(member.request_id)
        assert view is not None
        log = await store.log(member.request_id)
        had = log[member.seq - 1].tokens if member.seq else 0
        generated += view.generated_tokens
        delivered += had
        acked += view.acked_tokens
        if member.kind == VANISHING:
            wasted.append(view.generated_tokens - had)
    healthy_s = [member.done_s for member in members if member.kind == HEALTHY]
    await crowd.see_all_again(slow, began_s)
    lost = 0
    for member in members:
        text = "".join(chunk.text for chunk in await store.log(member.request_id))
        lost += not member.complete or member.text != text
    return Sample(generated, delivered, acked, wasted, healthy_s, lost)


def row(load: Load, name: str, samples: list[Sample], off: list[Sample]) -> list[str]:
    done_s = middle(quantile(s.healthy_s, 0.5) for s in samples)
    return [
        f"{load.engine}, {load.readers} readers, {load.slots} slots",
        name,
        f"{middle(s.generated for s in samples):,.0f}",
        f"{middle(s.delivered for s in samples):,.0f}",
        f"{middle(s.acked for s in samples):,.0f}" if name == WINDOW else "-",
        f"{middle(sum(s.wasted) / len(s.wasted) for s in samples):.1f}",
        f"{max(max(s.wasted) for s in samples)}",
        f"{done_s:.1f}",
        f"{middle(max(s.healthy_s) for s in samples):.1f}",
        ratio(middle(quantile(s.healthy_s, 0.5) for s in off), done_s)
        + " / "
        + ratio(middle(max(s.healthy_s) for s in off), middle(max(s.healthy_s) for s in samples)),
        f"{sum(s.lost for s in samples)} of {sum(load.readers for _ in samples)}",
    ]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--engines", nargs="+", choices=tuple(LOADS), default=list(LOADS))
    parser.add_argument("--device", help="as LORE_DEVICE_MAP, for transformers")
    parser.add_argument("--model", help="as LORE_MODEL, for transformers")
    chosen = parser.parse_args()
    taps.raise_file_limit()
    report = Report("Tokens wasted on readers who left", "python -m loadtest.bench.useful")
    report.say(
        f"{VANISHING_SHARE:.0%} of the readers leave after a few chunks, {SLOW_SHARE:.0%} take one "
        "chunk in half a second (a quarter on the synthetic engine); answers of about "
        + " and ".join(f"{LOADS[name].tokens} tokens ({name})" for name in chosen.engines)
        + f". Medians of {chosen.rounds} turns of each side; tokens are counted when the last "
        "healthy reader is done. Two edges, one generator."
    )
    rows: list[list[str]] = []
    for name in chosen.engines:
        load = LOADS[name]
        if name == "transformers":
            given = {"device_map": chosen.device, "model": chosen.model}
            load.settings.update({key: value for key, value in given.items() if value})
        samples: dict[str, list[Sample]] = {side: [] for side in SIDES}
        for turn in range(chosen.rounds):
            for side, how in SIDES.items():
                samples[side].append(uvloop.run(measure(load, turn, how)))
        rows += [row(load, side, some, samples["window off"]) for side, some in samples.items()]
    report.table(HEAD, rows)
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()
