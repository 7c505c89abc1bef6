"""An edge below a path: what its links begin with, and who may say so."""

import re
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from lore.store import MemoryStore
from lore_edge.app import Edge
from lore_edge.wire.prefix import prefix_of
from tests.services.edge_harness import ask, direct_client, request, running_edge, settings

PROXY = "10.0.0.1"
TRUSTED = {"trusted_proxies": "10.0.0.0/8"}

# peer, X-Forwarded-Prefix, settings, the prefix
PREFIXES: list[tuple[str, list[str], dict[str, str], str]] = [
    (PROXY, [], {}, ""),
    (PROXY, ["/lore"], {}, ""),
    (PROXY, ["/lore"], TRUSTED, "/lore"),
    (PROXY, ["/lore/"], TRUSTED, "/lore"),
    (PROXY, [" /lore "], TRUSTED, "/lore"),
    (PROXY, ["/a/b-c/d_e.f~g"], TRUSTED, "/a/b-c/d_e.f~g"),
    (PROXY, ["/evil, /lore"], TRUSTED, "/lore"),
    (PROXY, ["/evil", "/lore"], TRUSTED, "/lore"),
    (PROXY, ["/"], TRUSTED, ""),
    (PROXY, ["/"], TRUSTED | {"root_path": "/set"}, ""),
    (PROXY, [""], TRUSTED | {"root_path": "/set"}, "/set"),
    (PROXY, [], {"root_path": "/set/"}, "/set"),
    (PROXY, ["/lore"], {"root_path": "/set"}, "/set"),
    (PROXY, ["/lore"], TRUSTED | {"root_path": "/set"}, "/lore"),
    ("192.0.2.1", ["/lore"], TRUSTED, ""),
    ("192.0.2.1", ["/lore"], TRUSTED | {"root_path": "/set"}, "/set"),
    ("not an address", ["/lore"], TRUSTED, ""),
]
NO_PREFIXES = [
    "lore", "//evil.example", "/lore//x", "https://evil.example", "/../x", "/a/..", "/.", "/a/./b",
    "/a?b", "/a#b", "/a b", "/a\tb", "/%2e%2e", "/a%0d%0ab", '/"><script>', "/a;b", "/a\\b", "/é",
    "\\\\evil.example", "/a\nb", f"/{'a' * 300}", "javascript:alert(1)", "/a:b", "/a@b",
]  # fmt: skip


@pytest.mark.parametrize(("peer", "forwarded", "changes", "prefix"), PREFIXES)
def test_only_trusted_proxies_say_below_which_path(
    peer: str, forwarded: list[str], changes: dict[str, str], prefix: str
):
    headers = [(b"x-forwarded-prefix", value.encode()) for value in forwarded]
    scope = {"client": (peer, 1), "headers": headers}
    assert prefix_of(scope, settings(**changes)) == prefix


@pytest.mark.parametrize("forwarded", NO_PREFIXES)
def test_what_is_no_plain_path_is_passed_over(forwarded: str):
    headers = [(b"x-forwarded-prefix", forwarded.encode())]
    scope = {"client": (PROXY, 1), "headers": headers}
    assert prefix_of(scope, settings(**TRUSTED)) == ""
    assert prefix_of(scope, settings(root_path="/set", **TRUSTED)) == "/set"


@pytest.mark.parametrize(
    "path", [path for path in NO_PREFIXES if len(path) < 300] + ["/v1", "/v1/x", "/web", "lore/"]
)
def test_a_root_path_that_is_none_is_refused_by_name(path: str):
    with pytest.raises(ValidationError, match="root_path"):
        settings(root_path=path)


def below(store: MemoryStore, **changes: Any) -> httpx.AsyncClient:
    """Calls through a proxy that takes the path away and says so."""
    transport = httpx.ASGITransport(
        Edge(settings(**TRUSTED, **changes), store),  # pyright: ignore[reportArgumentType]
        client=(PROXY, 1),
    )
    return httpx.AsyncClient(
        transport=transport,
        base_url="http://edge.example",
        headers={"X-Forwarded-Prefix": "/lore"},
    )


def kept(store: MemoryStore) -> httpx.AsyncClient:
    """Calls through a proxy that hands the whole path on."""
    client = direct_client(store, root_path="/lore")
    client.base_url = httpx.URL("http://edge.example/lore/")
    return client


@pytest.fixture(params=[below, kept], ids=["taken away", "handed on"])
def client(request: pytest.FixtureRequest) -> httpx.AsyncClient:
    return request.param(MemoryStore())


@pytest.mark.rule("E4")
async def test_links_of_the_api_begin_with_the_path(client: httpx.AsyncClient):
    async with client:
        made = await client.post("v1/streams", json={"question": "a"})
        stream_url = made.json()["stream_url"]
        seen = await client.get(f"v1/streams/{made.json()['request_id']}")
        description = (await client.get("openapi.json")).json()
    assert re.fullmatch(r"/lore/v1/streams/[\w-]+\?log=\w+", stream_url)
    assert made.headers["location"] == stream_url == seen.json()["stream_url"]
    assert description["servers"] == [{"url": "/lore"}]


@pytest.mark.parametrize("page", ["", "docs"])
async def test_links_of_pages_hold_below_any_path(client: httpx.AsyncClient, page: str):
    async with client:
        answer = await client.get(page)
        links = re.findall(r'(?:href|src)="([^"#]+)"', answer.text)
        assert "web/style.css" in links
        for link in links:
            assert not link.startswith("/")
            assert (await client.get(link.removeprefix("./"))).status_code == 200, link
        style = (await client.get("web/style.css")).text
        assert 'url("/' not in style


async def test_the_path_without_its_slash_leads_to_the_page():
    async with direct_client(MemoryStore(), root_path="/lore") as client:
        answer = await client.get("/lore")
        assert (answer.status_code, answer.headers["location"]) == (308, "/lore/")
        assert (await client.get("/lorelei")).status_code == 404
        assert (await client.get("/lore/lore/docs")).status_code == 404


@pytest.mark.rule("E4")
async def test_a_stream_names_its_address_below_the_path():
    store = MemoryStore()
    async with running_edge(store, root_path="/lore") as edge:
        request_id = await ask(edge)
        headers = {"accept": "text/event-stream"}
        answer = await request(edge, "GET", f"/lore/v1/streams/{request_id}", headers)
        assert answer.headers["location"].startswith(f"/lore/v1/streams/{request_id}?log=")


async def test_edges_below_a_path_are_in_the_policy_with_all_that_is_below_it():
    edges = "https://a.example/lore,https://b.example"
    async with direct_client(MemoryStore(), edges=edges) as client:
        policy = (await client.get("/")).headers["content-security-policy"]
        config = (await client.get("/web/config.json")).json()
    assert "connect-src 'self' https://a.example/lore/ https://b.example;" in policy
    assert config["edges"] == edges.split(",")
