"""Whether a prompt fits is found out before it is accepted, and without counting where it surely
does (P17)."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import ValidationError

from lore.protocol.lifecycle import CONTEXT_EXCEEDED, Status
from lore_edge.settings import EdgeSettings
from tests.services.edge_harness import FaultyStore, Writer, running_edge, until
from tests.services.generator_harness import Generator, SyntheticOptions
from tests.services.openai_harness import MODEL, sdk
from tests.services.words import let_count, words

FIVE = "one two three four five"  # 23 bytes
CASES = [
    ("what nobody told of a context is accepted", None, FIVE, True, False),
    ("what has fewer bytes is not counted", 100, FIVE, False, False),
    ("what has fewer tokens is accepted", 6, FIVE, True, False),
    ("what has as many is refused", 5, FIVE, True, True),
    ("what has more is refused", 3, FIVE, True, True),
]


@pytest.mark.rule("P17.19", "P17.20")
@pytest.mark.parametrize(
    ("context", "prompt", "counted", "refused"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
@pytest.mark.parametrize("call", ["native", "chat", "chat, streamed", "responses"])
async def test_a_prompt_is_judged_before_it_is_accepted(
    context: int | None, prompt: str, counted: bool, refused: bool, call: str
) -> None:
    store = FaultyStore()
    async with running_edge(store, model=MODEL) as edge, edge.client() as client:
        if context is not None:
            await let_count(edge.edge, store, context)
        counts: list[int] = []

        def load() -> Any:
            counts.append(1)
            return words()

        edge.edge._context._load = load
        bodies: dict[str, tuple[str, dict[str, Any]]] = {
            "native": ("/v1/streams", {"question": prompt}),
            "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}]}),
            "responses": ("/v1/responses", {"input": prompt, "background": True}),
        }
        kind = call.partition(",")[0]
        path, body = bodies[kind]
        if kind != "native":
            body = body | {"model": MODEL}
        if not refused and kind == "chat":
            return  # nobody answers here
        if "streamed" in call:
            body = body | {"stream": True}
        answer = await client.post(path, json=body)
        error = answer.json().get("error") or {}
        assert (answer.status_code == 400) is refused
        assert (error.get("code") == CONTEXT_EXCEEDED) is refused
        assert len(store.state._records) == (0 if refused else 1), "what is refused leaves nothing"
        assert bool(counts) is (counted and context is not None)


@pytest.mark.rule("P17.21")
@pytest.mark.parametrize("stream", [False, True])
async def test_what_only_the_generator_can_refuse_is_the_same_error(stream: bool) -> None:
    """The edge has no tokenizer; the stream's head waits for the generator's word."""
    store = FaultyStore()
    options = SyntheticOptions(context_tokens=4)
    async with (
        Generator(store, engine=options),
        running_edge(store, model=MODEL) as edge,
        sdk(edge.url) as client,
    ):
        await until(lambda: store._model)
        for ask in (
            lambda: client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": FIVE}], stream=stream
            ),
            lambda: client.responses.create(model=MODEL, input=FIVE, stream=stream),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                await ask()
            assert refused.value.code == CONTEXT_EXCEEDED
    views = [record.view for record in store.state._records.values()]
    assert [view.status for view in views] == [Status.FAILED] * 2


@pytest.mark.rule("P17.21")
async def test_a_stream_that_may_be_refused_begins_when_its_generator_has_begun() -> None:
    store = FaultyStore()
    async with running_edge(store, model=MODEL) as edge, sdk(edge.url) as client:
        await store.tell_model({"context_tokens": "10"}, keep_ms=600_000)
        asking = asyncio.create_task(client.responses.create(model=MODEL, input=FIVE, stream=True))
        await until(lambda: store.state._records)
        (request_id,) = store.state._records
        writer = Writer(store, request_id)
        await writer.claim()
        assert not asking.done()
        await writer.write("a")
        stream: Any = await asking
        await writer.finish()
        assert [event async for event in stream][-1].response.output_text == "a"


@pytest.mark.parametrize(
    ("named", "wrong"),
    [
        ("/nofile", "No such file or directory"),
        ("tokenizer.json", "No such file or directory"),
        ("{folder}", "No such file or directory"),
        ("{folder}/text", "it is not a JSON object"),
        ("{folder}/list", "it has no model in it"),
        ("{folder}/number", "it is not a JSON object"),
    ],
)
def test_a_tokenizer_that_cannot_count_is_no_start(
    named: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {"text": "no", "list": "[]", "number": "1"}.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValidationError, match=wrong) as told:
        EdgeSettings(tokenizer=named.format(folder=tmp_path))
    assert "unset it" in str(told.value)


def test_a_tokenizer_is_named_by_its_file_or_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text('{"model": {}}')
    for named in (file, tmp_path):
        assert EdgeSettings(tokenizer=str(named)).tokenizer == str(file)
    for theirs in ("", "gpt2", "Qwen/Qwen3-8B"):  # a name on the hub is a generator's to fetch
        assert EdgeSettings(tokenizer=theirs).tokenizer == ""
