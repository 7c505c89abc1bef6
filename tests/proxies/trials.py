"""Each client that Lore knows, behind each proxy: what it read, and when the first of it came."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx

from tests import programs
from tests.examples.stack import NODE

HERE = Path(__file__).parent
LIMIT_S = 90.0
QUESTION = "What is a proxy?"
PYTHON = (sys.executable, str(HERE / "clients.py"))
NODE_JS = (NODE, str(HERE / "clients.mjs"))
CLIENTS: dict[str, tuple[str, ...]] = {
    "lore.js": (*NODE_JS, "lore"),
    "the Python reader": (*PYTHON, "reader"),
    "OpenAI for Python, chat": (*PYTHON, "chat"),
    "OpenAI for Python, responses": (*PYTHON, "responses"),
    "OpenAI for Node, chat": (*NODE_JS, "chat"),
    "OpenAI for Node, responses": (*NODE_JS, "responses"),
}
RATE = {"LORE_SYNTHETIC_RATE": "60", "LORE_SYNTHETIC_LENGTH": "150"}
"""Answers of 2.5 s and five windows."""


async def trial(client: str, url: str) -> dict[str, Any]:
    """What the program says. It has to end well, in time."""
    env = os.environ | {"NO_PROXY": "*", "PYTHONPATH": str(HERE.parents[1])}
    done = await programs.run(*CLIENTS[client], url, QUESTION, env=env, limit_s=LIMIT_S)
    assert done.status == 0, f"{client}: {done.out}{done.err}"
    return json.loads(done.out.strip().rpartition("\n")[2])


async def whole(edge: str, request_id: str) -> str:
    async with httpx.AsyncClient(base_url=edge, trust_env=False) as http:
        return (await http.get(f"/v1/streams/{request_id}")).raise_for_status().json()["text"]


async def all_clients(url: str) -> dict[str, dict[str, Any]]:
    """Side by side, as they would be."""
    said = await asyncio.gather(*(trial(client, url) for client in CLIENTS))
    return dict(zip(CLIENTS, said, strict=True))
