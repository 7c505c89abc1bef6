"""Calls are counted in real services, in both parts."""

import uvloop

from loadtest.bench.calls import count, rows
from loadtest.harness.sides import Load


def test_calls_are_counted_while_chunks_are_delivered() -> None:
    chunks, calls = uvloop.run(count(Load(streams=2, rate=20.0, seconds=0.5)))
    assert chunks > 0
    pushed = calls["edge"]["ours", "ring.Ring.push"]
    assert 0.5 * chunks <= pushed <= 2 * chunks  # chunks at the ends of the interval aside
    assert calls["generator"]["ours", "producer.Producer.pass_on"] > 0
    assert calls["generator"]["builtins", "<built-in method builtins.len>"] > 0
    assert [row[0] for row in rows(chunks, calls)] == ["generator", "edge"]
