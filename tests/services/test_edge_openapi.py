"""The API keeps to its description, whatever is asked of it.

Requests are drawn from ``GET /openapi.json``, right ones and wrong ones. Every run draws the
same; LORE_SEED=n draws others.
"""

import asyncio
import json
import os
import re
import threading
from collections.abc import Iterator
from itertools import cycle
from typing import Any, Self

import jsonschema_rs
import pytest
import requests
import schemathesis
import uvloop
from hypothesis import HealthCheck, seed, settings
from schemathesis import Case, CheckContext, CheckFunction, HookContext, Response
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from lore_client.sse import SseParser
from lore_edge.admission.create import MAX_KEY_CHARS
from lore_edge.admission.served_model import NAMELESS
from lore_edge.reference.openai import TAG
from lore_edge.reference.openapi import describe
from tests.services.auth_harness import KeyRing, bearer
from tests.services.edge_harness import running_edge
from tests.services.self_answering import SelfAnsweringStore

SEED = int(os.environ.get("LORE_SEED", "0"))
CALL_TIMEOUT_S = 10
JSON, STREAM = "application/json", "text/event-stream"

DOCUMENT = describe()
CONFIG: dict[str, Any] = {
    "generation": {"database": "none"},
    "checks": {
        "not_a_server_error": {"enabled": False},  # no_server_error says it closer
        # A position of another log is in order, and may be refused; so may a key.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "404", "409", "410", "422", "429"]
        },
        "negative_data_rejection": {"expected-statuses": ["400", "401", "404", "405", "415"]},
        "use_after_free": {"enabled": False},  # what was cancelled is kept for a while
    },
}


def described(*, openai: bool) -> Any:
    """OpenAI's calls, or Lore's own."""
    paths = {
        path: item
        for path, item in DOCUMENT["paths"].items()
        if openai == any(TAG in call.get("tags", ()) for call in item.values() if "tags" in call)
    }
    config = schemathesis.Config.from_dict(CONFIG)
    return schemathesis.openapi.from_dict(DOCUMENT | {"paths": paths}, config=config)


API, OPENAI = described(openai=False), described(openai=True)
SCHEMAS = DOCUMENT["components"]["schemas"]
OUTSIDE = {"Last-Event-ID", "after", "log", "wait", "Idempotency-Key"}
"""What can be wrong beside the body."""
FITS = re.compile(
    r"tool_choice(\.name)?|tools\.\d+\.name|messages\.\d+\.(tool_call_id|tool_calls\.\d+\.id)"
)
"""What has to fit to the rest of a body."""
BOUNDED = settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class ServedEdge:
    """An edge on a thread of its own, since what calls it here waits for each answer."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._ready = threading.Event()
        self._thread = threading.Thread(target=uvloop.run, args=(self._serve(),))
        self.store = SelfAnsweringStore()
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy stands between
        self._credentials = bearer(keys.new("alice"))

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with running_edge(self.store, linger_s=0.01, **self._keys.settings) as edge:
            self.url = edge.url
            await self.store.tell_model({"parts": "hermes"}, keep_ms=3_600_000)
            self._ready.set()
            await self._stop.wait()

    def asked_for(self, accept: str) -> dict[str, Any]:
        """How schemathesis calls this edge."""
        headers = {"Accept": accept} | self._credentials
        return {
            "base_url": self.url,
            "session": self.session,
            "headers": headers,
            "timeout": CALL_TIMEOUT_S,
        }

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(CALL_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedEdge]:
    print(f"LORE_SEED={SEED}")
    with ServedEdge(KeyRing(tmp_path_factory.mktemp("keys") / "keys")) as served:
        yield served


# what has to hold of every answer


def no_server_error(_: CheckContext, response: Response, case: Case) -> None:
    """503 with Retry-After is the one that there may be (P17)."""
    if response.status_code >= 500:
        assert response.status_code == 503, response.text
        assert int(response.headers["retry-after"][0]) >= 0


def names_the_field(_: CheckContext, response: Response, case: Case) -> None:
    """What is refused is refused for something that is named, and that is wrong."""
    if response.status_code != 400 or not isinstance(case.body, dict):
        return
    error = response.json()["error"]
    field = error.get("field", "")  # a field whose name is empty cannot be named
    if error["code"] == "invalid_json" or field in OUTSIDE or FITS.fullmatch(field):
        return
    name = field.partition(".")[0]
    assert name in wrong_fields(case.operation.path, case.body), error


def wrong_fields(path: str, body: dict[str, Any]) -> set[str]:
    schema = SCHEMAS["AckBody" if path.endswith("/ack") else "StreamRequest"]
    fields = schema["properties"].keys()
    validator = jsonschema_rs.Draft202012Validator(schema | {"components": {"schemas": SCHEMAS}})
    paths = [error.instance_path for error in validator.iter_errors(body)]
    missing = fields & {"seq", "question", "prompt"} if [] in paths else set()
    return {str(path[0]) for path in paths if path} | missing | (body.keys() - fields)


def chunks_count_up_to_the_end(_: CheckContext, response: Response, case: Case) -> None:
    """P1: a stream brings every chunk after some position and then its end, or says why not."""
    if not response.headers.get("content-type", [""])[0].startswith(STREAM):
        return
    events = SseParser().feed(response.content)
    ids = [event.last_event_id for event in events if event.event == "message"]
    seqs = [int(event_id.partition(":")[0]) for event_id in ids]  # a forked log names itself
    opening, ending = events[0], events[-1]
    assert opening.event == "state"
    if ending.event == "end":
        last_seq = json.loads(ending.data)["last_seq"]
        assert seqs == list(range(last_seq - len(seqs) + 1, last_seq + 1))
    else:
        assert json.loads(ending.data)["error"]["code"] == "history_lost"


CHECKS: list[CheckFunction] = [no_server_error, names_the_field, chunks_count_up_to_the_end]


@API.hook
@OPENAI.hook
def map_body(_: HookContext, body: Any) -> Any:
    """JSON schema cannot say what the description says in words: 3.0 is no whole number here."""
    return whole(body)


def fitting(body: dict[str, Any]) -> dict[str, Any]:
    """A schema cannot say that names differ, that a result has its call, or that the tool that is
    demanded is there; nor what this edge does not offer yet."""
    tools = {tool["name"]: tool | {"strict": None} for tool in body.get("tools") or ()}
    changes: dict[str, Any] = {"tools": list(tools.values()) or None}
    if body.get("tool_choice") not in (None, "none"):
        changes["tool_choice"] = "auto"
    if body.get("messages"):
        changes["messages"] = [
            {"role": "assistant", "content": one.get("content", "")}
            if one["role"] == "tool" or one.get("tool_calls")
            else one
            for one in body["messages"]
        ]
    return body | {name: value for name, value in changes.items() if name in body}


def whole(data: Any) -> Any:
    match data:
        case dict():
            return {name: whole(value) for name, value in data.items()}
        case list():
            return [whole(value) for value in data]
        case float() if data.is_integer():
            return int(data)
    return data


@pytest.mark.rule("H1")
@API.parametrize()
@seed(SEED)
@BOUNDED
def test_every_call_is_answered_as_the_description_says(edge: ServedEdge, case: Case) -> None:
    own(case)
    for accept in (JSON, STREAM):
        response = case.call(**edge.asked_for(accept))
        excluded = [negative_data_rejection] if wants_a_key(case) else []
        case.validate_response(response, additional_checks=CHECKS, excluded_checks=excluded)


def wants_a_key(case: Case) -> bool:
    """Whether what is wrong with it may be that it has no key: each call here is given one."""
    mutations: list[Any] = getattr(case.meta.phase.data, "mutations", []) if case.meta else []
    return any("Authorization" in repr(mutation) for mutation in mutations)


def own(case: Case) -> None:
    """Tell each case's valid key from those of other cases, which had other bodies; and let what a
    body says fit together."""
    body = case.body
    if case.operation.path == "/v1/streams" and isinstance(body, dict):
        case.body = body if wrong_fields("/v1/streams", body) else fitting(body)
    key = case.headers.get("Idempotency-Key")
    if isinstance(key, str) and 0 < len(key) <= MAX_KEY_CHARS:
        mark = case.id
        case.headers["Idempotency-Key"] = key[: MAX_KEY_CHARS - len(mark)] + mark


@pytest.mark.rule("H1")
def test_what_is_done_with_a_request_is_answered_as_the_description_says(
    edge: ServedEdge,
) -> None:
    """Follows the links: what is read, acknowledged, revived and cancelled was created before."""

    @seed(SEED)
    class Life(API.as_state_machine()):
        def setup(self) -> None:
            self.accepts = cycle([JSON, STREAM, STREAM])
            edge.store.start_fates_again()

        def before_call(self, case: Case) -> None:
            own(case)

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return edge.asked_for(next(self.accepts))

        def validate_response(
            self,
            response: Response,
            case: Case,
            additional_checks: list[CheckFunction] | None = None,
            **kwargs: Any,
        ) -> None:
            # A call without its key is given one, and an unknown query says nothing to the edge.
            case.validate_response(
                response, additional_checks=CHECKS, excluded_checks=[negative_data_rejection]
            )

    Life.run(settings=settings(BOUNDED, max_examples=30, stateful_step_count=8))


# OpenAI's calls


def has_openais_form(_: CheckContext, response: Response, case: Case) -> None:
    if response.status_code >= 400:
        error = response.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert (response.status_code >= 500) == (error["type"] == "server_error")


@pytest.mark.rule("O4")
@OPENAI.parametrize()
@seed(SEED)
@settings(BOUNDED, max_examples=15)
def test_every_call_of_openais_is_answered_as_the_description_says(
    edge: ServedEdge, case: Case
) -> None:
    own(case)
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = NAMELESS
    response = case.call(**edge.asked_for(JSON))
    failed = response.status_code == 500  # as every fourth answer of this store does
    case.validate_response(
        response,
        additional_checks=[has_openais_form] if failed else [has_openais_form, no_server_error],
        # A schema cannot say which parameters go together, nor what says nothing.
        excluded_checks=[negative_data_rejection, positive_data_acceptance],
    )
