"""A whole client of Lore in the standard library: LORE_EDGES="http://…" LORE_QUESTION="…"."""

import json
import os
import time
from contextlib import suppress
from http.client import HTTPException
from secrets import token_hex
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

EDGES, key = os.environ["LORE_EDGES"].split(), os.environ.get("LORE_API_KEY")
KEY = {"Authorization": f"Bearer {key}"} if key else {}
opener = build_opener(ProxyHandler({}))
answer = {"text": "", "seq": 0, "state": "", "log": "", "path": ""}


def call(method, url, body=None, **headers):
    headers |= KEY | {"Content-Type": "application/json"}
    request = Request(url, body and json.dumps(body).encode(), headers, method=method)  # noqa: S310
    return opener.open(request, timeout=5)  # an edge says something more often than that


def somewhere(do, failures=0):  # at one edge after the other, until one can; raises what is final
    while True:
        try:
            return do(EDGES[failures % len(EDGES)])
        except (HTTPException, OSError) as error:
            if isinstance(error, HTTPError) and error.code not in (408, 429, 500, 502, 503, 504):
                raise
            asked = isinstance(error, HTTPError) and error.headers.get("Retry-After")
            time.sleep(float(asked or 0.1 * 2 ** min(failures, 6)))
            failures += 1


def take(name, position, data):  # one event
    if name == "message" and data["seq"] <= answer["seq"] + 1:  # else one is missing: it will come
        if data["seq"] > answer["seq"]:  # else it came twice (P11)
            answer.update(seq=data["seq"], text=answer["text"] + data["text"])
            answer["log"] = position.partition(":")[2] or answer["log"]  # named after a fork (P4)
        with suppress(HTTPError):  # the next ack says it as well (P9)
            somewhere(lambda e: call("POST", e + answer["path"] + "/ack", {"seq": answer["seq"]}))
    elif name == "state" and data["status"] == "reaped":  # P16
        somewhere(lambda edge: call("POST", edge + answer["path"] + "/revive"))
    elif name == "end" and data["last_seq"] == answer["seq"]:
        answer["state"] = data["status"]
    elif name == "error" and data["error"]["code"] in ("history_lost", "given_up"):
        answer["state"] = "lost"


def read(edge):  # one connection, from where we are (P12)
    after, event = f"?after={answer['seq']}:{answer['log']}", {}
    with call("GET", edge + answer["path"] + after, Accept="text/event-stream") as response:
        if response.status == 204:  # everything is here: how did it end?
            answer["state"] = json.load(call("GET", edge + answer["path"]))["status"]
        for line in response:
            field, _, value = line.decode(errors="replace").rstrip("\n").partition(": ")
            if not field and "data" in event:
                take(event.get("event", "message"), event.get("id", ""), json.loads(event["data"]))
            event = event | {field: value} if field else {}
    if not answer["state"]:
        raise OSError("the response is over, and the answer is not (P14)")


try:
    question, once = {"question": os.environ["LORE_QUESTION"]}, {"Idempotency-Key": token_hex(16)}
    view = json.load(somewhere(lambda edge: call("POST", edge + "/v1/streams", question, **once)))
    answer.update(log=view["log_id"], path=f"/v1/streams/{view['request_id']}")
    somewhere(read)
except HTTPError as error:
    answer["state"] = "lost" if error.code == 410 else "refused"
print(json.dumps({"text": answer["text"], "state": answer["state"]}))
