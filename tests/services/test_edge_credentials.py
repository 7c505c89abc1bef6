"""Whatever stands in a credential, the answer is 401: tables to which a reader adds a line.

An issuer of JWTs is trusted to say who somebody is, and not to be free of bugs; who brings a
token may have made it up.
"""

import base64
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from lore.store import MemoryStore
from lore_edge.auth import stream_tokens
from lore_edge.auth.jwks import BadJwks, Jwks
from lore_edge.wire.secret import sign
from tests.services.auth_harness import AUDIENCE, ISSUER, SECRET, Issuer, KeyRing, bearer
from tests.services.edge_harness import direct_client

ISSUED = Issuer()
NOW_S = int(time.time())
GOOD = {"sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "exp": NOW_S + 86_400}
ID = "A" * 22


def claims(**changed: Any) -> str:
    return json.dumps(GOOD | changed)


def written(name: str, value: str) -> str:
    """A claim as this JSON, which Python's own would not write."""
    return claims(**{name: "HERE"}).replace('"HERE"', value)


NUMBERS = {
    "many digits": "1" + "0" * 400,
    "more digits than are read": "1" * 5000,
    "negative": "-1" + "0" * 400,
    "a large float": "1e308",
    "beyond floats": "1e400",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "NaN": "NaN",
    "a string": '"soon"',
    "digits in a string": f'"{NOW_S + 86_400}"',
    "more digits in a string": '"' + "9" * 5000 + '"',
    "true": "true",
    "null": "null",
    "a list": f"[{NOW_S + 86_400}]",
    "an object": "{}",
}
TEXTS = {
    "a number": "7",
    "a float": "NaN",
    "null": "null",
    "true": "true",
    "empty": '""',
    "a list": '["alice"]',
    "an object": '{"name": "alice"}',
    "a NUL": '"a\\u0000b"',
    "a line end": '"a\\nb"',
    "a line separator": '"a\\u2028b"',
    "half a surrogate": '"a\\ud800"',
    "written backwards": '"\\u202ealice"',
    "long": '"' + "a" * 4000 + '"',
}

REFUSED = {
    **{f"exp: {name}": written("exp", value) for name, value in NUMBERS.items()},
    **{
        f"{claim}: {name}": written(claim, value)
        for claim in ("nbf", "iat")
        for name, value in NUMBERS.items()
        if name != "negative"  # long ago
    },
    **{f"sub: {name}": written("sub", value) for name, value in TEXTS.items()},
    **{f"iss: {name}": written("iss", value) for name, value in TEXTS.items()},
    **{f"aud: {name}": written("aud", value) for name, value in TEXTS.items()},
    "aud: a list in a list": claims(aud=[[AUDIENCE]]),
    "aud: one of them a number": claims(aud=[AUDIENCE, 7]),
    "aud: many others": claims(aud=["a"] * 500),
    "aud: no one": claims(aud=[]),
    "jti: a number": claims(jti=7),
    "nested": '{"sub": ' + "[" * 5000 + "]" * 900 + "}",
    "nested objects": '{"sub": ' * 600 + "1" + "}" * 600,
    "a list": "[1]",
    "a number": "7",
    "a string": '"alice"',
    "null": "null",
    "empty": "",
    "cut off": claims()[:-1],
    "not UTF-8": "\udcff",
    "UTF-16": claims().encode("utf-16").decode("latin-1"),
}
"""Payloads, signed by the issuer."""

TAKEN = {
    "as issued": claims(),
    "a float": claims(exp=NOW_S + 86_400.5),
    "long ago": claims(nbf=-(10**12), iat=0),
    "several audiences": claims(aud=["another", AUDIENCE]),
    "names in any language": claims(sub="ålice@例え.jp"),
    "the longest name": claims(sub="🎉" * 255),
    "claims that are not for here": claims(more={"a": [1, None]}, scope="x" * 1000),
}

HEAD = {"alg": "ES256", "typ": "JWT", "kid": "key-0"}
HEADS = {
    **{
        f"{name}: {kind}": HEAD | {name: value}
        for name in ("alg", "kid")
        for kind, value in {
            "a number": 7,
            "a list": ["ES256"],
            "an object": {"ES256": "key-0"},
            "true": True,
            "empty": "",
            "long": "k" * 4000,
            "half a surrogate": "\ud800",
            "a path": "../../../etc/passwd",
            "a NUL": "a\0",
        }.items()
    },
    "alg: none": HEAD | {"alg": "none"},
    "alg: null": HEAD | {"alg": None},
    "alg: missing": {"kid": "key-0"},
    "alg: a shared secret": HEAD | {"alg": "HS256"},
    "crit: unknown": HEAD | {"crit": ["exp"], "exp": 1},
    "crit: empty": HEAD | {"crit": []},
    "crit: a string": HEAD | {"crit": "exp"},
    "crit: a number": HEAD | {"crit": 7},
    "crit: objects": HEAD | {"crit": [{}]},
    "crit: no list": HEAD | {"crit": None},
    "b64: false": HEAD | {"b64": False, "crit": ["b64"]},
    "b64: false, not critical": HEAD | {"b64": False},
    "b64: a number": HEAD | {"b64": 0, "crit": ["b64"]},
    "no object": ["ES256"],
    "a number": 7,
    "null": None,
}
"""Headers, over claims that are good; signed with the issuer's key."""

OTHERS = {
    "one part": "a",
    "two parts": "a.b",
    "four parts": "a.b.c.d",
    "five, as of JWE": "a.b.c.d.e",
    "empty parts": "..",
    "padding": "a=.b=.c==",
    "no base64": "a.b.c~~~",
    "long": "a" * 100_000,
    "long in parts": f"{'a' * 3000}.{'b' * 3000}.{'c' * 2000}",
    "dots": "." * 8000,
    "a header that is nested": base64.urlsafe_b64encode(b"[" * 5900).decode() + ".e30.AA",
    "a key": "lore_" + "A" * 43,
    "a short key": "lore_",
    "a long key": "lore_" + "A" * 9000,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> httpx.AsyncClient:
    """Of one edge for all cases. Without a socket, so that nothing is left to be closed."""
    folder = tmp_path_factory.mktemp("credentials")
    (folder / "jwks").write_text(ISSUED.jwks())
    ring = KeyRing(folder / "keys")
    ring.new("bob")
    settings = ring.settings | ISSUED.settings | {"jwt_jwks": str(folder / "jwks")}
    return direct_client(MemoryStore(), **settings)


async def answered(client: httpx.AsyncClient, token: str) -> tuple[int, str]:
    """Status and error of a call with this credential; anything that is raised comes out."""
    answer = await client.get(f"/v1/streams/{ID}", headers=bearer(token))
    return answer.status_code, answer.json()["error"]["code"]


def signed(payload: str, head: object = HEAD) -> str:
    return ISSUED.signed(head, payload.encode("utf-8", "surrogateescape"))


@pytest.mark.rule("A5")
@pytest.mark.parametrize("payload", REFUSED.values(), ids=REFUSED.keys())
async def test_claims_that_make_no_sense_let_nobody_in(client: httpx.AsyncClient, payload: str):
    assert await answered(client, signed(payload)) == (401, "unauthorized")


@pytest.mark.parametrize("payload", TAKEN.values(), ids=TAKEN.keys())
async def test_claims_that_are_unusual_and_good_are_taken(client: httpx.AsyncClient, payload: str):
    assert await answered(client, signed(payload)) == (404, "not_found")


@pytest.mark.rule("A5")
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
async def test_a_header_that_makes_no_sense_lets_nobody_in(client: httpx.AsyncClient, head: Any):
    assert await answered(client, signed(claims(), head)) == (401, "unauthorized")


@pytest.mark.parametrize("token", OTHERS.values(), ids=OTHERS.keys())
async def test_what_is_no_token_lets_nobody_in(client: httpx.AsyncClient, token: str):
    assert await answered(client, token) == (401, "unauthorized")


async def test_what_is_packed_is_not_unpacked(client: httpx.AsyncClient):
    """RFC 7516's ``zip`` is JWE's: here it says nothing."""
    assert await answered(client, signed(claims(), HEAD | {"zip": "DEF"})) == (404, "not_found")


def sealed(data: bytes) -> str:
    """A stream token with this in it, which only a holder of the secret can make."""
    key = base64.urlsafe_b64encode(sign(SecretStr(SECRET), "stream token"))
    return Fernet(key).encrypt(data).decode().rstrip("=")


STREAM_TOKENS = {
    "empty": "",
    "no base64": "~~~",
    "percent signs": "%%%",
    "a NUL": "%00",
    "not UTF-8": "%ff%fe",
    "long": "A" * 60_000,
    "made up": "gAAAAA" + "A" * 100,
    "another version": "A" * 120,
    "nothing in it": sealed(b""),
    "no parts": sealed(b"x"),
    "not UTF-8 in it": sealed(b"\xff\xfe\0\xff\0\xff"),
    "no time": sealed(f"{ID}\0soon\0key:bob".encode()),
    "no end of time": sealed(f"{ID}\0{'9' * 5000}\0key:bob".encode())[:1024],
    "an API key": "lore_" + "A" * 43,
}


@pytest.mark.parametrize("token", STREAM_TOKENS.values(), ids=STREAM_TOKENS.keys())
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stream_token_that_makes_no_sense_opens_nothing(
    client: httpx.AsyncClient, token: str, method: str
):
    path = f"/v1/streams/{ID}" + ("/ack" if method == "POST" else "")
    headers = {"Accept": "text/event-stream"}
    answer = await client.request(method, f"{path}?token={token}", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")


def test_a_stream_token_serves_the_longest_name_that_a_jwt_may_have():
    secret, subject = SecretStr(SECRET), "jwt:" + "🎉" * 255
    token = stream_tokens.issue(secret, subject, ID, expires_s=NOW_S + 60)
    assert stream_tokens.subject_of(secret, ID, token, now_s=NOW_S) == subject


KEY: dict[str, Any] = json.loads(ISSUED.jwks())["keys"][0]
KEYS = {
    **{
        f"{name}: {kind}": KEY | {name: value}
        for name in ("kty", "crv", "x", "y", "alg", "use")
        for kind, value in {
            "a number": 7,
            "a list": [],
            "an object": {},
            "empty": "",
            "long": "A" * 10_000,
            "no base64": "é",
            "half a surrogate": "\ud800",
        }.items()
        if (name, kind) != ("alg", "empty")  # as if it were not there
    },
    "a point that is on no curve": KEY | {"y": KEY["x"]},
    "a shared secret": {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
    "an RSA key of nothing": {"kty": "RSA", "n": "", "e": ""},
    "an RSA key of 8 bits": {"kty": "RSA", "n": "_w", "e": "AQAB"},
    "an RSA key without bounds": {"kty": "RSA", "n": "_" * 100_000, "e": "AQAB"},
    "an even exponent": {"kty": "RSA", "n": "_" * 342, "e": "Ag"},
    "no object": 7,
    "nothing": {},
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
async def test_a_key_that_makes_no_sense_leaves_the_others_of_its_set(tmp_path: Path, key: Any):
    """None of them is in the set alone, where nothing would be left."""
    place = tmp_path / "jwks"
    place.write_text(json.dumps({"keys": [key, KEY | {"kid": "good"}]}))
    assert await Jwks(str(place)).find("good") is not None
    place.write_text(json.dumps({"keys": [key]}))
    with pytest.raises(BadJwks, match="no key that can verify"):
        Jwks(str(place))
