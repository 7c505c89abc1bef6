"""What leaves a process by OTLP, and a collector that is away."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from lore import tracing
from lore.tracing.otel import Bounded, Quiet, otlp_exporter
from lore.tracing.settings import TracingSettings
from tests.faults.fleet import Fleet
from tests.services.edge_harness import WAIT_S
from tests.services.tracing_harness import CALLER, TRACE_ID, collector


async def test_edges_and_generators_send_their_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as taken:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        fleet = Fleet(generators=1, edges=1, generator={"synthetic_rate": 400})
        async with fleet, httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as http:
            answer = await http.post(
                f"{fleet.readers[0]}/v1/streams",
                json={"question": "What is a list?", "ack": "none"},
                headers={"Accept": "text/event-stream", "traceparent": CALLER},
            )
            assert TRACE_ID in answer.headers["server-timing"]
            async with asyncio.timeout(WAIT_S):
                while not {"POST /v1/streams", "chat synthetic"} <= taken.names():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        fleet.forget_logs()
    spans = taken.spans()
    assert spans["lore-edge"] >= {"POST /v1/streams", "FCALL lore_open"}
    assert spans["lore-generator"] >= {"queue", "FCALL lore_claim", "FCALL lore_finish"}
    assert taken.traces() == {bytes.fromhex(TRACE_ID)}


async def test_a_collector_that_never_answers_holds_up_no_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
        tracing.start("edge", "here")
        for _ in range(5000):  # more than may wait
            tracing.begin("a span").end()
        async with asyncio.timeout(WAIT_S):
            await asyncio.to_thread(tracing.stop)
    # Nor does it go on beyond that end, to say in another test that spans are lost.
    for thread in threading.enumerate():
        if thread.name.startswith("OtelBatch"):
            await asyncio.to_thread(thread.join, WAIT_S)
            assert not thread.is_alive()


class Hanging(SpanExporter):
    """As behind a collector whose answer trickles in."""

    def __init__(self) -> None:
        self.goes_on, self.calls = threading.Event(), 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.calls += 1
        self.goes_on.wait(WAIT_S)
        return SpanExportResult.SUCCESS


def test_an_answer_that_trickles_in_ends_in_time_and_holds_nothing_up() -> None:
    hanging = Hanging()
    exporter = Bounded(hanging, 0.05)
    assert exporter.export([]) is SpanExportResult.FAILURE
    assert exporter.export([]) is SpanExportResult.FAILURE
    assert hanging.calls == 1
    hanging.goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "OtelExport":
            thread.join(WAIT_S)
    assert exporter.export([]) is SpanExportResult.SUCCESS


def test_a_stop_ends_an_export_that_is_under_way() -> None:
    hanging = Hanging()
    exporter = Bounded(hanging, 3600)
    exporting = threading.Thread(target=exporter.export, args=([],))
    exporting.start()
    while not hanging.calls:
        pass
    exporter.shutdown()
    exporting.join(WAIT_S)
    assert not exporting.is_alive()
    hanging.goes_on.set()


async def test_a_collector_that_answers_byte_by_byte_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_up = asyncio.Event()

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not given_up.is_set():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
        ended.set_result(None)

    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    exporter = otlp_exporter(TracingSettings())
    with capture_logs() as lines:
        async with asyncio.timeout(WAIT_S):
            result = await asyncio.to_thread(exporter.export, [])
            given_up.set()
            await ended
    server.close()
    assert result is SpanExportResult.FAILURE
    assert [line["reason"] for line in lines] == ["no whole answer within 0.3 s"]


class Moody(SpanExporter):
    result = SpanExportResult.FAILURE

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self.result


def test_a_collector_that_is_away_is_told_of_once() -> None:
    moody = Moody()
    exporter = Quiet(moody, "http://collector", lambda: "refused")
    with capture_logs() as lines:
        for _ in range(3):
            exporter.export([])
        moody.result = SpanExportResult.SUCCESS
        for _ in range(3):
            exporter.export([])
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("warning", "spans lost"),
        ("info", "spans exported again"),
    ]
    assert lines[0]["reason"] == "refused"
