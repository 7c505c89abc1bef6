"""A streamed chat with the OpenAI SDK as it is: only its two variables point to Lore.

pip install openai
OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_API_KEY=lore_… python openai_chat.py
"""

import sys

from openai import OpenAI

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is a closure?"

client = OpenAI()
(model,) = client.models.list()  # an edge serves one

chunks = client.chat.completions.create(
    model=model.id, messages=[{"role": "user", "content": QUESTION}], stream=True
)
for number, chunk in enumerate(chunks):
    if number == 0:  # client.chat.completions.retrieve() gives the same answer by this id
        print(chunk.id, file=sys.stderr)
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
