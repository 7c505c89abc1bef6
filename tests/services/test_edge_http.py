"""The HTTP rules of PROTOCOL.md, one by one."""

import json
from typing import Any

import httpx
import pytest

from lore.protocol.commands import Reap
from lore.protocol.lifecycle import Status
from lore.request import StreamRequest
from lore.store import MemoryStore
from lore.store.keys import partition_of
from tests.services.edge_harness import (
    FaultyStore,
    Writer,
    acknowledge,
    ask,
    direct_client,
    request,
    running_edge,
    stream,
    text_of,
)

NOBODY = "A" * 22
JSON = {"content-type": "application/json"}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def post(
    client: httpx.AsyncClient, body: bytes | dict[str, Any], **headers: str
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post("/v1/streams", content=content, headers=JSON | headers)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert error["message"]
    return error


async def kept_body(store: MemoryStore, request_id: str) -> dict[str, Any]:
    body = await store.body(request_id)
    assert body is not None
    return json.loads(body)


# creating


@pytest.mark.rule("E4", "H8", "H11")
async def test_a_question_becomes_messages_with_the_system_prompt_and_a_seed(store: MemoryStore):
    async with direct_client(store, system_prompt="Explain.") as edge:
        answer = await post(edge, {"question": "What is a loop?", "max_tokens": 9})
    view = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == view["stream_url"]
    assert answer.headers["x-request-id"] == view["request_id"]
    assert (view["status"], view["text"], view["next_seq"], view["window"]) == ("queued", "", 1, 32)
    assert view["stream_url"] == f"/v1/streams/{view['request_id']}?log={view['log_id']}"
    body = await kept_body(store, view["request_id"])
    assert body["messages"] == [
        {"role": "system", "content": "Explain."},
        {"role": "user", "content": "What is a loop?"},
    ]
    assert "question" not in body
    assert body["max_tokens"] == 9
    assert isinstance(body["seed"], int)


@pytest.mark.rule("H8")
async def test_a_question_after_messages_follows_them_behind_the_system_prompt(store: MemoryStore):
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    async with direct_client(store, system_prompt="Explain.") as edge:
        answer = await post(edge, {"question": "c", "messages": before})
    assert answer.status_code == 201
    body = await kept_body(store, answer.json()["request_id"])
    system, asked = {"role": "system", "content": "Explain."}, {"role": "user", "content": "c"}
    assert body["messages"] == [system, *before, asked]
    assert "question" not in body


@pytest.mark.rule("H13")
async def test_what_was_asked_is_given_back_without_system_prompts(store: MemoryStore):
    before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    async with direct_client(store, system_prompt="Explain.") as edge:
        created = await post(edge, {"question": "c", "messages": before})
        path = f"/v1/streams/{created.json()['request_id']}/messages"
        asked = await edge.get(path)
        assert (await edge.get(path.replace("/messages", "0/messages"))).status_code == 404
    assert asked.json() == {"messages": [*before, {"role": "user", "content": "c"}]}


@pytest.mark.rule("H8")
async def test_messages_and_parameters_are_kept_as_they_are(store: MemoryStore):
    asked = {
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "seed": 11,
        "stop": ["END"],
        "ack": "none",
    }
    async with direct_client(store) as edge:
        answer = await post(edge, asked)
    body = await kept_body(store, answer.json()["request_id"])
    assert body | asked == body
    assert answer.json()["window"] == 0, "the window of ack kind none does not bind (P8)"


@pytest.mark.rule("H9")
async def test_null_is_nothing_at_every_depth(store: MemoryStore):
    """Clients in many languages write null for what is not set."""
    nothing: dict[str, Any] = dict.fromkeys([*StreamRequest.model_fields, "vendors_own"])
    message = {"role": "user", "content": "hi", "name": None}
    asked = nothing | {"messages": [message], "metadata": {"a": "b", "c": None}, "seed": 1}
    async with direct_client(store) as edge:
        kept = [
            await kept_body(store, (await post(edge, body)).json()["request_id"])
            for body in (asked, {"messages": [{"role": "user", "content": "hi"}], "seed": 1})
        ]
    assert kept[0].pop("metadata") == {"a": "b"}
    assert kept[0] == kept[1]


@pytest.mark.rule("P6.6")
async def test_a_fixed_window_is_the_window_from_the_start(store: MemoryStore):
    async with direct_client(store) as edge:
        answer = await post(edge, {"question": "?", "window": 7})
    assert answer.json()["window"] == 7


@pytest.mark.rule("F1")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", None),
        (b'{"question": "a"} x', None),
        (b'{"question": "\xff"}', None),
        (b"[" * 5000, None),
        (b"[]", None),
        (b'"question"', None),
        (b"", None),
        (b"{}", "question"),
        ({"question": ""}, "question"),
        ({"question": 5}, "question"),
        ({"question": "a", "colour": "red"}, "colour"),
        ({"question": "a", "max_tokens": 0}, "max_tokens"),
        ({"question": "a", "max_tokens": "5"}, "max_tokens"),
        ({"question": "a", "max_tokens": 5.5}, "max_tokens"),
        ({"question": "a", "temperature": 2.1}, "temperature"),
        (b'{"question": "a", "temperature": NaN}', "temperature"),
        (b'{"question": "a", "top_p": Infinity}', "top_p"),
        ({"question": "a", "top_p": 0}, "top_p"),
        ({"question": "a", "top_k": -1}, "top_k"),
        ({"question": "a", "seed": -1}, "seed"),
        ({"question": "a", "seed": 2**63}, "seed"),
        ({"question": "a", "seed": True}, "seed"),
        ({"question": "a", "stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"question": "a", "ack": "sometimes"}, "ack"),
        ({"question": "a", "window": 0}, "window"),
        ({"question": "a", "window": 1025}, "window"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "b"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "b", "name": "c"}]}, "messages.0.name"),
    ],
)
async def test_what_is_malformed_is_400_naming_the_field_and_creates_nothing(
    store: MemoryStore, body: Any, field: str | None
):
    async with direct_client(store) as edge:
        answer = await post(edge, body)
    assert answer.status_code == 400
    assert error_of(answer).get("field") == field
    assert await store.queue_depth() == 0


@pytest.mark.rule("W7")
async def test_a_body_that_is_not_json_is_415_and_one_too_large_413(store: MemoryStore):
    async with direct_client(store, max_body_bytes=2000) as edge:
        form = await edge.post("/v1/streams", data={"question": "a"})
        large = await post(edge, {"question": "a" * 3000})
    assert (form.status_code, error_of(form)["code"]) == (415, "not_json")
    assert (large.status_code, error_of(large)["code"]) == (413, "body_too_large")
    assert await store.queue_depth() == 0


async def test_with_accept_event_stream_the_post_answers_with_the_stream(store: MemoryStore):
    async with running_edge(store) as edge:
        headers = JSON | {"accept": "text/event-stream"}
        response = await request(edge, "POST", "/v1/streams", headers, b'{"question": "a"}')
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        request_id = response.headers["x-request-id"]
        assert response.headers["location"].startswith(f"/v1/streams/{request_id}?log=")
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("one ", "two")
        await writer.finish()
        assert text_of(await response.events()) == "one two"


@pytest.mark.rule("H2")
async def test_an_idempotency_key_makes_a_retried_post_the_same_request(store: MemoryStore):
    async with direct_client(store) as one, direct_client(store, edge_id="edge-2") as two:
        key = {"idempotency-key": "tab-1"}
        first = await post(one, {"question": "a"}, **key)
        again = await post(two, {"question": "a"}, **key)
        other = await post(two, {"question": "a"}, **{"idempotency-key": "tab-2"})
        reused = await post(one, {"question": "b"}, **key)
    assert first.json()["request_id"] == again.json()["request_id"] != other.json()["request_id"]
    assert again.status_code == 201
    assert (reused.status_code, error_of(reused)["code"]) == (422, "idempotency_key_reused")
    assert await store.queue_depth() == 2


async def test_a_retried_post_shows_the_text_so_far(store: MemoryStore):
    async with direct_client(store) as edge:
        key = {"idempotency-key": "k"}
        request_id = (await post(edge, {"question": "a"}, **key)).json()["request_id"]
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("so ", "far")
        assert (await post(edge, {"question": "a"}, **key)).json()["text"] == "so far"


@pytest.mark.rule("H2")
async def test_a_key_that_is_too_long_is_400(store: MemoryStore):
    async with direct_client(store) as edge:
        answer = await post(edge, {"question": "a"}, **{"idempotency-key": "k" * 256})
    assert (answer.status_code, error_of(answer)["field"]) == (400, "Idempotency-Key")


@pytest.mark.rule("P17.2")
async def test_a_full_queue_is_429_with_retry_after(store: MemoryStore):
    """P17. One place in each partition: what is not taken is refused, and nothing is lost."""
    async with direct_client(store, queue_limit=64) as edge:
        answers = [await post(edge, {"question": "a"}) for _ in range(150)]
    accepted = [a for a in answers if a.status_code == 201]
    refused = [a for a in answers if a.status_code == 429]
    assert len(accepted) + len(refused) == 150
    assert await store.queue_depth() == len(accepted) <= 64
    assert len(accepted) > 50, "a full partition is passed over for another one"
    assert error_of(refused[0])["code"] == "queue_full"
    assert int(refused[0].headers["retry-after"]) > 0


async def test_a_full_partition_refuses_a_key_that_belongs_to_it(store: MemoryStore):
    async with direct_client(store, queue_limit=1) as edge:
        taken = (await post(edge, {"question": "a"}, **{"idempotency-key": "k"})).json()
        again = await post(edge, {"question": "a"}, **{"idempotency-key": "k"})
        assert again.json()["request_id"] == taken["request_id"], "found, not queued twice"
        for n in range(1000):
            other = await post(edge, {"question": "a"}, **{"idempotency-key": f"k{n}"})
            if other.status_code == 429:
                return
            made = other.json()["request_id"]
            assert partition_of(made) != partition_of(taken["request_id"])
    pytest.fail("no key met the full partition")


# acknowledging


@pytest.mark.rule("P9.1", "P9.2")
async def test_acks_are_cumulative_idempotent_and_never_ahead_of_the_log(store: MemoryStore):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("a", "b", "c")
        statuses = [(await acknowledge(edge, request_id, seq)).status_code for seq in (2, 2, 1, 3)]
        assert statuses == [204, 204, 204, 204]
        ahead = await acknowledge(edge, request_id, 4)
        assert (ahead.status_code, error_of(ahead)["code"]) == (409, "ack_ahead_of_log")
        view = await store.view(request_id)
        assert view is not None
        assert view.acked_seq == 3


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"[1]", 400, None),
        (b"[" * 1000, 400, None),
        (b"{}", 400, "seq"),
        (b'{"seq": 0}', 400, "seq"),
        (b'{"seq": -1}', 400, "seq"),
        (b'{"seq": 1.0}', 400, "seq"),
        (b'{"seq": "1"}', 400, "seq"),
        (b'{"seq": true}', 400, "seq"),
        (b'{"seq": 99999999999999999999}', 400, "seq"),
        (b'{"seq": 1, "id": 2}', 400, "id"),
        (b'{"seq": 1' + b" " * 2000 + b"}", 413, None),
    ],
)
async def test_a_malformed_ack_is_refused_with_its_field(
    store: MemoryStore, body: bytes, status: int, field: str | None
):
    async with direct_client(store) as client:
        request_id = (await post(client, {"question": "a"})).json()["request_id"]
        answer = await client.post(f"/v1/streams/{request_id}/ack", content=body, headers=JSON)
    assert answer.status_code == status
    assert error_of(answer).get("field") == field


# view, revive, cancel


async def test_the_view_of_a_failed_request_says_why(store: MemoryStore):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("half ")
        await writer.finish(Status.FAILED, "the prompt is too long for the model")
        async with edge.client() as client:
            view = (await client.get(f"/v1/streams/{request_id}")).json()
        events = await (await stream(edge, request_id)).events()
    assert view["status"] == "failed"
    assert view["error"] == events[-1].data["error"] == "the prompt is too long for the model"
    assert view["text"] == text_of(events) == "half "
    assert view["prompt_tokens"] == 7
    assert view["created_at"] <= view["started_at"] <= view["finished_at"]
    assert view["edge"] == "edge-1"


@pytest.mark.rule("P14.1")
async def test_delete_cancels_is_final_and_may_be_repeated(store: MemoryStore):
    async with running_edge(store) as edge:
        ended = await ask(edge)
        writer = Writer(store, ended)
        await writer.claim()
        await writer.finish()
        request_id = await ask(edge)
        response = await stream(edge, request_id)
        async with edge.client() as client:
            answers = [await client.delete(f"/v1/streams/{request_id}") for _ in range(2)]
            late = await client.delete(f"/v1/streams/{ended}")
        events = await response.events()
    assert [answer.status_code for answer in answers] == [204, 204]
    assert (late.status_code, error_of(late)["code"]) == (409, "already_ended")
    assert (events[-1].name, events[-1].data["status"]) == ("end", "cancelled")


@pytest.mark.rule("E16", "P16.2")
async def test_revive_queues_a_reaped_request_again_and_its_stream_goes_on(store: MemoryStore):
    """P16: the stream of a reaped request stays open."""
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        writer = Writer(store, request_id)
        await writer.claim()
        await writer.write("so far ")
        await store.do(Reap(request_id, idle_ms=0, retention_ms=60_000))
        response = await stream(edge, request_id)
        opened = await response.event()
        assert opened is not None
        assert (opened.data["status"], opened.data["reason"]) == ("reaped", "open")
        assert text_of(await response.chunks(1)) == "so far "
        async with edge.client() as client:
            revived = await client.post(f"/v1/streams/{request_id}/revive")
            again = await client.post(f"/v1/streams/{request_id}/revive")
        assert (revived.status_code, revived.json()["status"]) == (202, "queued")
        assert revived.json()["text"] == "so far "
        assert (again.status_code, error_of(again)["code"]) == (409, "not_reaped")
        await writer.claim()
        await writer.write("and on")
        await writer.finish()
        events = await response.events()
    assert text_of(events) == "and on"
    assert [e.data["reason"] for e in events if e.name == "state"] == ["revived", "failed_over"]


# what is not there


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", f"/v1/streams/{NOBODY}", {}),
        ("GET", f"/v1/streams/{NOBODY}", {"accept": "text/event-stream"}),
        ("POST", f"/v1/streams/{NOBODY}/ack", JSON),
        ("POST", f"/v1/streams/{NOBODY}/revive", {}),
        ("DELETE", f"/v1/streams/{NOBODY}", {}),
        ("GET", "/v1/streams/short", {}),
        ("GET", "/v1/streams/short", {"accept": "text/event-stream"}),
        ("GET", f"/v1/streams/{NOBODY}%0a", {"accept": "text/event-stream"}),
        ("GET", "/v1/streams/{lore}", {}),
        ("POST", "/v1/streams/short/ack", JSON),
        ("DELETE", "/v1/streams/..", {}),
        ("GET", "/v1/streams/", {}),
        ("GET", "/v2", {}),
        ("GET", "/web/nothing.js", {}),
        ("GET", "/web/../app.py", {}),
    ],
)
async def test_what_is_unknown_is_404_in_json(
    store: MemoryStore, method: str, path: str, headers: dict[str, str]
):
    body = b'{"seq": 1}' if method == "POST" else b""
    async with running_edge(store) as edge:
        response = await request(edge, method, path, headers, body)
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/streams", {"GET", "HEAD", "POST"}),
        ("DELETE", "/v1/streams", {"GET", "HEAD", "POST"}),
        ("POST", f"/v1/streams/{NOBODY}", {"GET", "HEAD", "DELETE"}),
        ("GET", f"/v1/streams/{NOBODY}/ack", {"POST"}),
        ("GET", f"/v1/streams/{NOBODY}/revive", {"POST"}),
        ("POST", "/", {"GET", "HEAD"}),
        ("DELETE", "/web/client/lore.js", {"GET", "HEAD"}),
    ],
)
async def test_a_wrong_method_is_405_that_names_the_right_ones(
    store: MemoryStore, method: str, path: str, allowed: set[str]
):
    async with direct_client(store) as client:
        answer = await client.request(method, path)
    assert (answer.status_code, error_of(answer)["code"]) == (405, "method_not_allowed")
    assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed


@pytest.mark.parametrize(
    ("query", "last_event_id", "field"),
    [
        ("after=-1", None, "after"),
        ("after=", None, "after"),
        ("after=abc", None, "after"),
        ("after=1:", None, "after"),
        ("after=1&log=a%20b", None, "log"),
        ("after=1", "x", "Last-Event-ID"),
        ("", "9" * 20, "Last-Event-ID"),
        # \d of a pattern takes the digits of every script, and so did the edge: after=٣ was 3.
        ("after=%D9%A3", None, "after"),
    ],
)
# The view once answered 200 where the stream at the same address answered 400.
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_malformed_position_is_400_naming_it(
    store: MemoryStore, query: str, last_event_id: str | None, field: str, accept: str
):
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        headers = {"accept": accept}
        if last_event_id is not None:
            headers["last-event-id"] = last_event_id
        response = await request(edge, "GET", f"/v1/streams/{request_id}?{query}", headers)
        assert response.status == 400
        assert (await response.json())["error"]["field"] == field


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_post_with_a_malformed_position_creates_nothing(store: MemoryStore, accept: str):
    """A POST that wants the stream once answered 400 after the request was accepted, and a
    generator went on to write an answer that nobody had the address of."""
    async with direct_client(store) as edge:
        answer = await post(edge, {"question": "a"}, accept=accept, **{"last-event-id": "x"})
    assert (answer.status_code, error_of(answer)["field"]) == (400, "Last-Event-ID")
    assert await store.queue_depth() == 0


# the store is away


async def test_without_its_store_an_edge_answers_503_with_retry_after():
    store = FaultyStore()
    async with running_edge(store) as edge:
        request_id = await ask(edge)
        store.away = True
        calls = [
            ("POST", "/v1/streams", JSON, b'{"question": "a"}'),
            ("GET", f"/v1/streams/{request_id}", {}, b""),
            ("GET", f"/v1/streams/{request_id}", {"accept": "text/event-stream"}, b""),
            ("POST", f"/v1/streams/{request_id}/ack", JSON, b'{"seq": 1}'),
            ("POST", f"/v1/streams/{request_id}/revive", {}, b""),
            ("DELETE", f"/v1/streams/{request_id}", {}, b""),
        ]
        for method, path, headers, body in calls:
            response = await request(edge, method, path, headers, body)
            assert response.status == 503, path
            assert int(response.headers["retry-after"]) > 0
            assert (await response.json())["error"]["code"] == "store_unavailable"
        store.away = False
        assert (await stream(edge, request_id)).status == 200, "and it comes back by itself"


# other origins, and the page


@pytest.mark.rule("A9")
async def test_pages_of_other_origins_may_call_only_where_the_settings_say_so(store: MemoryStore):
    asks = {
        "origin": "https://reader.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-stainless-lang,x-stainless-retry-count",
    }
    path = "/v1/streams"
    async with direct_client(store, cors_origins="https://reader.example") as edge:
        allowed = await edge.options(path, headers=asks)
        other = await edge.options(path, headers=asks | {"origin": "https://other.example"})
        answer = await post(edge, {"question": "a"}, origin="https://reader.example")
        refused = await post(edge, b"{", origin="https://reader.example")
    async with direct_client(store) as edge:
        closed = await edge.options(path, headers=asks)
    assert allowed.status_code == 200
    names = allowed.headers["access-control-allow-headers"].lower().split(", ")
    assert {*asks["access-control-request-headers"].split(",")} <= {*names}
    assert allowed.headers["access-control-allow-origin"] == "https://reader.example"
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in closed.headers
    assert answer.headers["access-control-allow-origin"] == "https://reader.example"
    assert "Location" in answer.headers["access-control-expose-headers"]
    assert refused.headers["access-control-allow-origin"] == "https://reader.example"


MESSAGES = [{"role": "user", "content": "a"}]


@pytest.mark.rule("A9")
@pytest.mark.parametrize("origins", ["https://page.example", "*"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", None),
        ("/v1/streams", {"question": "a"}),
        ("/v1/chat/completions", {"messages": MESSAGES}),
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/responses", {"input": "a"}),
    ],
)
async def test_a_stream_names_the_origin_that_may_read_it(
    store: MemoryStore, origins: str, path: str, body: dict[str, Any] | None
):
    async with running_edge(store, cors_origins=origins) as edge, edge.client() as http:
        headers = {"accept": "text/event-stream", "origin": "https://page.example"}
        path = path or f"/v1/streams/{await ask(edge)}"
        method = "GET" if body is None else "POST"
        if body is not None and "question" not in body:
            body = body | {"model": "default", "stream": True}
        async with http.stream(method, path, headers=headers, json=body) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["access-control-allow-origin"] in ("https://page.example", "*")
            assert "Location" in answer.headers["access-control-expose-headers"]


async def test_the_page_comes_with_a_policy_that_names_the_edges(store: MemoryStore):
    edges = ["https://a.example", "https://b.example"]
    async with direct_client(store, edges=",".join(edges), model="tiny") as client:
        page = await client.get("/")
        config = await client.get("/web/config.json")
        script = await client.get("/web/client/lore.js")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "connect-src 'self' https://a.example https://b.example;" in policy
    assert "'unsafe" not in policy
    told = {"edges": edges, "edge": "edge-1", "model": "tiny", "auth": False}
    assert config.json() == told
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["x-content-type-options"] == "nosniff"


async def test_without_configured_edges_the_page_asks_where_it_came_from(store: MemoryStore):
    async with direct_client(store) as client:
        config = await client.get("/web/config.json")
    assert config.json()["edges"] == []
