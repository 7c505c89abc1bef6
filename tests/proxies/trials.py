"""Each client that Lore knows, behind each proxy: what it read, and when the first of it came."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx

from tests import programs
from tests.examples.stack import NODE
from tests.proxies.clients import CLIENTS

HERE = Path(__file__).parent
LIMIT_S = 90.0
QUESTION = "What is a proxy?"
RATE = {"LORE_SYNTHETIC_RATE": "60", "LORE_SYNTHETIC_LENGTH": "150"}
"""Answers of 2.5 s and five windows."""


async def in_node(url: str) -> dict[str, dict[str, Any]]:
    """What Node's clients say. They have to end well, in time."""
    argv, env = (NODE, str(HERE / "clients.mjs"), url, QUESTION), os.environ | {"NO_PROXY": "*"}
    done = await programs.run(*argv, env=env, limit_s=LIMIT_S)
    assert done.status == 0, f"Node: {done.out}{done.err}"
    return json.loads(done.out.strip().rpartition("\n")[2])


async def whole(edge: str, request_id: str) -> str:
    async with httpx.AsyncClient(base_url=edge, trust_env=False) as http:
        return (await http.get(f"/v1/streams/{request_id}")).raise_for_status().json()["text"]


async def all_clients(url: str) -> dict[str, dict[str, Any]]:
    """Side by side, as they would be."""
    async with asyncio.timeout(LIMIT_S):
        here = (ask(url, QUESTION) for ask in CLIENTS.values())
        there, *said = await asyncio.gather(in_node(url), *here)
    return there | dict(zip(CLIENTS, said, strict=True))
