"""An answer that is made to its end, read through any number of cuts with the OpenAI SDK.

    pip install openai
    OPENAI_BASE_URL=http://localhost:8080/v1 OPENAI_API_KEY=lore_… python openai_background.py

Cut the network, kill the edge: it goes on where it was. Kill this program and start it again
with the id that it printed instead of a question: it reads the same answer.
"""

import sys
import time

from openai import APIConnectionError, OpenAI

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What is a closure?"
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")

client = OpenAI()
(model,) = client.models.list()  # an edge serves one

if QUESTION.startswith("resp_"):
    response_id = QUESTION
else:
    response_id = client.responses.create(model=model.id, input=QUESTION, background=True).id
print(response_id, file=sys.stderr)

last = 0  # event 0 only says what create() has said
ended = ""
while not ended:
    try:
        for event in client.responses.retrieve(response_id, stream=True, starting_after=last):
            last = event.sequence_number
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
            elif event.type in ENDS:
                ended = event.type
    except APIConnectionError:
        time.sleep(1)  # then from after the last event that came, on any edge
print()
if ended != "response.completed":
    sys.exit(f"the answer ended early: {ended}")
