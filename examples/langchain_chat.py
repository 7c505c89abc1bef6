"""Two turns with LangChain, the second streamed: only its two variables point to Lore.

    pip install langchain-openai
    OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_API_KEY=lore_… python langchain_chat.py

A call that is repeated under its ``Idempotency-Key`` is the same answer, whatever was cut.
"""

import sys
import uuid

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from openai import OpenAI

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is a closure?"

(model,) = OpenAI().models.list()  # an edge serves one
chat = ChatOpenAI(model=model.id)

messages = [HumanMessage(QUESTION)]
first = chat.invoke(messages, extra_headers={"Idempotency-Key": str(uuid.uuid4())})
print(first.text)

messages += [first, HumanMessage("Say that again in other words.")]
for chunk in chat.stream(messages):
    print(chunk.text, end="", flush=True)
print()
