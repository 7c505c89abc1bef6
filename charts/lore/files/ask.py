"""Ask, be cut off again and again, resume, and compare every character (protocol P1, P12).

    EDGE_URL=http://lore-edge API_KEY=lore_… python ask.py

Exit status 0 when all readers have the same text as the log, else 1 with a line that says why.
"""

import asyncio
import os
import sys

from lore_client import End, LoreError, Reader, ReaderConfig, Text

QUESTION = "What is a linked list? Explain it in some detail, with an example."
TOKENS = 120
CUT_AFTER_CHUNKS = 5
CONFIG = ReaderConfig(patience_s=120.0, stream_patience_s=240.0)


class Different(Exception):
    """Two that should have the same text have not."""


async def cut_and_resumed(reader: Reader, request_id: str) -> tuple[str, int]:
    """The text as read over many connections, each left after a few chunks; and how many."""
    text, position, log_id, connections = "", 0, "", 0
    while True:
        connections += 1
        chunks = 0
        async with reader.stream(request_id, after=position, log_id=log_id) as stream:
            async for event in stream:
                if isinstance(event, Text):
                    text += event.text
                    chunks += 1
                elif isinstance(event, End):
                    return text, connections
                if chunks == CUT_AFTER_CHUNKS:
                    break
            position, log_id = stream.position, stream.log_id


async def in_one_go(reader: Reader, request_id: str) -> str:
    text = ""
    async with reader.stream(request_id) as stream:
        async for event in stream:
            if isinstance(event, Text):
                text += event.text
    return text


def compare(who: str, text: str, truth: str) -> None:
    if text == truth:
        return
    pairs = enumerate(zip(text, truth, strict=False))
    at = next((n for n, (one, other) in pairs if one != other), min(len(text), len(truth)))
    raise Different(
        f"{who} has {len(text)} characters, the log {len(truth)}; they differ from {at} on"
    )


async def main() -> None:
    edges, key = [os.environ["EDGE_URL"]], os.environ.get("API_KEY")
    async with Reader(edges, config=CONFIG, api_key=key) as reader:
        asked = await reader.create(QUESTION, max_tokens=TOKENS)
        async with asyncio.TaskGroup() as tasks:
            cut = tasks.create_task(cut_and_resumed(reader, asked.request_id))
            whole = tasks.create_task(in_one_go(reader, asked.request_id))
        view = await reader.view(asked.request_id)
        text, connections = cut.result()
        late = await in_one_go(reader, asked.request_id)
    if view.status != "done" or not view.text or connections < 2:
        raise Different(
            f"status {view.status}, {len(view.text)} characters, {connections} connections"
        )
    compare("the reader that was cut off", text, view.text)
    compare("the reader that was not", whole.result(), view.text)
    compare("the reader that came late", late, view.text)
    print(
        f"{len(view.text)} characters over {connections} connections, and all three readers agree"
    )


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except* (LoreError, Different) as errors:
        sys.exit("; ".join(str(error) for error in errors.exceptions))
