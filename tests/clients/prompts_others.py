"""Raw prompts with LangChain and LiteLLM. Says as JSON what each way answered.

Runs in the environment that has them.
"""

# pyright: reportMissingImports=false

import json
import os
import sys
from typing import Any

import litellm
from langchain_openai import OpenAI

URL, KEY = f"{os.environ['LORE_URL']}/v1", os.environ["OPENAI_API_KEY"]
MODEL, PROMPT = sys.argv[1:]
litellm.suppress_debug_info = True

chain: Any = OpenAI(
    model=MODEL, base_url=URL, api_key=KEY, seed=7, max_tokens=90, temperature=1, max_retries=0
)
lite: dict[str, Any] = {
    "model": f"text-completion-openai/{MODEL}",
    "prompt": PROMPT,
    "api_base": URL,
    "api_key": KEY,
    "seed": 7,
    "max_tokens": 90,
}
told = {
    "langchain": chain.invoke(PROMPT),
    "langchain, streamed": "".join(chain.stream(PROMPT)),
    "litellm": litellm.text_completion(**lite).choices[0].text,
    "litellm, streamed": "".join(
        chunk.choices[0].text or "" for chunk in litellm.text_completion(**lite, stream=True)
    ),
}
print(json.dumps(told))
