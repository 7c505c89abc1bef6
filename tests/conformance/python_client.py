"""The Python package under the conformance suite."""

import asyncio
import json
import os

from lore_client import Cancelled, End, Failed, HistoryLost, Reader, Refused, Text

ENDS = {Cancelled: "cancelled", Failed: "failed", HistoryLost: "lost", Refused: "refused"}


async def ask() -> tuple[str, str]:
    text, edges = "", os.environ["LORE_EDGES"].split()
    async with Reader(edges, api_key=os.environ.get("LORE_API_KEY")) as reader:
        try:
            asked = await reader.create(os.environ["LORE_QUESTION"])
            stream = reader.stream(asked.request_id, log_id=asked.log_id, revive=True)
            async for event in stream:
                if isinstance(event, Text):
                    text += event.text
                if isinstance(event, End):
                    return text, event.status
        except tuple(ENDS) as error:
            return text, ENDS[type(error)]
    raise AssertionError("a stream that is over has an end")


text, state = asyncio.run(ask())
print(json.dumps({"text": text, "state": state}))
