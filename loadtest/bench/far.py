"""Whether the window holds back a healthy reader who is far away, through a proxy that delays.

Real edges, Valkey and generator (the synthetic engine), and Lore's own client behind a path with
a round trip, the window on and off by turns. `pauses` is how often an answer stood still for its
window. `starved` is how long somebody who reads three quarters as fast as the model speaks, 15
tokens a second at most, had nothing left to read once there was something.

Usage: python -m loadtest.bench.far [--rtts 0 0.1 0.3 0.5 1] [--rates 20 50 100] [--streams 10]
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import uvloop

from loadtest.harness.far import Far
from loadtest.harness.record import Report, middle, options, ratio
from loadtest.harness.stage import Stage
from loadtest.window.runs import READING, starved_s
from lore.store import ValkeyStore
from lore_client import Reader, State, Text

SECONDS = 10.0
"""So long an answer takes when nothing holds it back."""
SIDES = {"on": "client", "off": "none"}
HEAD = (
    "round trip ms",
    "tokens/s",
    "window",
    "first text ms",
    "pauses an answer",
    "first text to last s",
    "to the window off",
    "starved s: mean",
    "most",
)


@dataclass
class Seen:
    """Of one answer, by its reader."""

    request_id: str = ""
    first_s: float = 0.0
    pauses: int = 0
    chunks: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    starved_s: float = 0.0

    @property
    def lasted_s(self) -> float:
        return self.chunks[-1][0] - self.chunks[0][0]


async def measure(rtt_s: float, rate: float, streams: int, ack: str) -> list[Seen]:
    async with Stage() as stage, AsyncExitStack() as stack:
        length = round(rate * SECONDS)
        await stage.generator(synthetic_rate=rate, synthetic_length=length)
        _, port = await stage.edge()
        far = await stack.enter_async_context(Far(port, rtt_s / 2))
        reader = await stack.enter_async_context(Reader([f"http://127.0.0.1:{far.port}"]))
        seen = await asyncio.gather(*(_read(reader, n, length, ack) for n in range(streams)))
        store = ValkeyStore(stage.valkey_url)
        await store.connect()
        stack.push_async_callback(store.close)
        for one in seen:
            log = await store.log(one.request_id)
            texts = [(when_s, log[seq - 1].tokens) for when_s, seq in one.chunks]
            one.starved_s = starved_s(texts, min(READING, rate * 0.75))
        return seen


async def _read(reader: Reader, number: int, length: int, ack: str) -> Seen:
    began_s = time.perf_counter()
    asked = await reader.create(f"What is {number}?", seed=number, max_tokens=length, ack=ack)
    seen = Seen(asked.request_id)
    async with reader.stream(asked.request_id, acks=ack == "client") as stream:
        async for event in stream:
            now = time.perf_counter()
            if isinstance(event, Text):
                seen.chunks.append((now, event.seq))
            elif isinstance(event, State) and event.reason == "paused":
                seen.pauses += 1
    seen.first_s = seen.chunks[0][0] - began_s
    return seen


def row(rtt_s: float, rate: float, window: str, some: Sequence[Seen], off_s: float) -> list[str]:
    lasted_s = middle(one.lasted_s for one in some)
    return [
        f"{rtt_s * 1000:g}",
        f"{rate:g}",
        window,
        f"{middle(one.first_s for one in some) * 1000:.0f}",
        f"{sum(one.pauses for one in some) / len(some):.1f}",
        f"{lasted_s:.2f}",
        ratio(lasted_s, off_s),
        f"{sum(one.starved_s for one in some) / len(some):.2f}",
        f"{max(one.starved_s for one in some):.2f}",
    ]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rtts", type=float, nargs="+", default=[0.0, 0.1, 0.3, 0.5, 1.0])
    parser.add_argument("--rates", type=float, nargs="+", default=[20.0, 50.0, 100.0])
    parser.add_argument("--streams", type=int, default=10)
    parser.set_defaults(rounds=1)
    chosen = parser.parse_args()
    report = Report("A healthy reader far away", "python -m loadtest.bench.far")
    report.say(
        f"{chosen.streams} readers, answers of {SECONDS:g} s; medians over the readers of "
        f"{chosen.rounds} turns of each side."
    )
    rows: list[list[str]] = []
    for rate in chosen.rates:
        for rtt_s in chosen.rtts:
            seen: dict[str, list[Seen]] = {side: [] for side in SIDES}
            for _ in range(chosen.rounds):
                for side, ack in SIDES.items():
                    seen[side] += uvloop.run(measure(rtt_s, rate, chosen.streams, ack))
            off_s = middle(one.lasted_s for one in seen["off"])
            rows += [row(rtt_s, rate, side, some, off_s) for side, some in seen.items()]
    report.table(HEAD, rows)
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()
