"""Write README.md's table of clients and parameters from the code: ``make readme``.

What a parameter takes comes from the models that check it; which clients were tried, in which
ways, from the programs beside this one; their versions from the files that pin them.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from lore_edge.openai.chat_request import ChatRequest
from lore_edge.openai.completion_request import CompletionRequest
from lore_edge.openai.neutral import ChatNeutral, CompletionNeutral, Neutral, ResponseNeutral
from lore_edge.openai.parameters import Honoured, Parameters, takes
from lore_edge.openai.responses_request import ResponseRequest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BEGIN, END = "<!-- made by: make readme -->", "<!-- made until here -->"
LABELS = {"user", "safety_identifier", "prompt_cache_key"}
IGNORED = {"chat": LABELS | {"store"}, "completions": {"user"}, "responses": LABELS}
"""Taken whatever they say, as they change no answer."""
CALLS: dict[str, tuple[type[Honoured], type[Parameters]]] = {
    "chat": (ChatRequest, ChatNeutral),
    "completions": (CompletionRequest, CompletionNeutral),
    "responses": (ResponseRequest, ResponseNeutral),
}
OTHERS = {"add_special_tokens", "return_token_ids", *Neutral.model_fields} - {
    *("moderation", "prompt_cache_options", "prompt_cache_retention"),
    *("service_tier", "top_logprobs"),
}
"""Not OpenAI's."""


def _pinned(name: str) -> str:
    found = re.search(rf"^{name}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def _installed_beside(name: str) -> str:
    found = re.search(rf"\b{name}==(\S+)", (ROOT / "Makefile").read_text())
    assert found is not None
    return found[1]


def _locked(name: str) -> str:
    lock = json.loads((ROOT / "examples" / "package-lock.json").read_text())
    return lock["packages"][f"node_modules/{name}"]["version"]


def _ways(program: str, prefix: str) -> str:
    """What the program calls its ways, without what they have in common."""
    text = (ROOT / "tests" / "clients" / program).read_text()
    keys = re.findall(rf'^ +"{prefix}([^"]*)":', text, re.MULTILINE)
    return "; ".join(f"`{key.strip(' ,')}`" if key.strip(" ,") else "`chat`" for key in keys)


def clients() -> list[str]:
    rows = [
        ("OpenAI SDK for Python", _pinned("openai"), _ways("openai_python.py", "")),
        ("OpenAI SDK for Node", _locked("openai"), _ways("conversations.mjs", "node ")),
        ("Vercel AI SDK", _locked("ai"), _ways("conversations.mjs", "ai sdk ")),
        (
            "LangChain",
            _installed_beside("langchain-openai"),
            _ways("langchain_litellm.py", "langchain"),
        ),
        ("LiteLLM", _installed_beside("litellm"), _ways("langchain_litellm.py", "litellm")),
        ("OpenAI Agents SDK", _installed_beside("openai-agents"), "only the loop and the schema"),
    ]
    head = [
        "| client | version | tried, three turns for each way an answer can end |",
        "|---|---|---|",
    ]
    return head + [f"| {' | '.join(row)} |" for row in rows]


def parameters() -> list[str]:
    rows: dict[str, list[str]] = {"honoured": [], "ignored": [], "neutral": [], "refused": []}
    for call, (model, neutral) in CALLS.items():
        own = [name for name in model.model_fields if name not in neutral.model_fields]
        told = {name: takes(neutral, name) for name in neutral.model_fields if name not in OTHERS}
        rows["honoured"].append(_names(name for name in own if name not in IGNORED[call]))
        rows["ignored"].append(_names(IGNORED[call]))
        rows["neutral"].append(
            ", ".join(f"`{name}` ({value})" for name, value in sorted(told.items()) if value)
        )
        rows["refused"].append(_names(name for name, value in told.items() if not value))
    says = {
        "honoured": "honoured",
        "ignored": "taken, changes nothing",
        "neutral": "taken only with this value, else refused",
        "refused": "refused, unless null or an empty list",
    }
    head = ["| | chat completions | completions | responses |", "|---|---|---|---|"]
    return head + [f"| {says[kind]} | {' | '.join(found)} |" for kind, found in rows.items()]


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def rendered(text: str) -> str:
    """README.md as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join([*clients(), "", *parameters()])
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
