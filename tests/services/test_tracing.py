"""One request is one trace, through whichever edges and generators it goes."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.exposition import choose_encoder

from lore import metrics, tracing
from lore.protocol.commands import Reap
from lore.protocol.lifecycle import Status
from lore_generator.engines.options import SyntheticOptions
from tests.services.edge_harness import (
    FaultyStore,
    Response,
    RunningEdge,
    Writer,
    acknowledge,
    ask,
    fork,
    request,
    running_edge,
    stream,
    text_of,
)
from tests.services.generator_harness import Generator, Reader
from tests.services.openai_harness import sdk
from tests.services.tracing_harness import (
    CALLER,
    CALLER_SPAN,
    TRACE_ID,
    Spans,
    attribute,
    events_of,
    id_of,
    kept_spans,
    links_of,
    parent_of,
    trace_of,
)

STEADY = SyntheticOptions(rate_tokens_per_s=200)
JSON = {"content-type": "application/json"}
STREAM = {"accept": "text/event-stream"}
ASK, READ, WORK = "POST /v1/streams", "GET /v1/streams/{request_id}", "chat synthetic"


@pytest.fixture
def spans() -> Iterator[Spans]:
    with kept_spans() as spans:
        yield spans


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def ask_and_read(edge: RunningEdge, **headers: str) -> Response:
    body = json.dumps({"question": "What is a list?", "ack": "none"}).encode()
    return await request(edge, "POST", "/v1/streams", JSON | STREAM | headers, body)


@pytest.mark.rule("H12")
async def test_a_request_is_one_trace_from_its_caller_to_the_generator_that_took_it_over(
    spans: Spans, store: FaultyStore
) -> None:
    async with running_edge(store) as first, running_edge(store) as second:
        async with Generator(store, "g1", STEADY, lease_s=0.3) as lost:
            asking = await ask_and_read(first, traceparent=CALLER, tracestate="a=b")
            had = await asking.chunks(3)
            await lost.crash()
        asking.close()
        async with Generator(store, "g2", lease_s=0.3):
            name = asking.headers["x-request-id"]
            reading = await stream(second, name, last_event_id=had[-1].id)
            await reading.events()
            await spans.until(WORK, 2)
            (read,) = await spans.until(READ)
            (asked,) = await spans.until(ASK)

    told = asking.headers["server-timing"]
    assert told == f'traceparent;desc="00-{TRACE_ID}-{id_of(asked)}-01"'
    assert parent_of(asked) == CALLER_SPAN
    assert attribute(asked, "lore.request.id") == name
    work = spans.named(WORK)
    (queue,) = spans.named("queue")
    for span in (asked, queue, *work):
        assert trace_of(span) == TRACE_ID
        assert span.context is not None
        assert span.context.trace_state.to_header() == "a=b"
    assert [parent_of(span) for span in (queue, *work)] == [id_of(asked)] * 3
    assert events_of(work[0]) == []
    assert "takeover" in events_of(work[1])
    assert attribute(work[1], "gen_ai.usage.output_tokens") > 0
    assert attribute(work[1], "gen_ai.response.finish_reasons") == ("stop",)
    parents = {span.name: {parent_of(s) for s in spans.named(span.name)} for span in spans.all()}
    assert parents["FCALL lore_open"] == {id_of(asked)}
    assert parents["FCALL lore_claim"] == {id_of(span) for span in work}
    assert parents["FCALL lore_finish"] == {id_of(work[1])}

    assert trace_of(read) != TRACE_ID
    assert links_of(read) == [id_of(asked)]
    assert attribute(read, "lore.resumed_after") == 3
    assert reading.headers["server-timing"] == (
        f'traceparent;desc="00-{trace_of(read)}-{id_of(read)}-01"'
    )


async def test_spans_of_a_request_are_few_however_long_its_answer_is(
    spans: Spans, store: FaultyStore
) -> None:
    long = SyntheticOptions(rate_tokens_per_s=math.inf, length_tokens=600)
    async with running_edge(store) as edge, Generator(store, "g1", long):
        name = await ask(edge, max_tokens=1000, window=4)
        reader = await Reader(store, name).follow()
        view = await reader.until(lambda now: now.status is not Status.QUEUED)
        while view.status is not Status.DONE:
            if view.status is Status.PAUSED:
                await reader.ack()
            view = await reader.until(lambda now: now.status in (Status.PAUSED, Status.DONE))
        (work,) = await spans.until(WORK)
    assert len(spans.all()) == len({span.name for span in spans.all()}) <= 7
    parked = attribute(work, "lore.parked.count")
    assert parked > 100
    assert events_of(work).count("parked") == 16


async def test_a_closed_window_and_a_hand_over_are_events(spans: Spans, store: FaultyStore) -> None:
    async with running_edge(store) as edge:
        async with Generator(store, "g1", window_initial=8) as first:
            name = await ask(edge, window=8)
            reader = await Reader(store, name).follow()
            await reader.until_status(Status.PAUSED)
            view = await reader.view()
            await acknowledge(edge, name, view.next_seq - 1)
            await reader.until(lambda now: now.next_seq > view.next_seq)
            await reader.until_status(Status.PAUSED)
            await first.drain()
        (work,) = spans.named(WORK)
    assert events_of(work) == ["parked", "unparked", "parked", "handed_back"]


async def test_a_request_that_is_stopped_ends_its_span(spans: Spans, store: FaultyStore) -> None:
    async with running_edge(store) as edge, Generator(store, "g1"):
        name = await ask(edge, window=4)
        await (await Reader(store, name).follow()).until_status(Status.PAUSED)
        async with edge.client() as client:
            assert (await client.delete(f"/v1/streams/{name}")).status_code == 204
        (work,) = await spans.until(WORK)
    assert events_of(work)[-1] == "taken_away"
    (stop,) = spans.named("DELETE /v1/streams/{request_id}")
    assert attribute(stop, "http.response.status_code") == 204


async def test_a_revival_is_linked_to_its_request(spans: Spans, store: FaultyStore) -> None:
    async with running_edge(store) as edge:
        async with Generator(store, "g1") as first:
            name = await ask(edge, window=4)
            await (await Reader(store, name).follow()).until_status(Status.PAUSED)
            await store.do(Reap(name, idle_ms=0, retention_ms=60_000))
            await first.drain()
        async with edge.client() as client:
            assert (await client.post(f"/v1/streams/{name}/revive")).status_code == 202
        (asked,) = spans.named(ASK)
        (revived,) = await spans.until("POST /v1/streams/{request_id}/revive")
        assert links_of(revived) == [id_of(asked)]
        async with Generator(store, "g2"):
            await spans.until("FCALL lore_claim", 2)
    last = (await spans.until(WORK, 2))[-1]
    assert trace_of(last) == trace_of(asked)
    assert events_of(last)[0] == "takeover"


async def test_a_reader_of_a_lost_text_leaves_that_in_its_trace(
    spans: Spans, store: FaultyStore
) -> None:
    """P4"""
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        await writer.write("a", "b", "c")
        response = await stream(edge, writer.request_id)
        await response.chunks(3)
        await fork(store, writer, 1, "x")
        store.reset_subscriptions()
        await response.until_event("error")
        assert (await stream(edge, writer.request_id, after=3)).status == 410
        (reading, refused) = await spans.until(READ, 2)
    assert events_of(reading)[-1] == "history_lost"
    assert events_of(refused) == ["history_lost"]
    (asked,) = spans.named(ASK)
    assert links_of(reading) == links_of(refused) == [id_of(asked)]


async def test_a_retried_post_links_to_the_request_that_there_is(
    spans: Spans, store: FaultyStore
) -> None:
    async with running_edge(store) as edge, edge.client() as client:
        for _ in range(2):
            headers = {"Idempotency-Key": "once"}
            await client.post("/v1/streams", json={"question": "a"}, headers=headers)
        first, again = await spans.until(ASK, 2)
    assert links_of(first) == []
    assert links_of(again) == [id_of(first)]
    assert trace_of(first) != trace_of(again)


async def test_openai_calls_are_traced_like_any(spans: Spans, store: FaultyStore) -> None:
    async with running_edge(store, model="m") as edge, Generator(store, "g1"):
        async with sdk(edge.url) as client:
            headers = {"traceparent": CALLER}
            asked = await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "What is a list?"}],
                extra_headers=headers,
            )
            kept = await client.responses.create(model="m", input="What?", extra_headers=headers)
            assert (await client.responses.retrieve(kept.id)).id == kept.id
            chunks = await client.responses.retrieve(kept.id, stream=True, starting_after=4)
            assert [chunk async for chunk in chunks]
        (chat,) = await spans.until("POST /v1/chat/completions")
        (response,) = await spans.until("POST /v1/responses")
        reads = await spans.until("GET /v1/responses/{response_id}", 2)
    work = spans.named(WORK)
    for span in (chat, response, *work):
        assert trace_of(span) == TRACE_ID
    assert [parent_of(span) for span in work] == [id_of(chat), id_of(response)]
    assert [links_of(read) for read in reads] == [[id_of(response)]] * 2
    assert asked.id.endswith(attribute(chat, "lore.request.id"))


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("edge", "lore_chunk_transmission_seconds"),
        ("edge", "lore_ack_round_trip_seconds"),
        ("generator", "lore_time_to_first_token_seconds"),
        ("generator", "lore_inter_token_seconds"),
    ],
)
async def test_a_traced_request_is_an_exemplar_of_what_was_measured(
    spans: Spans, store: FaultyStore, service: str, name: str
) -> None:
    async with running_edge(store) as edge, Generator(store, "g1", STEADY):
        body = json.dumps({"question": "What is a list?"}).encode()
        context = {"traceparent": CALLER}
        asking = await request(edge, "POST", "/v1/streams", JSON | STREAM | context, body)
        for chunk in await asking.chunks(3):
            await acknowledge(edge, asking.headers["x-request-id"], int(chunk.id))
    encode, kind = choose_encoder("application/openmetrics-text; version=1.0.0")
    assert "openmetrics" in kind
    text = encode(metrics.exported_by(service)).decode()
    lines = [line for line in text.splitlines() if line.startswith(f"{name}_bucket")]
    assert any(f'# {{trace_id="{TRACE_ID}"}} ' in line for line in lines)


@pytest.mark.rule("H12")
async def test_who_is_not_let_in_makes_no_span(
    spans: Spans, store: FaultyStore, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("")
    asks_for_keys: dict[str, Any] = {
        "auth": "required",
        "api_keys_file": str(keys),
        "secret": "s" * 32,
    }
    async with running_edge(store, **asks_for_keys) as edge, edge.client() as client:
        answer = await client.post("/v1/streams", json={"question": "a"}, headers=STREAM)
    assert answer.status_code == 401
    assert "server-timing" not in answer.headers
    assert spans.all() == []


async def test_what_is_linked_to_a_sampled_request_is_sampled(
    monkeypatch: pytest.MonkeyPatch, store: FaultyStore
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with kept_spans() as spans:
        async with running_edge(store) as edge, Generator(store, "g1"):
            sampled = await ask_and_read(edge, traceparent=CALLER)
            await sampled.events()
            other = await ask_and_read(edge)
            await other.events()
            for response in (sampled, other):
                await (await stream(edge, response.headers["x-request-id"])).events()
            await spans.until(READ)
        assert other.headers["server-timing"].endswith('-00"')
        (read,) = spans.named(READ)
        assert links_of(read) == [id_of(span) for span in spans.named(ASK)]
        assert {trace_of(span) for span in spans.all()} == {TRACE_ID, trace_of(read)}


async def test_what_is_no_context_begins_a_new_trace(spans: Spans, store: FaultyStore) -> None:
    async with running_edge(store) as edge:
        for context in ("", "nonsense", "00-0-0-01", CALLER.replace("-01", "-zz"), "é" * 50):
            writer_of = await ask_and_read(edge, traceparent=context, tracestate="=,=")
            writer_of.close()
        for span in await spans.until(ASK, 5):
            assert parent_of(span) == ""


@pytest.mark.rule("H12")
async def test_without_tracing_no_header_says_so(store: FaultyStore) -> None:
    async with running_edge(store) as edge, Generator(store, "g1"):
        response = await ask_and_read(edge, traceparent=CALLER)
        assert "server-timing" not in response.headers
        assert text_of(await response.events())
        view = await store.view(response.headers["x-request-id"])
        assert view is not None
        assert view.trace == ""


NOT_IMPORTED = """
import sys
from prometheus_client.exposition import choose_encoder

from lore import metrics, tracing
import lore_edge.main, lore_generator.main, lore_operator.main
tracing.start("edge", "here")
assert not tracing.is_on()
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_without_tracing_nothing_of_opentelemetry_is_imported() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", NOT_IMPORTED], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ],
)
def test_what_cannot_be_is_named_at_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        tracing.start("edge", "here")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{name}: ")
    assert "secret" not in said
    assert not tracing.is_on()


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")]
)
def test_an_endpoint_may_be_there_without_traces(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    tracing.start("edge", "here")
    assert not tracing.is_on()
