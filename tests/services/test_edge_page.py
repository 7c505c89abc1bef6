"""What the edge serves to everybody: the page, its files, the description, and safe headers."""

import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from lore.store import MemoryStore
from lore_edge.reference.openapi import ERRORS, describe
from tests.services.auth_harness import KeyRing, bearer
from tests.services.edge_harness import ask, direct_client, request, running_edge, stream

DOCUMENT = describe()
PUBLIC = ["/", "/docs", "/web/config.json", "/web/app.js", "/web/style.css", "/openapi.json"]


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys")


@pytest.mark.rule("A1")
@pytest.mark.parametrize("path", PUBLIC)
async def test_what_the_page_needs_is_served_to_everybody(ring: KeyRing, path: str):
    async with direct_client(MemoryStore(), **ring.settings) as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/web", "/v1", "/v1/models", "/docs/x"])
async def test_nothing_else_says_even_whether_it_is_there(ring: KeyRing, path: str):
    async with direct_client(MemoryStore(), **ring.settings) as client:
        assert (await client.get(path)).status_code == 401


async def test_the_page_is_told_whether_to_ask_for_a_key(ring: KeyRing):
    for settings, asks in ((ring.settings, True), ({}, False)):
        async with direct_client(MemoryStore(), **settings) as client:
            assert (await client.get("/web/config.json")).json()["auth"] is asks


@pytest.mark.parametrize("path", ["/", "/docs", "/web/config.json", "/web/app.js"])
async def test_the_page_lets_nothing_foreign_in_and_is_framed_by_nobody(path: str):
    async with direct_client(MemoryStore()) as client:
        headers = (await client.get(path)).headers
    rules = [rule.split() for rule in headers["content-security-policy"].split(";")]
    policy = {name: values for name, *values in rules}
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert "camera=()" in headers["permissions-policy"]


def is_guarded(headers: dict[str, str] | httpx.Headers) -> bool:
    return (
        "no-store" in headers["cache-control"].split(", ")
        and headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        and headers["cross-origin-resource-policy"] == "same-origin"
        and headers["x-content-type-options"] == "nosniff"
    )


async def test_an_answer_of_the_api_is_kept_by_nobody_and_is_no_page():
    async with running_edge(MemoryStore()) as edge, edge.client() as client:
        request_id = await ask(edge)
        url = f"/v1/streams/{request_id}"
        for answer in (
            await client.post("/v1/streams", json={"question": "a"}),
            await client.get(url),
            await client.post(f"{url}/ack", json={"seq": 9}),
            await client.post(f"{url}/token"),
            await client.delete(url),
            await client.get("/openapi.json"),
            await client.get("/nothing"),
        ):
            assert is_guarded(answer.headers), (answer.url, answer.headers)
        assert is_guarded((await stream(edge, request_id)).headers)
        options = await request(edge, "OPTIONS", url, {"origin": "https://other.example"})
        assert "access-control-allow-origin" not in options.headers, "CORS is off"


@pytest.mark.rule("A9")
async def test_a_page_of_a_chosen_origin_may_send_its_key(ring: KeyRing):
    key, origin = ring.new("alice"), "https://page.example"
    settings = ring.settings | {"cors_origins": origin}
    asks = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    async with direct_client(MemoryStore(), **settings) as client:
        allowed = await client.options("/v1/streams", headers=asks)
        assert allowed.status_code == 200
        assert "Authorization" in allowed.headers["access-control-allow-headers"]
        private = asks | {"Access-Control-Request-Private-Network": "true"}
        allowed = await client.options("/v1/streams", headers=private)
        assert allowed.status_code == 200, "Chromium asks where an edge is on a private network"
        assert allowed.headers["access-control-allow-private-network"] == "true"
        for credentials, status in (({}, 401), (bearer(key), 201)):
            headers = {"Origin": origin} | credentials
            answer = await client.post("/v1/streams", json={"question": "a"}, headers=headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == origin


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        given = dict(attrs)
        if (name := given.get("id")) is not None:
            self.ids.append(name)
        self.links |= {value for name in ("href", "src") if (value := given.get(name))}
        if tag not in ("img", "link", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_the_description_is_a_page_of_all_calls_bodies_and_errors():
    async with direct_client(MemoryStore()) as client:
        answer = await client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Elements()
    page.feed(answer.text)
    assert not page.open
    assert page.names.isdisjoint({"script", "style", "iframe", "form"})
    operations = {
        operation["operationId"]
        for item in DOCUMENT["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    }
    assert operations | DOCUMENT["components"]["schemas"].keys() <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert all(f"<code>{code}</code>" in answer.text for code in ERRORS if "method" not in code)
    within = {link[1:] for link in page.links if link.startswith("#")}
    assert within <= set(page.ids)
    assert all(re.match(r"#|web/|openapi\.json$|\./$", link) for link in page.links)
