"""An edge as a process: starting, being asked how it is, and stopping."""

import asyncio
import contextlib
import json
import signal
import socket
from typing import Any

import pytest

from lore.cli.fleet import free_ports
from lore.store import arrival
from lore_edge.app import Edge
from lore_edge.main import connect, main
from lore_edge.server import EdgeServer
from tests.services.edge_harness import (
    WAIT_S,
    FaultyStore,
    RunningEdge,
    ask,
    running_edge,
    settings,
    stream,
    until,
)
from tests.services.edge_process import PROCESS_S, edge_process, get, said, start


async def refusal(**settings: Any) -> tuple[int, str]:
    process = await start(**settings)
    try:
        _, stderr = await asyncio.wait_for(process.communicate(), PROCESS_S)
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise
    assert process.returncode is not None
    return process.returncode, stderr.decode()


@pytest.mark.rule("E10")
async def test_a_drained_edge_tells_its_readers_to_come_back_elsewhere_and_exits():
    async with edge_process() as edge:
        readers = [await edge.new_stream() for _ in range(3)]
        edge.signal()
        for reader in readers:
            (state,) = await reader.events()
            assert (state.name, state.data["reason"]) == ("state", "drain")
            assert reader.retry_ms is not None
            assert 100 <= reader.retry_ms <= 1000
        assert await edge.exit_status() == 0


async def test_readiness_goes_before_the_readers_do():
    async with edge_process(drain_delay_s=2 * PROCESS_S) as edge:
        reader = await edge.new_stream()
        assert await edge.health("/readyz") == (200, "ok\n")
        assert await edge.health("/livez") == (200, "ok\n")
        edge.signal()
        await said(edge.process, "draining")
        assert await edge.health("/readyz") == (503, "draining\n")
        assert await edge.health("/livez") == (200, "ok\n")
        later = await edge.new_stream()
        assert later.status == 200, "until load balancers have seen it, it serves as before"
        edge.signal()
        assert await edge.exit_status() == 0, "a second signal ends the wait"
        reader.close()


async def test_a_second_signal_exits_although_a_reader_is_blocked():
    async with edge_process(drain_spread_s=2 * PROCESS_S, grace_s=4 * PROCESS_S) as edge:
        await edge.new_stream()
        edge.signal(signal.SIGINT)
        await said(edge.process, "draining")
        edge.signal(signal.SIGINT)
        assert await edge.exit_status() == 0


@pytest.mark.parametrize("calls", [["a stream"], ["half a body"], ["a stream", "half a body"], []])
async def test_what_the_grace_was_too_short_for_is_a_warning(calls: list[str]):
    """A drain that ends as it should has no line at ``error`` (docs/traces-and-logs.md)."""
    async with edge_process(drain_delay_s=0, drain_spread_s=2 * PROCESS_S, grace_s=1) as edge:
        with contextlib.ExitStack() as stack:
            for call in calls:
                if call == "a stream":
                    await edge.new_stream()
                else:
                    stack.enter_context(await asyncio.to_thread(_half_a_body, edge.port))
            edge.signal()
            _, stderr = await asyncio.wait_for(edge.process.communicate(), PROCESS_S)
        lines = [json.loads(line) for line in stderr.splitlines()]
        loud = [(line["level"], line.get("calls")) for line in lines if line["level"] != "info"]
        assert loud == ([("warning", len(calls))] if calls else [])
        assert edge.process.returncode == 0


def _half_a_body(port: int) -> socket.socket:
    """The connection of a call that is being read."""
    connection = socket.create_connection(("127.0.0.1", port), WAIT_S)
    connection.sendall(
        b"POST /v1/streams HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    )
    assert connection.recv(1024).startswith(b"HTTP/1.1 100")
    return connection


async def test_metrics_are_served_beside_health():
    async with edge_process() as edge:
        await edge.new_stream()
        status, text = await edge.health("/metrics")
        assert status == 200
        assert 'lore_edge_connections{ack="client"} 1.0' in text
        assert "lore_edge_buffer_utilization_ratio" in text


async def test_a_port_in_use_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, line = await refusal(port=port)
        assert status == 1
        assert line.count("\n") == 1
        assert f"127.0.0.1:{port}" in line
        assert "LORE_PORT" in line
        status, line = await refusal(health_port=port)
        assert status == 1
        assert line.count("\n") == 1
        assert "LORE_HEALTH_PORT" in line


async def test_a_store_that_stays_away_is_waited_for_and_then_one_clear_line():
    (port,) = free_ports(1)
    status, output = await refusal(valkey_url=f"valkey://127.0.0.1:{port}", store_wait_s=0.3)
    *waiting, last = output.splitlines()
    assert status == 1
    assert last.startswith("lore-edge: no store after 0.3 s")
    assert "LORE_VALKEY_URL" in last
    assert any(json.loads(line)["event"] == "waiting for the store" for line in waiting)
    assert "Traceback" not in output


async def test_while_the_store_is_not_there_readiness_names_it():
    (port,) = free_ports(1)
    url = f"valkey://someone:secret@127.0.0.1:{port}"
    process = await start(valkey_url=url)
    try:
        health_port = (await said(process, "health"))["port"]
        await said(process, "waiting for the store")
        status, why = await asyncio.to_thread(get, f"http://127.0.0.1:{health_port}/readyz")
        assert status == 503
        assert f"waiting for the store: the store at 127.0.0.1:{port}" in why
        assert "secret" not in why
    finally:
        process.kill()
        await process.communicate()


async def test_an_edge_that_waits_for_its_store_for_long_is_not_stuck(
    monkeypatch: pytest.MonkeyPatch,
):
    """0 is for as long as it takes; each attempt says that its event loop turns."""
    monkeypatch.setattr(arrival, "RETRY_S", 0.01)
    chosen, store = settings(store_wait_s=0), FaultyStore()
    store.away = True
    server = EdgeServer(Edge(chosen, store), chosen)
    monkeypatch.setattr(server, "_beat", float("-inf"))
    assert server.live() == "stuck"
    waiting = asyncio.create_task(connect(store, chosen, server))
    await until(lambda: server.live() is None)
    assert str(server.ready()).startswith("waiting for the store: ")
    store.away = False
    await asyncio.wait_for(waiting, WAIT_S)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("port", "http"),
        ("heartbeat_s", "0"),
        ("queue_limit", "none"),
        ("edges", "example.org"),
        ("cors_origins", "https://a.example/path"),
        ("log_level", "loud"),
        ("system_prompt", ""),
    ],
)
def test_a_bad_setting_is_one_clear_line_and_status_2(
    setting: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv(f"LORE_{setting.upper()}", value)
    with pytest.raises(SystemExit) as exited:
        main()
    line = capsys.readouterr().err
    assert exited.value.code == 2
    assert line.startswith(f"LORE_{setting.upper()}")
    assert line.count("\n") == 1


async def test_a_store_url_that_is_none_is_one_clear_line_and_status_2():
    status, line = await refusal(valkey_url="postgres://x")
    assert status == 2
    assert "LORE_VALKEY_URL" in line
    assert line.count("\n") == 1


async def test_an_edge_that_nobody_may_enter_is_one_clear_line_and_status_2():
    status, line = await refusal(auth="required")
    assert status == 2
    assert line.count("\n") == 1
    assert "LORE_API_KEYS_FILE" in line
    assert "LORE_AUTH=off" in line


async def test_a_new_stream_is_refused_once_readers_are_sent_away():
    async with running_edge(FaultyStore(), drain_spread_s=0.0) as edge:
        request_id = await ask(edge)
        await asyncio.wait_for(_drained(edge), WAIT_S)
        refused = await stream(edge, request_id)
        assert refused.status == 503
        assert (await refused.json())["error"]["code"] == "draining"


async def _drained(edge: RunningEdge) -> None:
    await edge.edge.streams.drain(0.0)


@pytest.mark.rule("E12")
async def test_readiness_follows_the_store():
    store = FaultyStore()
    async with running_edge(store) as edge:
        await edge.edge.check_store()
        assert edge.server.ready() is None
        store.away = True
        await edge.edge.check_store()
        assert edge.server.ready() == "the store is away"
        store.away = False
        await edge.edge.check_store()
        assert edge.server.ready() is None
