"""The transformers engine on the real small model.

Greedy answers are compared token by token across batches of different make-up. Batching
changes the last bits of a score; on a CPU in float32 that has not changed a choice.
"""

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lore.messages import Message, ToolCall
from lore.request import StreamRequest
from lore_generator.engine import Job
from lore_generator.engines import loading, transformers_engine
from lore_generator.engines.conversation import plain_prompt
from lore_generator.engines.loading import Loaded
from lore_generator.engines.options import TransformersOptions
from lore_generator.engines.prompt import prepare, prompt_tokens
from lore_generator.engines.sampling import draw
from lore_generator.engines.transformers_engine import TransformersEngine
from lore_generator.engines.turns import conversation
from tests.services.engine_sink import Collector

pytestmark = pytest.mark.model

OPTIONS = TransformersOptions(threads=2, kv_tokens=4096, context_tokens=512)
GREEDY = {"temperature": 0, "repetition_penalty": 1.0, "max_tokens": 24}
Answer = tuple[tuple[int, ...], str]
EMOJI = "Tell me a joke with an emoji 🎉."


class Running:
    """An engine with its sink. Requests get names of their own, so that tests can share it."""

    def __init__(self, options: TransformersOptions = OPTIONS) -> None:
        self.sink = Collector()
        self.engine = TransformersEngine(options)
        self.info = self.engine.start(self.sink)
        self._count = 0

    def submit(self, request: StreamRequest, limit: int | None = None, **log: Any) -> str:
        self._count += 1
        name = f"r{self._count}"
        self.engine.submit(Job(name, request, **log), limit)
        return name

    def answer(self, request: StreamRequest, **log: Any) -> Answer:
        name = self.submit(request, **log)
        self.sink.until_end(name)
        return self.sink.ids(name), self.sink.text(name)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    torch.set_num_threads(2)
    return loading.load(OPTIONS)


@pytest.fixture(scope="module")
def once(loaded: Loaded) -> Iterator[pytest.MonkeyPatch]:
    """Every engine here shares the one model that is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load", lambda _: loaded)
        yield patch


@pytest.fixture(scope="module")
def shared(once: pytest.MonkeyPatch) -> Iterator[Running]:
    running = Running()
    yield running
    assert running.engine.alive()
    running.engine.stop()
    assert not running.engine.alive()


@pytest.fixture(scope="module")
def loop(shared: Running) -> Answer:
    """The tokens and the text of ``ask()``, never paused."""
    return shared.answer(ask())


@pytest.fixture(scope="module")
def emoji(shared: Running) -> Answer:
    """The same of ``ask(EMOJI)``: three tokens an emoji, over and over."""
    return shared.answer(ask(EMOJI))


def ask(question: str | None = "What is a loop?", **changed: object) -> StreamRequest:
    return StreamRequest.model_validate({"question": question, **GREEDY, **changed})


def reference(loaded: Loaded, job: Job) -> list[int]:
    """The answer by a plain loop over one request, with the processors of ``generate``."""
    request = job.request
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(request.repetition_penalty)])
    if request.no_repeat_ngram_size:
        processors.append(NoRepeatNGramLogitsProcessor(request.no_repeat_ngram_size))
    if request.temperature:
        processors.append(TemperatureLogitsWarper(float(request.temperature)))
        processors.append(TopKLogitsWarper(request.top_k or 10**9))
        processors.append(TopPLogitsWarper(float(request.top_p)))
    prompt = prompt_tokens(job, loaded.tokenizer)
    tokens = list(prompt)
    cached = None
    while len(tokens) < len(prompt) + request.max_tokens:
        fresh = tokens if cached is None else tokens[-1:]
        with torch.no_grad():
            out = loaded.model(torch.tensor([fresh]), past_key_values=cached, use_cache=True)
        cached = out.past_key_values
        scores = processors(torch.LongTensor([tokens]), out.logits[:, -1].float())[0]
        if request.temperature:
            cumulative = scores.softmax(-1, dtype=torch.float64).cumsum(-1)
            assert request.seed is not None
            aim = draw(request.seed, len(tokens) - len(prompt)) * cumulative[-1]
            token = int(torch.searchsorted(cumulative, aim, right=True))
        else:
            token = int(scores.argmax())
        tokens.append(token)
        if token in loaded.eos_ids:
            break
    return tokens[len(prompt) :]


PARAMETERS = [
    {"temperature": 0},
    {"temperature": 0, "repetition_penalty": 1.3},
    {"temperature": 0, "no_repeat_ngram_size": 2},
    {"temperature": 0.9, "seed": 1, "top_p": 1, "top_k": 0},
    {"temperature": 1.2, "seed": 2, "top_p": 0.5, "top_k": 0},
    {"temperature": 1.2, "seed": 3, "top_p": 1, "top_k": 5},
    {"seed": 5, "temperature": 0.7, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1},
]


def test_each_request_of_a_batch_is_sampled_by_its_own_parameters(
    shared: Running, loaded: Loaded
) -> None:
    requests = [ask(EMOJI, max_tokens=8, **parameters) for parameters in PARAMETERS]
    # Before, not meanwhile: the model cannot run in two threads at once.
    expected = [reference(loaded, Job("x", request)) for request in requests]
    names = [shared.submit(request) for request in requests]
    for name, request, tokens in zip(names, requests, expected, strict=True):
        shared.sink.until_end(name)
        assert list(shared.sink.ids(name)) == tokens, request
    # Different parameters, different answers: else the comparison would prove little.
    assert len({shared.sink.ids(name) for name in names}) >= len(names) - 1


def test_a_parked_request_resumes_to_the_tokens_it_would_have_had(
    shared: Running, loop: Answer
) -> None:
    """P5"""
    ids, _ = loop
    parked = shared.submit(ask(), 5)
    shared.sink.until_tokens(parked, 5)
    other = shared.submit(ask("What is a list?", max_tokens=9))
    shared.sink.until_end(other)
    # Another stream has run to its end meanwhile, and not a token has come beyond the grant.
    assert shared.sink.ids(parked) == ids[:5]
    assert shared.engine.stats().parked == 1
    shared.engine.grant(parked, 6)
    shared.sink.until_tokens(parked, 6)
    shared.sink.until_end(shared.submit(ask("What is a set?", max_tokens=6)))
    assert shared.sink.ids(parked) == ids[:6]
    shared.engine.grant(parked, None)
    shared.sink.until_end(parked)
    assert (shared.sink.ids(parked), shared.sink.text(parked)) == loop


def test_a_parked_stream_leaves_the_others_tokens_alone(shared: Running, loop: Answer) -> None:
    """P5"""
    parked = [shared.submit(ask(f"What is {n}?"), 1) for n in range(3)]
    for name in parked:
        shared.sink.until_tokens(name, 1)
    assert shared.answer(ask()) == loop
    for name in parked:
        assert len(shared.sink.ids(name)) == 1
        shared.engine.cancel(name)


def test_a_request_without_credit_takes_no_memory(shared: Running) -> None:
    name = shared.submit(ask("Why is the sky blue?", max_tokens=4), 0)
    other = shared.submit(ask(max_tokens=4))
    shared.sink.until_end(other)
    scheduler = shared.engine._scheduler
    assert not scheduler.active_requests
    assert [decoding.limit for decoding in waiting(shared)] == [0]
    shared.engine.grant(name, None)
    shared.sink.until_end(name)
    assert len(shared.sink.ids(name)) == 4


def waiting(running: Running) -> list:
    states = running.engine._scheduler.waiting_requests.values()
    return [state.logit_processor_kwargs["lore"] for state in states]


class PatientEvent(threading.Event):
    """Sleeps until it is set, whatever timeout it is given; says when somebody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.slept.set()
        return super().wait()


def test_a_grant_wakes_a_loop_that_sleeps(shared: Running) -> None:
    """Also: a loop whose requests are all parked sleeps, it does not spin."""
    manager = shared.engine._manager
    usual, patient = manager._wake_up_loop, PatientEvent()
    name = shared.submit(ask(), 3)
    shared.sink.until_tokens(name, 3)
    manager._wake_up_loop = patient
    try:
        assert patient.slept.wait(60)
        patient.slept.clear()
        shared.engine.grant(name, 5)
        shared.sink.until_tokens(name, 5)
        assert patient.slept.wait(60)
        shared.engine.grant(name, None)
        shared.sink.until_end(name)
    finally:
        manager._wake_up_loop = usual
        patient.set()


@pytest.mark.parametrize(
    ("question", "changed"),
    [
        ("What is a loop?", {}),
        (EMOJI, {"temperature": 0.9, "seed": 11, "repetition_penalty": 1.2}),
        (EMOJI, {"presence_penalty": 0.4, "frequency_penalty": 1.5}),
    ],
    ids=["greedy", "sampled", "penalised"],
)
def test_a_continued_answer_is_the_one_it_would_have_been(
    shared: Running, question: str, changed: dict[str, object]
) -> None:
    """P15"""
    request = ask(question, stop=["\n\n###"], no_repeat_ngram_size=5, **changed)
    first = shared.submit(request)
    shared.sink.until_end(first)
    pieces, ids, text = shared.sink.of(first), shared.sink.ids(first), shared.sink.text(first)
    continued = []
    for done in (1, 2, 10, len(ids) - 1):
        said = "".join(piece.text for piece in pieces[:done])
        name = shared.submit(request, generated_ids=ids[:done], generated_text=said)
        continued.append((name, done, said))
    for name, done, said in continued:
        shared.sink.until_end(name)
        assert ids[:done] + shared.sink.ids(name) == ids
        assert said + shared.sink.text(name) == text


def test_a_complete_log_ends_without_decoding(
    shared: Running, loaded: Loaded, loop: Answer
) -> None:
    ids, text = loop
    ended = shared.submit(ask(), 0, generated_ids=ids, generated_text=text)
    assert shared.sink.until_end(ended).finish_reason == "length"
    (eos,) = loaded.eos_ids
    stopped = shared.submit(ask(), 0, generated_ids=(*ids[:3], eos))
    assert shared.sink.until_end(stopped).finish_reason == "stop"
    assert shared.sink.ids(stopped) == ()
    assert shared.sink.text(stopped) == loaded.tokenizer.decode(list(ids[:3]))


def test_characters_are_never_split(shared: Running, loaded: Loaded, emoji: Answer) -> None:
    """Most grants here end inside an emoji."""
    whole_ids, whole = emoji
    name = shared.submit(ask(EMOJI), 1)
    for limit in (*range(2, 8), 24):
        shared.sink.until_tokens(name, min(limit - 1, 7))
        assert "\ufffd" not in shared.sink.text(name)
        assert whole.startswith(shared.sink.text(name))
        shared.engine.grant(name, limit)
    shared.sink.until_end(name)
    assert (shared.sink.ids(name), shared.sink.text(name)) == (whole_ids, whole)
    assert "🎉" in whole
    assert whole == loaded.tokenizer.decode(list(whole_ids), skip_special_tokens=True)
    assert any(not piece.text for piece in shared.sink.of(name))


def test_a_stop_string_ends_the_answer_before_itself(shared: Running, loop: Answer) -> None:
    _, whole = loop
    stop = whole[len(whole) // 2 : len(whole) // 2 + 7]
    name = shared.submit(ask(stop=["not in there", stop]))
    assert shared.sink.until_end(name).finish_reason == "stop"
    assert shared.sink.text(name) == whole[: whole.index(stop)]
    assert len(shared.sink.ids(name)) < 24


def test_text_held_for_a_stop_string_that_never_comes_is_not_lost(
    shared: Running, loop: Answer
) -> None:
    ids, whole = loop
    name = shared.submit(ask(stop=[whole[-4:] + "~"]))
    assert shared.sink.until_end(name).finish_reason == "length"
    assert (shared.sink.ids(name), shared.sink.text(name)) == (ids, whole)


def test_the_end_of_the_answer_is_a_stop(shared: Running, loaded: Loaded) -> None:
    request = ask("What is 2+2? Answer with a number.")
    name = shared.submit(request)
    assert shared.sink.until_end(name).finish_reason == "stop"
    assert shared.sink.ids(name)[-1] in loaded.eos_ids
    assert "<|im_end|>" not in shared.sink.text(name)


def test_a_prompt_that_takes_too_much_memory_fails_alone(
    shared: Running, loop: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor: Any = shared.engine._manager.batch_processor
    step = processor._generation_step

    def tight(model: Any) -> None:
        batch = processor.inputs_and_outputs.requests_in_batch
        if any(one.query_length > 150 for one in batch):
            raise torch.OutOfMemoryError("out of memory")
        step(model)

    monkeypatch.setattr(processor, "_generation_step", tight)
    other = shared.submit(ask())
    shared.sink.until_tokens(other, 2)
    large = shared.submit(ask("word " * 200))
    ended = shared.sink.until_end(large)
    assert (ended.finish_reason, ended.token_ids) == ("error", ())
    assert "memory" in (ended.error or "")
    shared.sink.until_end(other)
    assert (shared.sink.ids(other), shared.sink.text(other)) == loop
    assert shared.engine.alive()


def test_a_request_that_cannot_be_prepared_fails_alone(
    shared: Running, loop: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(job: Job, *rest: Any) -> Any:
        if "enormous" in str(job.request):
            raise MemoryError
        return prepare(job, *rest)

    monkeypatch.setattr(transformers_engine, "prepare", greedy)
    ended = shared.sink.until_end(shared.submit(ask("enormous")))
    assert ended.finish_reason == "error"
    assert "memory" in (ended.error or "")
    assert shared.answer(ask()) == loop


def test_a_full_context_ends_an_answer_with_length(shared: Running, emoji: Answer) -> None:
    """The model would go on for ever; the context leaves it about ten tokens."""
    ids, text = emoji[0][:3] * 153, emoji[1][0] * 153
    request = ask(EMOJI, max_tokens=2000)
    name = shared.submit(request, generated_ids=ids, generated_text=text)
    ended = shared.sink.until_end(name)
    assert ended.finish_reason == "length"
    assert ended.prompt_tokens + len(ids) + len(shared.sink.ids(name)) == OPTIONS.context_tokens
    beyond = shared.submit(ask("word " * 600))
    refused = shared.sink.until_end(beyond)
    assert refused.finish_reason == "context_length_exceeded"
    assert "maximum context length is 512 tokens" in str(refused.error)


def test_a_cancelled_request_says_nothing_more_and_may_come_again(
    shared: Running, loop: Answer
) -> None:
    """P14"""
    name = shared.submit(ask(), 4)
    shared.sink.until_tokens(name, 4)
    shared.engine.cancel(name)
    shared.engine.grant(name, None)
    shared.sink.until_end(shared.submit(ask("What is a list?", max_tokens=5)))
    assert len(shared.sink.ids(name)) == 4
    assert shared.engine.stats().parked == 0
    # The same request comes back with its log, as after a lease that was lost and won again.
    ids, _ = loop
    shared.engine.submit(Job(name, ask(), ids[:4], shared.sink.text(name)), None)
    shared.sink.until_end(name)
    assert shared.sink.ids(name) == ids


def test_one_failing_request_leaves_the_others_alone(shared: Running, loop: Answer) -> None:
    other = shared.submit(ask(), 3)
    failing = shared.submit(ask("What is a list?"), 3)
    for name in (other, failing):
        shared.sink.until_tokens(name, 3)
    prepared = shared.engine._by_request[failing].prepared
    assert prepared is not None
    prepared.transcript = None  # pyright: ignore[reportAttributeAccessIssue]
    for name in (other, failing):
        shared.engine.grant(name, None)
    ended = shared.sink.until_end(failing)
    assert (ended.finish_reason, ended.error) == ("error", "the generator failed here")
    shared.sink.until_end(other)
    assert (shared.sink.ids(other), shared.sink.text(other)) == loop


def test_the_log_of_another_model_is_refused(shared: Running) -> None:
    for ids, text in (((10**6,), ""), ((5,), "no")):
        name = shared.submit(ask(), generated_ids=ids, generated_text=text)
        refused = shared.sink.until_end(name)
        assert refused.finish_reason == "error"
        assert "another model" in str(refused.error)


def test_a_full_cache_of_parked_requests_makes_room_for_a_new_one(
    shared: Running, once: pytest.MonkeyPatch
) -> None:
    """Unless parked requests give up their KV, the loop finds nothing to schedule and dies."""
    requests = [
        ask(f"What is a {thing}?", max_tokens=10) for thing in ("loop", "list", "set", "tuple")
    ]
    first = [shared.submit(request) for request in requests]
    for name in first:
        shared.sink.until_end(name)
    expected = [shared.sink.ids(name) for name in first]

    small = Running(dataclasses.replace(OPTIONS, kv_tokens=96, kv_page_tokens=16))
    try:
        names = [small.submit(request, 4) for request in requests]
        for name in names:
            small.sink.until_tokens(name, 4)
        new = small.submit(requests[0])
        small.sink.until_end(new)
        assert small.sink.ids(new) == expected[0]
        assert [small.sink.ids(name) for name in names] == [ids[:4] for ids in expected]
        # Six pages: two of the prompt that all share, one of each request's own. Not all fit.
        assert waiting(small)
        for name in names:
            small.engine.grant(name, None)
        for name in names:
            small.sink.until_end(name)
        assert [small.sink.ids(name) for name in names] == expected
        assert small.engine.alive()
    finally:
        small.engine.stop()


def test_a_context_never_exceeds_the_cache(once: pytest.MonkeyPatch) -> None:
    """A request that no empty cache can hold would end the loop."""
    small = Running(TransformersOptions(threads=2, kv_tokens=64, kv_page_tokens=16, slots=2))
    try:
        assert small.info.context_tokens == 64
        name = small.submit(ask(max_tokens=500))
        assert small.sink.until_end(name).finish_reason == "length"
        assert small.engine.alive()
    finally:
        small.engine.stop()


def test_a_stopping_engine_fails_nobody(once: pytest.MonkeyPatch) -> None:
    """Requests that a stop leaves behind are handed on, not failed."""
    running = Running()
    name = running.submit(ask(), 3)
    running.sink.until_tokens(name, 3)
    running.engine.stop()
    assert all(piece.finish_reason is None for piece in running.sink.pieces)
    assert not running.engine.alive()


def test_conversations_go_through_the_models_template(
    shared: Running, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [Message(role="system", content="Be brief."), Message(role="user", content="Hi")]
    job = Job("a", StreamRequest(messages=messages))
    assert loaded.tokenizer.decode(prompt_tokens(job, loaded.tokenizer)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    monkeypatch.setattr(loaded.tokenizer, "chat_template", None)
    plain = "System: Be brief.\n\nUser: Hi\n\nAssistant:"
    assert plain_prompt(conversation(messages)) == plain
    assert loaded.tokenizer.decode(prompt_tokens(job, loaded.tokenizer)) == plain


def test_a_template_gets_arguments_as_an_object_and_what_is_none_as_text() -> None:
    deep = "[" * 5_000 + "]" * 5_000
    called = [
        ToolCall(id=str(number), name="f", arguments=arguments)
        for number, arguments in enumerate(('{"a": 1}', "", "{", "[1]", deep, f'{{"a": {deep}}}'))
    ]
    (turn,) = conversation([Message(role="assistant", tool_calls=called)])
    assert [call["function"]["arguments"] for call in turn["tool_calls"]] == [
        {"a": 1},
        {},
        "{",
        "[1]",
        deep,
        f'{{"a": {deep}}}',
    ]


@pytest.mark.rule("H17")
def test_a_raw_prompt_is_continued_without_the_template(
    shared: Running, loaded: Loaded, loop: Answer
) -> None:
    """The template's own words, given as text and as token ids, are the conversation."""
    ids = prompt_tokens(Job("a", ask()), loaded.tokenizer)
    for prompt in (ids, loaded.tokenizer.decode(ids)):
        assert shared.answer(ask(None, prompt=prompt)) == loop
    name = shared.submit(ask(None, prompt=[*ids, 10**6]))
    refused = shared.sink.until_end(name)
    assert refused.finish_reason == "invalid_prompt"
    assert "prompt: the model has no token" in str(refused.error)


def test_a_held_prompt_is_not_read_until_it_is_granted_again(shared: Running) -> None:
    """P7"""
    asked = ask("Explain " + "and again " * 100 + "what a loop is.", max_tokens=4)
    name = shared.submit(asked, 4)
    shared.engine.hold(name)
    shared.answer(ask(max_tokens=4))
    shared.engine.hold(name)
    assert shared.sink.ids(name) == ()
    assert shared.engine.stats().parked == 1
    shared.engine.grant(name, 4)
    shared.sink.until_end(name)
    assert (shared.sink.ids(name), shared.sink.text(name)) == shared.answer(asked)
