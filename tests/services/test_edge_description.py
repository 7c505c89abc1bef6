"""``GET /openapi.json`` describes all of the API, and nothing that is not there."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from starlette.routing import Route

from lore.protocol.commands import Ack, Command, GiveUp
from lore.store import MemoryStore
from lore.store.keys import partition_of
from lore.store.memory import wall_clock_ms
from lore.store.types import Open, StoreFull
from lore_edge.admission.served_model import ServedModel
from lore_edge.api.page import web_routes
from lore_edge.api.routes import rest
from lore_edge.app import Edge
from lore_edge.reference.openapi import CONNECTION_ERRORS, ERRORS, describe
from tests.services.auth_harness import Issuer, bearer
from tests.services.edge_harness import FaultyStore, Writer, settings
from tests.services.words import let_count

DOCUMENT = describe()
NOBODY = "A" * 22
NAMES = {
    "request_id": NOBODY,
    "completion_id": f"chatcmpl-{NOBODY}",
    "response_id": f"resp_{NOBODY}",
    "model": "default",
}
PROTOCOL = Path(__file__).parents[2] / "PROTOCOL.md"


def described() -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for path, item in DOCUMENT["paths"].items()
        for method in item
        if method != "parameters"
    }


def routed() -> set[tuple[str, str]]:
    """What the edge's router knows. HEAD comes with every GET; the page's files are no API."""
    store = MemoryStore()
    served = ServedModel(store, settings())
    page = {getattr(route, "path", None) for route in web_routes(settings(), served)}
    edge = Edge(settings(), store)
    found = {(name, path) for path, names in edge.openai.routes.items() for name in names}
    for route in rest(store, settings(), served).routes:
        if getattr(route, "path", None) in page:
            continue
        assert isinstance(route, Route)
        methods = route.methods or {
            name.upper() for name in ("get", "post", "delete") if hasattr(route.endpoint, name)
        }
        found |= {(method, route.path) for method in methods - {"HEAD"}}
    return found


@pytest.mark.rule("H1")
def test_every_route_is_described_and_every_description_is_routed() -> None:
    assert described() == routed()


@pytest.mark.rule("H1")
async def test_every_described_call_has_somebody_who_answers_it() -> None:
    """The hot paths are beside the router: a wrong address there would be nothing at all."""
    async with client_of(Edge(settings(), MemoryStore())) as client:
        for method, path in described():
            for accept in ("application/json", "text/event-stream"):
                answer = await client.request(
                    method,
                    path.format_map(NAMES),
                    headers={"accept": accept, "content-type": "application/json"},
                    content=b'{"seq": 1}' if method == "POST" else None,
                )
                assert "unknown address" not in answer.text, (method, path)
                assert answer.status_code != 405, (method, path)


async def test_the_description_is_served_as_json() -> None:
    async with client_of(Edge(settings(), MemoryStore())) as client:
        answer = await client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DOCUMENT


def test_every_schema_of_the_description_is_a_schema() -> None:
    for name in DOCUMENT["components"]["schemas"]:
        schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
        jsonschema_rs.Draft202012Validator(schema)


@pytest.mark.rule("F1")
def test_the_protocol_page_and_the_description_name_the_same_errors() -> None:
    errors = PROTOCOL.read_text().partition("### Errors")[2].partition("### HTTP")[0]
    codes = {code for code in re.findall(r"`([a-z_]+)`", errors) if "_" in code}
    statuses = {int(status) for status in re.findall(r"\b[45]\d\d\b", errors)}
    described = ERRORS | CONNECTION_ERRORS
    assert codes <= described.keys()
    assert codes >= CONNECTION_ERRORS.keys()
    assert statuses == {status for status, _ in described.values()}


@pytest.mark.rule("H3", "H5")
@pytest.mark.parametrize(
    ("begins", "schema"),
    [
        ("**H3**", "View"),
        ("**H5**", "Poll"),
        ("| (default) |", "ChunkEvent"),
        ("| `state` |", "StateEvent"),
        ("| `end` |", "EndEvent"),
    ],
)
def test_the_protocol_page_and_the_description_name_the_same_members(
    begins: str, schema: str
) -> None:
    """A member that the page puts into quotes, or names first in its list."""
    (line,) = [one for one in PROTOCOL.read_text().splitlines() if one.startswith(begins)]
    told = set(re.findall(r"`([a-z_]+)`", line) if schema == "View" else _members(line))
    assert told == DOCUMENT["components"]["schemas"][schema]["properties"].keys()


def _members(line: str) -> list[str]:
    """Of the first object that a line shows; what is nested in it is left out."""
    shown = re.sub(r"(?<=.)\{[^{}]*\}", "", line.partition("`{")[2].partition("}`")[0])
    return re.findall(r'"([a-z_]+)"', shown)


# each error, made to happen

Made = Callable[["Scene"], Awaitable[httpx.Response]]


class Scene:
    """An edge whose store can be away, and that takes few requests of one client."""

    def __init__(self, **changes: Any) -> None:
        self.store = FaultyStore()
        self.edge = Edge(settings(**changes), self.store)
        self.client = client_of(self.edge)

    async def create(self, body: Any = None, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body or {"question": "a"})
        headers = {"content-type": "application/json"} | headers
        return await self.client.post("/v1/streams", content=content, headers=headers)

    async def created(self) -> str:
        return (await self.create()).json()["request_id"]

    async def read(self, request_id: str, query: str = "") -> httpx.Response:
        headers = {"accept": "text/event-stream"}
        return await self.client.get(f"/v1/streams/{request_id}{query}", headers=headers)


def client_of(edge: Edge) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(edge)  # pyright: ignore[reportArgumentType]
    return httpx.AsyncClient(transport=transport, base_url="http://edge.example")


async def _ack_ahead(scene: Scene) -> httpx.Response:
    url = f"/v1/streams/{await scene.created()}/ack"
    return await scene.client.post(url, json={"seq": 1})


async def _cancel_too_late(scene: Scene) -> httpx.Response:
    writer = Writer(scene.store, await scene.created())
    await writer.claim()
    await writer.finish()
    return await scene.client.delete(f"/v1/streams/{writer.request_id}")


async def _revive_too_early(scene: Scene) -> httpx.Response:
    return await scene.client.post(f"/v1/streams/{await scene.created()}/revive")


async def _another_log(scene: Scene) -> httpx.Response:
    return await scene.read(await scene.created(), "?after=3&log=another")


async def _compressed(scene: Scene) -> httpx.Response:
    return await scene.create(**{"content-encoding": "gzip"})


async def _key_again(scene: Scene) -> httpx.Response:
    await scene.create({"question": "a"}, **{"idempotency-key": "k"})
    return await scene.create({"question": "b"}, **{"idempotency-key": "k"})


async def _unknown_key(scene: Scene) -> httpx.Response:
    return await scene.create(**bearer(Issuer().token()))


async def _one_too_many(scene: Scene) -> httpx.Response:
    for _ in range(1000):
        if (answer := await scene.create()).status_code != 201:
            return answer
    pytest.fail("all were taken")


async def _more_than_the_context(scene: Scene) -> httpx.Response:
    await let_count(scene.edge, scene.store, 3)
    return await scene.create({"question": "one two three"})


async def _store_away(scene: Scene) -> httpx.Response:
    scene.store.away = True
    return await scene.create()


async def _store_full(scene: Scene) -> httpx.Response:
    do = scene.store.do

    async def full(command: Command[Any]) -> Any:
        if isinstance(command, Open):
            raise StoreFull("the store is full")
        return await do(command)

    scene.store.do = full  # pyright: ignore[reportAttributeAccessIssue]
    return await scene.create()


async def _given_up(scene: Scene) -> httpx.Response:
    writer = Writer(scene.store, await scene.created())
    await writer.claim()
    await writer.write("one")
    await writer.finish()
    await scene.store.do(Ack(writer.request_id, 1))
    partition, now_ms = partition_of(writer.request_id), wall_clock_ms()
    assert scene.store.state.do(GiveUp(partition, until_ms=2**60, most=1), now_ms=now_ms) == 1
    return await scene.read(writer.request_id)


async def _leaving(scene: Scene) -> httpx.Response:
    request_id = await scene.created()
    drain = asyncio.create_task(scene.edge.streams.drain(0))
    await asyncio.sleep(0)
    drain.cancel()
    return await scene.read(request_id)


MAKING: dict[str, tuple[str, str, Made]] = {
    "invalid_request": ("post", "", lambda scene: scene.create({"question": 5})),
    "invalid_json": ("post", "", lambda scene: scene.create(b"{")),
    "unauthorized": ("get", "/{request_id}", lambda scene: scene.read(NOBODY)),
    "auth_unavailable": ("post", "", _unknown_key),
    "host_not_allowed": ("post", "", lambda scene: scene.create()),
    "not_found": ("get", "/{request_id}", lambda scene: scene.read(NOBODY)),
    "ack_ahead_of_log": ("post", "/{request_id}/ack", _ack_ahead),
    "already_ended": ("delete", "/{request_id}", _cancel_too_late),
    "not_reaped": ("post", "/{request_id}/revive", _revive_too_early),
    "history_lost": ("get", "/{request_id}", _another_log),
    "body_too_large": ("post", "", lambda scene: scene.create(b" " * 2_000_000)),
    "not_json": ("post", "", lambda scene: scene.create(**{"content-type": "text/plain"})),
    "unsupported_encoding": ("post", "", _compressed),
    "idempotency_key_reused": ("post", "", _key_again),
    "queue_full": ("post", "", _one_too_many),
    "too_many_streams": ("post", "", _one_too_many),
    "too_many_requests": ("post", "", _one_too_many),
    "too_many_tokens": ("post", "", _one_too_many),
    "no_model": (
        "post",
        "",
        lambda scene: scene.create({"question": "a", "tools": [{"name": "a"}]}),
    ),
    "prompt_too_long": ("post", "", lambda scene: scene.create({"question": "abcdef"})),
    "context_length_exceeded": ("post", "", _more_than_the_context),
    "answer_too_long": ("post", "", lambda scene: scene.create({"question": "a"})),
    "store_unavailable": ("post", "", _store_away),
    "store_full": ("post", "", _store_full),
    "given_up": ("get", "/{request_id}", _given_up),
    "draining": ("get", "/{request_id}", _leaving),
}
NO_KEYS = Issuer().settings | {"jwt_jwks": "http://keys.invalid/"}
SETTINGS: dict[str, dict[str, Any]] = {
    "unauthorized": NO_KEYS,
    "auth_unavailable": NO_KEYS,
    "host_not_allowed": {"allowed_hosts": "localhost"},
    "queue_full": {"queue_limit": 1},
    "too_many_streams": {"streams_per_client": 2},
    "too_many_requests": {"requests_per_minute": 2},
    "too_many_tokens": {"tokens_per_minute": 2000},
    "prompt_too_long": {"max_prompt_chars": 5},
    "answer_too_long": {"tokens_per_minute": 512},
}
EVERYWHERE = "method_not_allowed"


@pytest.mark.rule("F1")
def test_every_described_error_is_made_to_happen_here() -> None:
    assert MAKING.keys() | {EVERYWHERE} == ERRORS.keys()


@pytest.mark.rule("F1")
@pytest.mark.parametrize("code", MAKING)
async def test_an_error_comes_where_and_as_it_is_described(code: str) -> None:
    method, address, make = MAKING[code]
    answer = await make(Scene(**SETTINGS.get(code, {})))
    assert (answer.status_code, answer.json()["error"]["code"]) == (ERRORS[code][0], code)
    response = DOCUMENT["paths"]["/v1/streams" + address][method]["responses"][
        str(answer.status_code)
    ]
    schema = response["content"]["application/json"]["schema"]
    jsonschema_rs.validate(schema | {"components": DOCUMENT["components"]}, answer.json())
    assert {name.lower() for name in response.get("headers", {})} <= answer.headers.keys()


async def test_a_method_that_an_address_does_not_have_is_405_with_those_that_it_has() -> None:
    for path, item in DOCUMENT["paths"].items():
        async with client_of(Edge(settings(), MemoryStore())) as client:
            answer = await client.put(path.format_map(NAMES))
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, EVERYWHERE)
        allowed = {name.strip() for name in answer.headers["allow"].split(",")} - {"HEAD"}
        assert allowed == {name.upper() for name in item if name != "parameters"}
