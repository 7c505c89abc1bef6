"""A real vLLM server, on the CPU: of the environment whose Python ``LORE_TEST_VLLM`` names."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from tests.engines.server import BEST, EngineServer, Step, gguf

CONTEXT_TOKENS = 2048


def python() -> Path | None:
    named = os.environ.get("LORE_TEST_VLLM")
    return Path(named) if named else None


def missing() -> str:
    """Why there is none, or ''."""
    found = python()
    if found is None:
        return "a real vLLM is tried when asked for (make test-engines)"
    if not found.is_file():
        return f"LORE_TEST_VLLM: no Python at {found}"
    return "" if gguf() else "the default model is not installed"


@cache
def folder() -> Path:
    """SmolLM2 unpacked: vLLM reads no GGUF file."""
    from lore_generator.engines.unpacked import unpacked  # it takes seconds

    file = gguf()
    assert file is not None
    found = unpacked(file, None)
    assert found is not None
    return found


class VllmServer(EngineServer):
    dialect = "vllm"
    wait_s = 600.0
    model = "smollm2"

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options

    def argv(self) -> list[str]:
        argv = [str(python()), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder())]
        argv += ["--served-model-name", self.model, "--port", str(self.port)]
        argv += ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(CONTEXT_TOKENS)]
        return [*argv, *self._options]

    def environment(self) -> Mapping[str, str]:
        return {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            # Threads that wait for each other make no progress where others use the cores.
            "OMP_NUM_THREADS": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }

    def prompt(self, content: str) -> list[int]:
        messages = [{"role": "user", "content": content}]
        return self.post("/tokenize", model=self.model, messages=messages)["tokens"]

    def steps(self, prompt: Sequence[int], tokens: int) -> list[Step]:
        body: dict[str, Any] = {"model": self.model, "prompt": list(prompt), "max_tokens": tokens}
        body |= {"temperature": 0, "repetition_penalty": 1, "logprobs": BEST}
        body |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
        (choice,) = self.post("/v1/completions", **body)["choices"]
        return [
            Step(token, tuple(sorted(_ids(best), key=lambda one: -one[1])))
            for token, best in zip(
                choice["token_ids"], choice["logprobs"]["top_logprobs"], strict=True
            )
        ]

    def busy(self) -> int:
        return self._metric("num_requests_running") + self._metric("num_requests_waiting")

    def made(self) -> int:
        """Tokens that it has made, for all calls."""
        return self._metric("generation_tokens_total")

    def calls(self) -> int:
        """Those that have ended or were broken off."""
        return self._metric("request_success_total")

    def _metric(self, name: str) -> int:
        page = httpx.get(f"{self.url}/metrics", timeout=60, trust_env=False).text
        found = re.findall(rf"^vllm:{name}\{{.*\}} (\S+)", page, re.MULTILINE)
        assert found, name
        return int(sum(map(float, found)))


def _ids(best: Mapping[str, float]) -> list[tuple[int, float]]:
    return [(int(name.removeprefix("token_id:")), value) for name, value in best.items()]
