"""The bare pipe's first half: the same engine, and a PUBLISH for each piece of text.

With ``--log`` there is an XADD before it, as whoever wants to resume needs one. What a step of
the engine brought goes out in one write. Usage: pipe_producer PORT STREAMS RATE LENGTH TIMES
"""

import asyncio
import functools
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import libvalkey
import uvloop

from loadtest.harness.timed_generator import start_writer
from lore.messages import Message
from lore.request import StreamRequest
from lore_edge.wire import sse
from lore_generator.engine import Job, Piece
from lore_generator.engines.options import SyntheticOptions
from lore_generator.engines.synthetic import SyntheticEngine

SPREAD_S = 1.0  # the streams' beginnings, so that they are not in step


class Replies(asyncio.Protocol):
    """Read, so that the server can go on, and thrown away."""

    def __init__(self) -> None:
        self._parser = libvalkey.Reader(notEnoughData=None)

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        while self._parser.gets() is not None:
            pass


class Producer:
    def __init__(self, transport: asyncio.Transport, *, log: bool) -> None:
        self.notes: list[tuple[str, int, int, float]] = []
        self._transport = transport
        self._log = log
        self._seqs: dict[str, int] = {}

    def on_pieces(self, pieces: Sequence[Piece]) -> None:
        out: list[bytes] = []
        for piece in pieces:
            if not piece.text:
                continue
            name = piece.request_id
            seq = self._seqs[name] = self._seqs.get(name, 0) + 1
            event = sse.chunk(seq, piece.text, seq, str(seq))
            if self._log:
                out.append(libvalkey.pack_command(("XADD", f"log:{name}", f"{seq}-0", "e", event)))
            out.append(libvalkey.pack_command(("PUBLISH", name, event)))
            self.notes.append((name, seq, seq, time.perf_counter()))
        self._transport.write(b"".join(out))


async def main(
    port: int, streams: int, rate: float, length: int, times: Path, *, log: bool
) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(Replies, "127.0.0.1", port)
    producer = Producer(cast("asyncio.Transport", transport), log=log)
    start_writer(producer.notes, times)
    engine = SyntheticEngine(SyntheticOptions(rate, length, slots=streams))
    engine.start(lambda pieces: loop.call_soon_threadsafe(producer.on_pieces, pieces) and None)
    for number in range(streams):
        request = StreamRequest(
            messages=[Message(role="user", content=f"What is {number}?")], max_tokens=length
        )
        submit = functools.partial(engine.submit, Job(f"s{number}", request), None)
        loop.call_later(random.uniform(0, SPREAD_S), submit)
    await asyncio.Event().wait()


if __name__ == "__main__":
    _, port, streams, rate, length, times, *options = sys.argv
    uvloop.run(
        main(int(port), int(streams), float(rate), int(length), Path(times), log="--log" in options)
    )
