"""Two turns with LiteLLM, the second streamed: only its two variables point to Lore.

    pip install litellm
    OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_API_KEY=lore_… python litellm_chat.py

A call that is repeated under its ``Idempotency-Key`` is the same answer, whatever was cut.
"""

import sys
import uuid

import litellm
from openai import OpenAI

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is a closure?"

(served,) = OpenAI().models.list()  # an edge serves one
model = f"openai/{served.id}"

messages = [{"role": "user", "content": QUESTION}]
key = {"Idempotency-Key": str(uuid.uuid4())}
first = litellm.completion(model=model, messages=messages, extra_headers=key)
print(first.choices[0].message.content)

messages += [
    first.choices[0].message,
    {"role": "user", "content": "Say that again in other words."},
]
for chunk in litellm.completion(model=model, messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
