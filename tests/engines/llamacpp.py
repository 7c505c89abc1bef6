"""A real llama.cpp server: Debian's, or the one that ``LORE_TEST_LLAMA_SERVER`` names."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.engines.server import BEST, EngineServer, Step, gguf

UNPACKED = Path(__file__).parents[2] / ".venv" / "llamacpp" / "llama-server"


def command() -> list[str] | None:
    """How it is started, or None where there is none."""
    named = os.environ.get("LORE_TEST_LLAMA_SERVER")
    if named:
        return shlex.split(named)
    return [str(UNPACKED)] if UNPACKED.is_file() else None


def missing() -> str:
    """Why there is none, or ''."""
    if command() is None:
        return "no llama.cpp here (make setup unpacks Debian's)"
    return "" if gguf() else "the default model is not installed"


class LlamaServer(EngineServer):
    dialect = "llamacpp"
    wait_s = 60.0

    def __init__(
        self,
        *options: str,
        slots: int = 4,
        context_tokens: int = 2048,
        prefix: tuple[str, ...] = (),
    ) -> None:
        """``context_tokens``: of each slot."""
        super().__init__()
        self._options = options
        self._sizes = slots, context_tokens
        self._prefix = prefix

    def argv(self) -> list[str]:
        program, model = command(), gguf()
        assert program is not None
        assert model is not None
        slots, context_tokens = self._sizes
        argv = [*self._prefix, *program, "--model", str(model), "--port", str(self.port)]
        argv += ["--threads", "1", "--parallel", str(slots)]
        argv += ["--ctx-size", str(context_tokens * slots)]
        return [*argv, "--metrics", *self._options]

    def prompt(self, content: str) -> list[int]:
        messages = [{"role": "user", "content": content}]
        text = self.post("/apply-template", messages=messages)["prompt"]
        body = {"content": text, "add_special": True, "parse_special": True}
        return self.post("/tokenize", **body)["tokens"]

    def steps(self, prompt: Sequence[int], tokens: int) -> list[Step]:
        body: dict[str, Any] = {"prompt": list(prompt), "n_predict": tokens, "temperature": 0}
        body |= {"n_probs": BEST, "cache_prompt": False, "return_tokens": True}
        answer = self.post("/completion", **body)
        # It leaves out those that are a part of a character, as in its stream.
        found = answer.get("completion_probabilities", [])[::-1]
        steps: list[Step] = []
        for token in answer["tokens"]:
            is_told = bool(found) and found[-1]["id"] == token
            best = found.pop()["top_logprobs"] if is_told else []
            steps.append(Step(token, tuple((one["id"], one["logprob"]) for one in best)))
        return steps

    def decodes(self) -> int:
        """Steps that it has made: for one call, one that reads a short prompt and one a token."""
        page = httpx.get(f"{self.url}/metrics", timeout=60, trust_env=False).text
        found = re.search(r"^llamacpp:n_decode_total (\S+)", page, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))

    def busy(self) -> int:
        slots = httpx.get(f"{self.url}/slots", timeout=60, trust_env=False).json()
        return sum(slot["is_processing"] for slot in slots)
