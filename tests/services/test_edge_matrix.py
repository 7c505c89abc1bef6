"""Every call under every kind of credentials: only the right ones get in, and what belongs to
somebody else is in no way different from what never was (PROTOCOL.md, Authentication)."""

import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from pydantic import SecretStr

from lore import apikeys
from lore.store import MemoryStore, Store
from lore_edge.app import Edge
from lore_edge.auth import stream_tokens
from lore_edge.reference.openapi import describe
from tests.services.auth_harness import SECRET, Issuer, KeyRing, bearer, forged
from tests.services.edge_harness import (
    RunningEdge,
    Writer,
    ask,
    running_edge,
    settings,
    stream,
    until,
)
from tests.services.self_answering import SelfAnsweringStore

STREAM = "text/event-stream"
QUESTION = {"question": "What is mine?"}
CHAT = {"model": "default", "messages": [{"role": "user", "content": "What is mine?"}]}
PROMPT = {"model": "default", "prompt": "What is mine?"}
RESPONSE = {"model": "default", "input": "What is mine?", "background": True}
NATIVE, OF_CHAT, OF_PROMPTS, OF_RESPONSES = (
    ("/v1/streams", QUESTION),
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", PROMPT),
    ("/v1/responses", RESPONSE),
)


class Case(NamedTuple):
    method: str
    path: str
    body: dict[str, Any] | None = None
    accept: str = "application/json"
    made_by: tuple[str, dict[str, Any]] | None = None
    """What has to be asked for there to be something at this address; None: it names nothing."""
    fate: str = "writing"
    by_token: bool = False
    """A stream token opens it."""
    asks: str = ""
    """What its query says beside credentials."""
    looks: bool = True
    """Whether the call asks the store at all for what its address names."""

    @property
    def name(self) -> str:
        asks = f"?{self.asks}" if self.asks else ""
        return f"{self.method} {self.path}{asks}{' as a stream' if self.accept == STREAM else ''}"


ONE, COMPLETION, CONTINUATION, ANSWER = (
    "/v1/streams/{request_id}",
    "/v1/chat/completions/{completion_id}",
    "/v1/completions/{completion_id}",
    "/v1/responses/{response_id}",
)
CASES = [
    Case("POST", "/v1/streams", QUESTION),
    Case("POST", "/v1/streams", QUESTION, STREAM),
    Case("GET", "/v1/streams"),
    Case("GET", ONE, made_by=NATIVE),
    Case("GET", ONE, None, STREAM, made_by=NATIVE, by_token=True),
    Case("GET", ONE, made_by=NATIVE, by_token=True, asks="after=1&wait=0"),
    Case("DELETE", ONE, made_by=NATIVE),
    Case("POST", f"{ONE}/ack", {"seq": 1}, made_by=NATIVE, by_token=True),
    Case("GET", f"{ONE}/messages", made_by=NATIVE),
    Case("POST", f"{ONE}/revive", made_by=NATIVE, fate="reaped"),
    Case("POST", f"{ONE}/token", made_by=NATIVE, looks=False),
    Case("POST", "/v1/chat/completions", CHAT),
    Case("GET", COMPLETION, made_by=OF_CHAT),
    Case("POST", "/v1/completions", PROMPT),
    Case("GET", CONTINUATION, made_by=OF_PROMPTS),
    Case("POST", "/v1/responses", RESPONSE),
    Case("GET", ANSWER, made_by=OF_RESPONSES),
    Case("DELETE", ANSWER, made_by=OF_RESPONSES),
    Case("POST", f"{ANSWER}/cancel", made_by=OF_RESPONSES),
    Case("GET", f"{ANSWER}/input_items", made_by=OF_RESPONSES),
    Case("GET", "/v1/models"),
    Case("GET", "/v1/models/{model}"),
]
PUBLIC = {("GET", "/openapi.json")}
OWNED = [case for case in CASES if case.made_by]


def calls() -> set[tuple[str, str]]:
    """All that the edge answers: what it describes, and what goes past its router."""
    described = {
        (method.upper(), path)
        for path, item in describe()["paths"].items()
        for method in item
        if method != "parameters"
    }
    openai = Edge(settings(), MemoryStore()).openai.routes
    return described | {(method, path) for path, item in openai.items() for method in item}


def test_every_call_has_a_case_here():
    assert calls() == {(case.method, case.path) for case in CASES} | PUBLIC


class Recorder:
    """The store as the edge sees it, and what it was asked for somebody."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls: list[str] = []

    def run_id(self, partition: int) -> str:
        return self.store.run_id(partition)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self.store, name)

        def through(*args: Any, **kwargs: Any) -> Any:
            if args and args[0] != "":  # else: is the store there?
                self.calls.append(name)
            return call(*args, **kwargs)

        return through


class Scene(NamedTuple):
    edge: RunningEdge
    client: httpx.AsyncClient
    store: SelfAnsweringStore
    seen: Recorder
    ring: KeyRing
    issuer: Issuer
    alice: str
    bob: str

    async def make(self, case: Case) -> str:
        """Something of Alice's, for what the case's address names. Returns its id there."""
        if case.made_by is None:
            return "default"
        self.store._fates = cycle([case.fate])
        path, body = case.made_by
        made = await self.client.post(path, json=body, headers=bearer(self.alice))
        assert made.is_success, made.text
        return made.json().get("request_id") or made.json()["id"]

    async def call(
        self, case: Case, name: str, headers: dict[str, str], query: str = ""
    ) -> httpx.Response:
        self.seen.calls.clear()
        path = case.path
        for field in ("request_id", "completion_id", "response_id", "model"):
            path = path.replace(f"{{{field}}}", name)
        query = "&".join(part for part in (case.asks, query) if part)
        return await self.client.request(
            case.method,
            f"{path}?{query}" if query else path,
            json=case.body,
            headers={"Accept": case.accept} | headers,
        )


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer("RS256")


@pytest.fixture
async def scene(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Scene]:
    ring = KeyRing(tmp_path / "keys")
    alice, bob = ring.new("alice"), ring.new("bob")
    (tmp_path / "jwks").write_text(issuer.jwks())
    chosen = ring.settings | issuer.settings | {"jwt_jwks": str(tmp_path / "jwks")}
    store = SelfAnsweringStore()
    seen = Recorder(store)
    async with (
        running_edge(seen, linger_s=60.0, **chosen) as edge,  # pyright: ignore[reportArgumentType]
        edge.client() as client,
    ):
        yield Scene(edge, client, store, seen, ring, issuer, alice, bob)


def unlike(name: str) -> str:
    """An id of the same form that nobody has."""
    prefix = name[: -22 if len(name) > 22 else 0]
    return prefix + "A" * 22


def token(subject: str, name: str, *, for_s: int = 60) -> str:
    expires_s = int(time.time()) + for_s
    return f"token={stream_tokens.issue(SecretStr(SECRET), subject, name, expires_s=expires_s)}"


def refusals(scene: Scene, case: Case, name: str) -> dict[str, tuple[dict[str, str], str]]:
    """Headers and query of everything that opens nothing."""
    issuer, now = scene.issuer, int(time.time())
    credentials = {
        "a word": "secret",
        "a key of nobody": apikeys.new_key(),
        "a key cut short": scene.alice[:-1],
        "a key in capitals": scene.alice.upper(),
        "the hash of a key": apikeys.digest(scene.alice),
        "an expired token": issuer.token(exp=now - 60),
        "a token without an end": issuer.token(exp=None),
        "a token of tomorrow": issuer.token(nbf=now + 86_400),
        "a token for others": issuer.token(aud="others"),
        "a token of others": issuer.token(iss="https://others.example"),
        "a token of another key": Issuer("ES256").token(),
        "a token without a subject": issuer.token(None),
        "an unsigned token": forged("none"),
        "a token signed with the public key": forged("HS256", issuer.public_pem()),
        "a token signed with the key set": forged("HS256", issuer.jwks().encode()),
        "a token with its signature cut": issuer.token().rpartition(".")[0] + ".",
        "a stream token": token("key:alice", name).partition("=")[2],
    }
    headers: dict[str, dict[str, str]] = {
        "nothing": {},
        "another scheme": {"Authorization": "Basic YWxpY2U6"},
        "no scheme": {"Authorization": scene.alice},
        "an empty bearer": {"Authorization": "Bearer"},
        "two keys": {"Authorization": f"Bearer {scene.alice}, Bearer {scene.alice}"},
        "a header of another name": {"X-Api-Key": scene.alice},
        "a cookie": {"Cookie": f"key={scene.alice}"},
    }
    headers |= {said: bearer(given) for said, given in credentials.items()}
    found = {said: (given, "") for said, given in headers.items()}
    queries = {
        "a key in the address": f"token={scene.alice}&api_key={scene.alice}",
        "a stream token of another request": token("key:alice", unlike(name) + "!"),
        "an expired stream token": token("key:alice", name, for_s=-1),
        "a stream token with an end": token("key:alice", name) + "A",
        "an empty stream token": "token=",
    }
    if not case.by_token:
        queries["a good stream token"] = token("key:alice", name)
    return found | {said: ({}, query) for said, query in queries.items()}


@pytest.mark.rule("A1", "A2")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_nobody_gets_in_with_anything_but_the_right_credentials(scene: Scene, case: Case):
    name = await scene.make(case)
    bodies: set[bytes] = set()
    for said, (headers, query) in refusals(scene, case, name).items():
        answer = await scene.call(case, name, headers, query)
        assert answer.status_code == 401, said
        assert answer.json()["error"]["code"] in ("unauthorized", "invalid_api_key"), said
        assert answer.headers["www-authenticate"].startswith('Bearer realm="lore"'), said
        assert scene.seen.calls == [], f"{said}: the store was asked"
        bodies.add(answer.content)
    assert len(bodies) <= 2, "there were credentials, or there were none; no more is told"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_right_credentials_get_in(scene: Scene, case: Case):
    answer = await scene.call(case, await scene.make(case), bearer(scene.alice))
    assert answer.is_success, answer.text
    if case.by_token:
        name = await scene.make(case)
        answer = await scene.call(case, name, {}, token("key:alice", name))
        assert answer.is_success, answer.text
    if case.made_by is None:
        answer = await scene.call(case, "default", bearer(scene.issuer.token("carol")))
        assert answer.is_success, answer.text


def told(answer: httpx.Response, name: str) -> tuple[int, list[tuple[str, str]], str]:
    """All that an answer says, but for the id that was asked for and the time of day."""
    headers = sorted(item for item in answer.headers.items() if item[0] != "date")
    return answer.status_code, headers, answer.text.replace(name, "<id>")


@pytest.mark.rule("A11", "A12")
@pytest.mark.parametrize("case", OWNED, ids=lambda case: case.name)
async def test_what_is_somebody_else_s_is_what_never_was(scene: Scene, case: Case):
    name = await scene.make(case)
    nobody = unlike(name)
    others = {
        "another key": (bearer(scene.bob), "key:bob"),
        "a token of the same name": (bearer(scene.issuer.token("alice")), "jwt:alice"),
        "a token named as the key": (bearer(scene.issuer.token("key:alice")), "jwt:key:alice"),
    }
    for said, (headers, subject) in others.items():
        ways = [(headers, "", "")]
        if case.by_token:
            ways.append(({}, token(subject, name), token(subject, nobody)))
        for given, query, its in ways:
            theirs = await scene.call(case, name, given, query)
            asked = list(scene.seen.calls)
            unknown = await scene.call(case, nobody, given, its)
            assert asked == scene.seen.calls, f"{said}: it takes other steps"
            if case.looks:
                assert unknown.status_code == 404, said
                assert told(theirs, name) == told(unknown, nobody), said
            else:
                assert theirs.status_code == unknown.status_code == 201, said
    mine = await scene.call(case, name, bearer(scene.alice))
    assert mine.is_success, "nobody has changed it"


@pytest.mark.rule("A12")
async def test_an_answer_that_is_being_read_is_no_less_hidden(scene: Scene):
    """Its feed is open here, which must not make another answer, or a quicker one."""
    store = MemoryStore()
    scene.seen.store = store
    headers = bearer(scene.alice)
    created = await scene.client.post("/v1/streams", json=QUESTION, headers=headers)
    name = created.json()["request_id"]
    writer = Writer(store, name)
    await writer.claim()
    await writer.write("a", "b")
    headers |= {"Accept": STREAM}
    async with scene.client.stream("GET", f"/v1/streams/{name}", headers=headers) as mine:
        assert mine.status_code == 200
        feed = scene.edge.edge.feeds.find(name, "key:alice")
        assert feed is not None
        # Its own looks at the store are nobody else's steps.
        await until(lambda: feed.follower.looks == 2 and feed.follower.is_settled)
        answers: list[tuple[Any, list[str]]] = []
        for asked in (name, unlike(name)):
            case = Case("GET", ONE, None, STREAM)
            answer = await scene.call(case, asked, bearer(scene.bob), "after=1")
            answers.append((told(answer, asked), list(scene.seen.calls)))
        assert answers[0] == answers[1]
        assert answers[0][0][0] == 404


async def test_nobody_learns_of_a_key_that_somebody_else_used(scene: Scene):
    """The same Idempotency-Key is another one for each subject."""
    case = CASES[0]
    key = {"Idempotency-Key": "order 7"}
    mine = await scene.call(case, "", bearer(scene.alice) | key)
    again = await scene.call(case, "", bearer(scene.alice) | key)
    assert mine.json()["request_id"] == again.json()["request_id"]
    other = await scene.call(case, "", bearer(scene.bob) | key)
    assert other.status_code == 201
    assert other.json()["request_id"] != mine.json()["request_id"]


@pytest.mark.rule("A13")
async def test_no_call_lists_requests_but_ones_own(scene: Scene):
    name = await scene.make(OWNED[0])
    for path in ("/v1/streams/", "/v1/responses", "/v1/chat/completions"):
        answer = await scene.client.get(path, headers=bearer(scene.alice))
        assert answer.status_code in (404, 405)
        assert name not in answer.text


@pytest.mark.rule("A7")
async def test_a_stream_token_reads_and_acknowledges_on_another_edge(scene: Scene):
    """What EventSource does, and a page that was given no key."""
    name = await scene.make(CASES[3])
    case = next(case for case in CASES if case.path.endswith("/token"))
    made = (await scene.call(case, name, bearer(scene.alice))).json()
    expires_s = datetime.fromisoformat(made["expires_at"]).timestamp()
    assert time.time() < expires_s <= time.time() + 601
    async with running_edge(scene.store, **scene.ring.settings) as other:
        read = await stream(other, f"{name}?token={made['token']}&x=")
        assert read.status == 200
        assert (await read.event()) is not None
        async with other.client() as client:
            url = f"/v1/streams/{name}/ack?token={made['token']}"
            assert (await client.post(url, json={"seq": 1})).status_code == 204


async def test_the_answers_are_json_that_says_no_more_than_it_must(scene: Scene):
    answer = await scene.call(CASES[0], "", bearer(scene.bob[:-1]))
    assert json.loads(answer.content).keys() == {"error"}
    assert answer.json()["error"].keys() == {"code", "message"}


@pytest.mark.rule("A3")
async def test_where_everyone_is_let_in_all_are_one(scene: Scene):
    async with running_edge(MemoryStore()) as edge, edge.client() as client:
        request_id = await ask(edge)
        for headers in ({}, bearer(scene.alice), bearer("nonsense")):
            view = await client.get(f"/v1/streams/{request_id}", headers=headers)
            assert view.status_code == 200
