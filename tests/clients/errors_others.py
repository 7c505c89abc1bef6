"""What LangChain and LiteLLM make of each fault, as errors_python.py says it."""

# pyright: reportMissingImports=false

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litellm
from langchain_openai import ChatOpenAI

litellm.suppress_debug_info = True


def langchain(url: str, key: str, model: str, question: str) -> None:
    ChatOpenAI(model=model, base_url=url, api_key=key, max_retries=1).invoke(question)


def langchain_stream(url: str, key: str, model: str, question: str) -> None:
    for _ in ChatOpenAI(model=model, base_url=url, api_key=key, max_retries=1).stream(question):
        pass


def lite(url: str, key: str, model: str, question: str, **more: Any) -> Any:
    return litellm.completion(
        model=f"openai/{model}",
        api_base=url,
        api_key=key,
        messages=[{"role": "user", "content": question}],
        max_retries=1,
        **more,
    )


def lite_stream(url: str, key: str, model: str, question: str) -> None:
    for _ in lite(url, key, model, question, stream=True):
        pass


WAYS = {
    "langchain": langchain,
    "langchain, streamed": langchain_stream,
    "litellm": lite,
    "litellm, streamed": lite_stream,
}


def ask(fault: str, url: str, way: str) -> dict[str, Any]:
    model = "gpt-4" if fault == "wrong_model" else "synthetic"
    try:
        WAYS[way](f"{url}/v1", way.replace(" ", "_"), model, f"{fault} {way}")
    except Exception as error:  # noqa: BLE001 - each library has its own
        return {
            "error": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": getattr(error, "code", None),
        }
    return {"ended": None}


KEYS = [(fault, url, way) for fault, url in json.loads(sys.argv[1]).items() for way in WAYS]
with ThreadPoolExecutor(len(KEYS)) as pool:
    SAID = list(pool.map(lambda key: ask(*key), KEYS))
print(json.dumps({f"{key[0]}/{key[2]}": said for key, said in zip(KEYS, SAID, strict=True)}))
