"""What an edge asks of other servers ends by a deadline and within a bound, however they answer."""

import asyncio
import contextlib
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lore.files import read_bounded
from lore.store import MemoryStore
from lore_edge.api import status as status_module
from lore_edge.auth import jwks as jwks_module
from lore_edge.auth.jwks import Jwks
from lore_edge.auth.keys import BadKeys, KeyFile
from lore_edge.wire import fetch as fetching_module
from lore_edge.wire.errors import ApiError
from lore_edge.wire.fetch import FetchFailed, fetching
from tests.services import bad_servers
from tests.services.auth_harness import Issuer, KeyRing, bearer
from tests.services.bad_servers import OK, SLOW, WRONG, Answer, sending, serving
from tests.services.edge_harness import WAIT_S, direct_client, running_edge

ISSUED = Issuer()
STRANGER = Issuer("ES256", "ES256")
"""It signs with a key that the set does not have."""
ID = "A" * 22
CASES = SLOW | WRONG


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test lives to see; no proxy from outside."""
    for module in (jwks_module, status_module):
        monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(jwks_module, "PAUSE_S", 0.0)
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.rule("A6")
@pytest.mark.parametrize("answer", CASES.values(), ids=CASES.keys())
async def test_a_key_set_that_cannot_be_had_is_503_and_those_who_are_known_go_on(answer: Answer):
    def good_once(first: list[bool]) -> Answer:
        async def either(writer: asyncio.StreamWriter) -> None:
            if first.pop():
                await sending(OK + b"Connection: close\r\n\r\n", ISSUED.jwks().encode())(writer)
            else:
                first.append(False)
                await answer(writer)

        return either

    async with serving(good_once([False, True])) as server:
        settings = ISSUED.settings | {"jwt_jwks": server.url}
        async with direct_client(MemoryStore(), **settings) as client:

            async def call(token: str) -> tuple[int, str, str]:
                found = await client.get(f"/v1/streams/{ID}", headers=bearer(token))
                code = found.json()["error"]["code"]
                return found.status_code, code, found.headers.get("Retry-After", "")

            known, unknown = ISSUED.token(), STRANGER.token(number=1)
            assert await call(known) == (404, "not_found", "")
            async with asyncio.timeout(WAIT_S):
                strangers = [asyncio.create_task(call(unknown)) for _ in range(5)]
                while server.calls < 2:  # the set is being read again
                    assert await call(ISSUED.token("bob")) == (404, "not_found", "")
                    await asyncio.sleep(0)  # nothing in a call without a socket does it
                answers = {await stranger for stranger in strangers}
            assert answers == {(503, "auth_unavailable", "5")}
            assert await call(ISSUED.token("carol")) == (404, "not_found", "")


async def test_a_key_set_is_read_again_after_one_that_dripped(monkeypatch: pytest.MonkeyPatch):
    """The next who names the key is served: nothing waits behind the one that hung."""
    good = sending(OK + b"Connection: close\r\n\r\n", ISSUED.jwks().encode())
    answers = [good, SLOW["a body in drips"]]
    async with serving(lambda writer: answers.pop()(writer)) as server:
        keys = Jwks(server.url)
        with capture_logs() as logs, pytest.raises(ApiError):
            await keys.find("key-0")
        assert [line["reason"] for line in logs] == [
            "LORE_JWT_JWKS cannot be read (incomplete after 0.5 s)"
        ]
        assert await keys.find("key-0") is not None


async def test_a_key_set_that_stays_away_is_told_of_once_for_each_reason_and_when_it_is_back():
    good = sending(OK + b"Connection: close\r\n\r\n", ISSUED.jwks().encode())
    bad = sending(OK + b"Connection: close\r\n\r\n", b"{")
    answers = [good, SLOW["a body in drips"], bad, bad, bad]
    async with serving(lambda writer: answers.pop()(writer)) as server:
        keys = Jwks(server.url)
        with capture_logs() as lines:
            while answers:
                with contextlib.suppress(ApiError):
                    await keys.find("nobody's")
    told = [(line["event"], line["log_level"]) for line in lines]
    assert told == [("JWKS not read, old keys kept", "warning")] * 2 + [("JWKS read again", "info")]


@pytest.mark.parametrize("answer", CASES.values(), ids=CASES.keys())
async def test_a_prometheus_that_cannot_be_asked_is_503_for_all_who_look(answer: Answer):
    async with serving(answer) as server:
        async with direct_client(MemoryStore(), auth="off", prometheus_url=server.url) as client:
            looking = [client.get("/status/figures") for _ in range(5)]
            async with asyncio.timeout(WAIT_S):
                answers = await asyncio.gather(*looking)
        assert {one.status_code for one in answers} == {503}
        assert {one.json()["error"]["code"] for one in answers} == {"prometheus_unavailable"}
        hops = 1 + fetching_module.MAX_REDIRECTS
        assert server.calls <= hops, "it is asked once for all of them"


@pytest.mark.rule("A6")
@pytest.mark.parametrize("name", [name for name in WRONG if "endless" in name or "much" in name])
async def test_no_answer_takes_more_memory_than_its_bound(name: str):
    bound = 16_384
    async with serving(WRONG[name]) as server:
        tracemalloc.start()
        try:
            with pytest.raises(FetchFailed):
                async with fetching(timeout_s=WAIT_S, max_bytes=bound, secure=False) as get:
                    await get(server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 16 * 1_048_576  # the server's own MiBs are in it


@pytest.mark.rule("A6")
async def test_one_deadline_is_for_all_that_is_asked_in_a_block():
    quick = sending(OK + b"Connection: close\r\n\r\n{}")
    async with serving(quick) as server, serving(SLOW["silent"]) as silent:
        with pytest.raises(FetchFailed, match="incomplete"):  # noqa: PT012
            async with fetching(timeout_s=0.3, max_bytes=1000, secure=False) as get:
                assert await get(server.url) == b"{}"
                await get(silent.url)


async def test_what_is_at_another_address_is_followed_there():
    async with serving(sending(OK + b"Connection: close\r\n\r\n{}")) as there:
        found = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {there.url}\r\n".encode()
        async with (
            serving(sending(found + b"Content-Length: 0\r\n\r\n")) as server,
            fetching(timeout_s=WAIT_S, max_bytes=1000, secure=False) as get,
        ):
            assert await get(server.url) == b"{}"


# files


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _silent_device(path: Path) -> None:
    path.symlink_to("/dev/ptmx")


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _long(path: Path) -> None:
    """A hole: it takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(10**12)


def _growing(path: Path) -> None:
    """It says that it is empty, and is not."""
    path.symlink_to("/proc/self/pagemap")


def _no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\0")


FILES = (_pipe, _folder, _device, _silent_device, _loop, _nowhere, _long, _growing, _no_text)


@pytest.mark.parametrize("make", FILES)
async def test_a_file_that_is_none_leaves_the_keys_that_are_known(tmp_path: Path, make: object):
    ring = KeyRing(tmp_path / "keys")
    alice = ring.new("alice")
    keys, sets = KeyFile(ring.path), tmp_path / "jwks"
    sets.write_text(ISSUED.jwks())
    source = Jwks(str(sets))
    for path in (ring.path, sets):
        path.unlink()
        make(path)  # type: ignore[operator]
    with capture_logs() as logs:
        keys.poll()
        with pytest.raises(ApiError) as raised:
            await source.find("unknown")
    assert raised.value.code == "auth_unavailable"
    assert keys.subject(alice) == "alice"
    assert await source.find("key-0") is not None
    assert [line["log_level"] for line in logs] == ["error", "warning"]
    with pytest.raises(BadKeys, match=str(ring.path)):
        KeyFile(ring.path)
    with pytest.raises(jwks_module.BadJwks):
        Jwks(str(sets))


@pytest.mark.rule("A6")
def test_a_file_is_read_up_to_its_bound(tmp_path: Path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    assert read_bounded(file, 100) == b"x" * 100
    with pytest.raises(OSError, match="longer than 99 bytes"):
        read_bounded(file, 99)


async def test_a_stranger_s_drip_of_the_key_set_holds_nobody_up_at_a_running_edge(tmp_path: Path):
    """The set drips from the start, keys of a file are known: they are served all the while."""
    ring = KeyRing(tmp_path / "keys")
    key = ring.new("alice")
    async with serving(bad_servers.SLOW["a body in drips"]) as server:
        settings: dict[str, Any] = ISSUED.settings | ring.settings | {"jwt_jwks": server.url}
        async with running_edge(MemoryStore(), **settings) as edge, edge.client() as client:
            unknown = asyncio.create_task(
                client.get(f"/v1/streams/{ID}", headers=bearer(ISSUED.token()))
            )
            while not unknown.done():
                known = await client.get(f"/v1/streams/{ID}", headers=bearer(key))
                assert known.status_code == 404
            assert (await unknown).status_code == 503
            assert json.loads((await unknown).content)["error"]["code"] == "auth_unavailable"
