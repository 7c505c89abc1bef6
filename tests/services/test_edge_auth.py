"""Who is let in: API keys, JWTs and stream tokens (PROTOCOL.md, Authentication)."""

import asyncio
import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from lore import apikeys
from lore.store import MemoryStore
from lore_edge.auth import jwks as jwks_module
from lore_edge.auth import jwts as jwts_module
from lore_edge.auth import stream_tokens
from lore_edge.auth.authenticator import Authenticator, BadAuth
from lore_edge.auth.jwks import ALGORITHMS, Jwks
from lore_edge.auth.jwts import KNOWN_S, LEEWAY_S, Jwts
from lore_edge.auth.keys import BadKeys, KeyFile
from lore_edge.wire.errors import ApiError
from lore_edge.wire.secret import sign
from lore_edge.wire.subject import subject_of
from tests.services.auth_harness import (
    AUDIENCE,
    ISSUER,
    SECRET,
    Issuer,
    KeyRing,
    bearer,
    forged,
)
from tests.services.edge_harness import WAIT_S, running_edge, settings

ID = "A" * 22
NOW_S = 1_800_000_000


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "keys")


def scope(path: str, method: str = "GET", query: str = "", **headers: str) -> dict[str, Any]:
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"path": path, "method": method, "query_string": query.encode(), "headers": pairs}


async def refused(auth: Authenticator, call: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await auth.admit(call)
    with pytest.raises(KeyError):
        subject_of(call)
    return raised.value


# the settings


@pytest.mark.rule("A3")
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, ["LORE_API_KEYS_FILE", "LORE_JWT_ISSUER", "LORE_AUTH=off"]),
        ({"api_keys_file": "/nowhere/keys", "secret": "short"}, ["LORE_SECRET", "32"]),
        ({"api_keys_file": "/nowhere/keys", "secret": SECRET}, ["LORE_API_KEYS_FILE", "/nowhere"]),
        (Issuer().settings | {"jwt_jwks": "/nowhere/jwks"}, ["LORE_JWT_JWKS"]),
        (Issuer().settings, ["LORE_JWT_ISSUER", "LORE_JWT_AUDIENCE", "LORE_JWT_JWKS"]),
    ],
)
def test_an_edge_that_would_let_in_nobody_or_anybody_says_what_to_set(
    given: dict[str, Any], named: list[str]
):
    with pytest.raises(BadAuth) as raised:
        Authenticator(settings(**{"auth": "required"} | given))
    line = str(raised.value)
    assert all(name in line for name in named), line
    assert "\n" not in line


@pytest.mark.rule("A3")
async def test_only_an_edge_that_was_told_so_lets_everyone_in():
    call = scope("/v1/streams")
    await Authenticator(settings(auth="off")).admit(call)
    assert subject_of(call) == "anonymous"


HOSTS = ("localhost:8080", "LocalHost", "lore.example", "127.0.0.1:8080", "[::1]:8080", "192.0.2.1")
STRANGERS = (
    "page.example:8080",
    "localhost.page.example",
    "page.example:localhost",
    "page.example@localhost",
    "localhost, page.example",
    "[localhost]",
    "",
)


@pytest.mark.rule("A10")
@pytest.mark.parametrize("host", [*HOSTS, *STRANGERS])
async def test_an_edge_answers_to_its_names_and_to_addresses(host: str):
    """A page from anywhere can have its own name resolve to this machine."""
    call = scope("/v1/streams", host=host)
    auth = Authenticator(settings(auth="off", allowed_hosts=" Localhost,lore.example"))
    if host in HOSTS:
        await auth.admit(call)
        assert subject_of(call) == "anonymous"
    else:
        error = await refused(auth, call)
        assert (error.status, error.code) == (403, "host_not_allowed")
        assert "LORE_ALLOWED_HOSTS" in error.message


async def test_an_edge_that_was_given_no_names_answers_to_any():
    await Authenticator(settings(auth="off")).admit(scope("/v1/streams", host="page.example"))


# API keys


@pytest.mark.rule("A4")
def test_a_file_knows_keys_by_their_hash_and_takes_comments(ring: KeyRing):
    alice, bob = ring.new("alice"), ring.new("bob")
    ring.path.write_text(ring.path.read_text().replace(" bob\n", "  bob # the phone\n\n"))
    keys = KeyFile(ring.path)
    assert (keys.subject(alice), keys.subject(bob)) == ("alice", "bob")
    assert alice not in ring.path.read_text()
    for wrong in ("", alice[:-1], alice + "A", alice.upper(), apikeys.digest(alice)):
        assert keys.subject(wrong) is None


@pytest.mark.rule("A4")
def test_keys_come_and_go_with_the_file(ring: KeyRing):
    alice = ring.new("alice")
    keys = KeyFile(ring.path)
    bob = ring.new("bob")
    keys.poll()
    assert (keys.subject(alice), keys.subject(bob)) == ("alice", "bob")
    ring.path.write_text("# nobody\n")
    keys.poll()
    assert keys.subject(alice) is None


@pytest.mark.rule("A4")
def test_a_key_opens_nothing_once_it_has_expired(ring: KeyRing):
    alice = ring.new("alice")
    ring.path.write_text(ring.path.read_text().replace(" alice", " alice 2027-01-31T00:00:00Z"))
    end_s = datetime(2027, 1, 31, tzinfo=UTC).timestamp()
    now_s = end_s - 1
    keys = KeyFile(ring.path, clock=lambda: now_s)
    assert keys.subject(alice) == "alice"
    now_s = end_s
    assert keys.subject(alice) is None


@pytest.mark.rule("A4")
@pytest.mark.parametrize("until", ["2027-01-31", "tomorrow", "2027-01-31T00:00:00Z 2"])
def test_a_time_that_is_none_breaks_the_file(ring: KeyRing, until: str):
    ring.new("alice")
    ring.path.write_text(ring.path.read_text().replace(" alice", f" alice {until}"))
    with pytest.raises(BadKeys, match="line 2"):
        KeyFile(ring.path)


def test_a_secret_that_kubernetes_swaps_is_noticed(tmp_path: Path):
    """It changes none of the links that the path names, but where ``..data`` leads."""
    first, second = KeyRing(tmp_path / "1"), KeyRing(tmp_path / "2")
    old, new = first.new("alice"), second.new("alice")
    for name, ring in (("v1", first), ("v2", second)):
        (tmp_path / name).mkdir()
        ring.path.rename(tmp_path / name / "keys")
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "keys").symlink_to("..data/keys")
    keys = KeyFile(tmp_path / "keys")
    assert keys.subject(old) == "alice"
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "..data")
    keys.poll()
    assert (keys.subject(old), keys.subject(new)) == (None, "alice")


@pytest.mark.rule("A4")
async def test_a_running_edge_takes_a_new_key_without_a_restart(ring: KeyRing):
    async with running_edge(MemoryStore(), **ring.settings) as edge, edge.client() as client:
        headers = bearer(ring.new("alice"))
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = await client.post("/v1/streams", json={"question": "a"}, headers=headers)
                if answer.status_code == 201:
                    break
                await asyncio.sleep(0.05)


@pytest.mark.rule("A4")
@pytest.mark.parametrize("broken", [None, b"\xff\xfe", b"secret words here\n", b"{twice}"])
def test_a_file_that_breaks_keeps_the_old_keys_and_says_where_once(
    ring: KeyRing, broken: bytes | None
):
    alice = ring.new("alice")
    keys = KeyFile(ring.path)
    text = ring.path.read_bytes()
    if broken is None:
        ring.path.unlink()
    else:
        ring.path.write_bytes(text + text if broken == b"{twice}" else text + broken)
    with capture_logs() as logs:
        keys.poll()
        keys.poll()
    (entry,) = logs
    assert entry["log_level"] == "error"
    assert str(ring.path) in entry["reason"]
    if broken and b"\n" in broken:
        assert "line 3" in entry["reason"]
    assert "secret" not in str(entry)
    assert apikeys.digest(alice) not in str(entry)
    assert keys.subject(alice) == "alice"
    with pytest.raises(BadKeys):
        KeyFile(ring.path)


@pytest.mark.rule("A2")
async def test_what_is_wrong_about_a_key_is_told_to_nobody(ring: KeyRing):
    alice = ring.new("alice")
    auth = Authenticator(settings(**ring.settings))
    call = scope("/v1/streams", **bearer(alice))
    await auth.admit(call)
    assert subject_of(call) == "key:alice"
    wrong = (alice[:-1], apikeys.new_key(), "lore_", "x", "a.b.c", Issuer().token())
    errors = [await refused(auth, scope("/v1/streams", **bearer(each))) for each in wrong]
    answers = {(error.status, error.body(), str(error.headers)) for error in errors}
    assert len(answers) == 1


@pytest.mark.parametrize(
    "header",
    ["Basic YTpi", "Bearer", "Bearer ", "bearer:x", "{key}", "Bearer {key} x", "Bearer {key}, x"],
)
async def test_a_header_that_is_no_bearer_token_lets_nobody_in(ring: KeyRing, header: str):
    auth = Authenticator(settings(**ring.settings))
    header = header.format(key=ring.new("alice"))
    auth.poll()
    error = await refused(auth, scope("/v1/streams", Authorization=header))
    assert error.headers["WWW-Authenticate"] == 'Bearer realm="lore"'


async def test_two_keys_at_once_are_none(ring: KeyRing):
    alice = ring.new("alice")
    auth = Authenticator(settings(**ring.settings))
    call = scope("/v1/streams", **bearer(alice))
    call["headers"] *= 2
    await refused(auth, call)


# JWTs


def jwts(tmp_path: Path, issuer: Issuer) -> Jwts:
    (tmp_path / "jwks").write_text(issuer.jwks())
    return Jwts(ISSUER, AUDIENCE, Jwks(str(tmp_path / "jwks")))


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256"])
async def test_a_token_of_the_issuer_names_its_subject(tmp_path: Path, algorithm: str):
    issuer = Issuer(algorithm)
    assert await jwts(tmp_path, issuer).subject(issuer.token("alice")) == "alice"


@pytest.mark.rule("A5")
@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": -LEEWAY_S - 5},
        {"nbf": 600},
        {"iss": "https://another.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"subject": None},
        {"subject": ""},
        {"subject": "a\0b"},
        {"subject": "a\ud800"},
        {"subject": "a" * 256},
    ],
)
async def test_a_token_that_is_not_for_here_or_now_names_nobody(
    tmp_path: Path, claims: dict[str, Any]
):
    """Times are seconds from the test's own beginning, which a long run reaches late."""
    issuer, now_s = Issuer(), int(time.time())
    claims = {
        name: now_s + value if isinstance(value, int) else value for name, value in claims.items()
    }
    assert await jwts(tmp_path, issuer).subject(issuer.token(**claims)) is None


@pytest.mark.rule("A5")
async def test_no_token_signs_itself(tmp_path: Path):
    """RFC 8725 section 2.1: ``none``, and what is public used as a shared secret."""
    issuer = Issuer("RS256")
    checking = jwts(tmp_path, issuer)
    public = issuer.jwks()
    modulus = json.loads(public)["keys"][0]["n"].encode()
    for forgery in (
        forged("none"),
        forged("None"),
        forged("HS256", modulus),
        forged("HS256", public.encode()),
        forged("HS256", issuer.public_pem()),
        forged("RS256", issuer.public_pem()),
        Issuer("RS256").token(),
        issuer.token()[:-2],
        "..",
        "a.b.c",
        "a" * 10_000,
    ):
        assert await checking.subject(forgery) is None
    assert not any(name.startswith("HS") or name == "none" for name in ALGORITHMS)


@pytest.mark.rule("A5")
async def test_a_key_signs_with_its_own_algorithm_alone(tmp_path: Path):
    issuer = Issuer("RS256")
    checking = jwts(tmp_path, issuer)
    issuer.algorithms = ("PS256",)
    assert await checking.subject(issuer.token()) is None


async def test_a_key_for_encryption_or_a_shared_one_verifies_nothing(tmp_path: Path):
    issuer = Issuer()
    data = json.loads(issuer.jwks())
    data["keys"][0]["use"] = "enc"
    data["keys"].append({"kty": "oct", "k": "c2VjcmV0", "kid": "key-0", "alg": "HS256"})
    (tmp_path / "jwks").write_text(json.dumps(data))
    with pytest.raises(jwks_module.BadJwks):
        Jwks(str(tmp_path / "jwks"))


@pytest.mark.parametrize(("lasts_s", "known_s"), [(600, KNOWN_S), (20, 20)])
async def test_a_good_token_is_looked_at_again_after_a_while_and_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasts_s: int, known_s: float
):
    issuer = Issuer()
    checking, decode = jwts(tmp_path, issuer), jwt.decode
    clock_s = [time.time()]
    looked_s: list[float] = []

    def look(*args: Any, **more: Any) -> Any:
        looked_s.append(clock_s[-1])
        return decode(*args, **more)

    monkeypatch.setattr(jwt, "decode", look)
    monkeypatch.setattr(jwts_module.time, "time", lambda: clock_s[-1])
    token = issuer.token(exp=clock_s[0] + lasts_s)
    for past_s in (0.0, known_s - 1, known_s):
        clock_s.append(clock_s[0] + past_s)
        assert await checking.subject(token) == "alice"
    assert looked_s == [clock_s[1], clock_s[3]]
    assert await checking.subject(token[:-1]) is None


class Keys(http.server.BaseHTTPRequestHandler):
    """Where an issuer shows its keys."""

    body: bytes = b""
    reads = 0
    go = threading.Event()

    def do_GET(self) -> None:
        Keys.reads += 1
        self.go.wait(10)
        self.send_response(200 if self.body else 500)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def keys_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    Keys.reads, Keys.body = 0, b""
    Keys.go.set()
    with _serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys)) as port:
        yield f"http://127.0.0.1:{port}/jwks"


@contextmanager
def _serving(server: http.server.ThreadingHTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_all_who_name_an_unknown_key_wait_for_one_read(keys_url: str):
    issuer = Issuer()
    Keys.body = issuer.jwks().encode()
    Keys.go.clear()
    checking = Jwts(ISSUER, AUDIENCE, Jwks(keys_url))
    asking = [asyncio.create_task(checking.subject(issuer.token())) for _ in range(20)]
    await asyncio.sleep(0)
    Keys.go.set()
    assert await asyncio.gather(*asking) == ["alice"] * 20
    assert Keys.reads == 1
    assert await checking.subject(Issuer("ES256", "ES256").token(number=1)) is None
    assert Keys.reads == 1, "a key that nobody knows does not call the issuer each time"


async def test_new_keys_are_read_and_withdrawn_ones_are_forgotten(
    keys_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jwks_module, "PAUSE_S", 0.0)
    old, new = Issuer(), Issuer("ES256", "ES256")
    Keys.body = old.jwks().encode()
    checking = Jwts(ISSUER, AUDIENCE, Jwks(keys_url))
    assert await checking.subject(old.token()) == "alice"
    Keys.body = new.jwks().encode()
    assert await checking.subject(new.token(number=1)) == "alice"
    assert await checking.subject(old.token()) is None


async def test_old_keys_serve_while_the_issuer_is_away(
    keys_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jwks_module, "PAUSE_S", 0.0)
    issuer = Issuer()
    Keys.body = issuer.jwks().encode()
    checking = Jwts(ISSUER, AUDIENCE, Jwks(keys_url))
    assert await checking.subject(issuer.token()) == "alice"
    Keys.body = b""
    with capture_logs() as logs, pytest.raises(ApiError) as raised:
        await checking.subject(Issuer("ES256", "ES256").token(number=1))
    assert (raised.value.status, raised.value.code) == (503, "auth_unavailable")
    assert int(raised.value.headers["Retry-After"]) > 0
    assert "LORE_JWT_JWKS" in logs[0]["reason"]
    assert await checking.subject(issuer.token()) == "alice"


async def test_old_keys_are_read_again_now_and_then(keys_url: str, monkeypatch: pytest.MonkeyPatch):
    issuer = Issuer()
    Keys.body = issuer.jwks().encode()
    source = Jwks(keys_url)
    source.poll()
    while source._reading is not None:
        await asyncio.shield(source._reading)
    source.poll()
    assert (Keys.reads, source._reading) == (1, None)
    monkeypatch.setattr(jwks_module, "MAX_AGE_S", -1.0)
    source.poll()
    while source._reading is not None:
        await asyncio.shield(source._reading)
    assert Keys.reads == 2


@pytest.mark.rule("A11")
async def test_a_key_and_a_token_of_one_name_are_two_subjects(ring: KeyRing, tmp_path: Path):
    issuer = Issuer()
    (tmp_path / "jwks").write_text(issuer.jwks())
    both = ring.settings | issuer.settings | {"jwt_jwks": str(tmp_path / "jwks")}
    key = ring.new("alice")
    auth = Authenticator(settings(**both))
    subjects: set[str] = set()
    for credentials in (key, issuer.token("alice"), issuer.token("key:alice")):
        call = scope("/v1/streams", **bearer(credentials))
        await auth.admit(call)
        subjects.add(subject_of(call))
    assert subjects == {"key:alice", "jwt:alice", "jwt:key:alice"}


# stream tokens


@pytest.mark.rule("A7")
def test_a_stream_token_is_of_one_request_one_secret_and_some_time():
    secret = SecretStr(SECRET)
    token = stream_tokens.issue(secret, "key:alice", ID, expires_s=NOW_S)

    def bearer_of(token: str, of: str = ID, by: SecretStr = secret, at: int = NOW_S - 1) -> Any:
        return stream_tokens.subject_of(by, of, token, now_s=at)

    assert bearer_of(token) == "key:alice"
    assert bearer_of(token, at=NOW_S) is None
    assert bearer_of(token, of="B" * 22) is None
    assert bearer_of(token, by=SecretStr(SECRET + "!")) is None
    for wrong in ("", "=", "é", token[:-1], token + "A", token.swapcase(), "A" * 10_000):
        assert bearer_of(wrong) is None
    assert len(token) < 200


@pytest.mark.rule("A7")
def test_a_stream_token_names_nobody_to_who_comes_across_it():
    token = stream_tokens.issue(SecretStr(SECRET), "jwt:alice@example.org", ID, expires_s=NOW_S)
    assert b"alice" not in base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def test_what_is_signed_for_one_purpose_serves_no_other():
    secret = SecretStr(SECRET)
    assert sign(secret, "a", "b", "c") != sign(secret, "a", "bc")
    assert sign(secret, "stream token", ID) != sign(secret, "idempotency key", ID)


@pytest.mark.rule("A7")
@pytest.mark.parametrize(
    ("method", "path", "headers", "opens"),
    [
        ("GET", f"/v1/streams/{ID}", {"Accept": "text/event-stream"}, True),
        ("POST", f"/v1/streams/{ID}/ack", {}, True),
        ("GET", f"/v1/streams/{ID}", {}, False),
        ("GET", f"/v1/streams/{'B' * 22}", {"Accept": "text/event-stream"}, False),
        ("POST", f"/v1/streams/{'B' * 22}/ack", {}, False),
        ("DELETE", f"/v1/streams/{ID}", {"Accept": "text/event-stream"}, False),
        ("POST", f"/v1/streams/{ID}/revive", {}, False),
        ("POST", f"/v1/streams/{ID}/token", {}, False),
        ("POST", "/v1/streams", {"Accept": "text/event-stream"}, False),
        ("GET", f"/v1/responses/{ID}", {"Accept": "text/event-stream"}, False),
    ],
)
async def test_a_stream_token_opens_reading_and_acknowledging_and_nothing_else(
    ring: KeyRing, method: str, path: str, headers: dict[str, str], opens: bool
):
    auth = Authenticator(settings(**ring.settings))
    expires_s = int(time.time()) + 60
    token = stream_tokens.issue(SecretStr(SECRET), "key:alice", ID, expires_s=expires_s)
    call = scope(path, method, f"after=0&token={token}", **headers)
    if opens:
        await auth.admit(call)
        assert subject_of(call) == "key:alice"
    else:
        await refused(auth, call)


@pytest.mark.rule("A8")
async def test_a_header_counts_before_a_stream_token(ring: KeyRing):
    auth = Authenticator(settings(**ring.settings))
    expires_s = int(time.time()) + 60
    token = stream_tokens.issue(SecretStr(SECRET), "key:alice", ID, expires_s=expires_s)
    headers = {"Accept": "text/event-stream"} | bearer(apikeys.new_key())
    await refused(auth, scope(f"/v1/streams/{ID}", "GET", f"token={token}", **headers))
