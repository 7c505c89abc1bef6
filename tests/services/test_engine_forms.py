"""Engines that cannot keep to a form say so; edges pass on what a generator refused."""

from dataclasses import replace
from typing import Any

import pytest

from lore.protocol.lifecycle import Status
from lore.request import KeptRequest
from lore.store.base import View
from lore.store.valkey.codec import VIEW_FIELDS, view_from
from lore_edge.openai.errors import prompt_refused
from lore_generator.engine import Job
from lore_generator.engines.options import SyntheticOptions
from lore_generator.engines.remote.dialects.llamacpp import LlamaCpp
from lore_generator.engines.remote.dialects.sglang import SGLang
from lore_generator.engines.remote.dialects.vllm import VLLM
from lore_generator.engines.synthetic import SyntheticEngine
from tests.services.engine_sink import Collector

FORMS: dict[str, dict[str, Any]] = {
    "response_format": {"response_format": {"type": "json_object"}},
    "logprobs": {"logprobs": 0},
    "tool_choice": {"tools": [{"name": "f"}], "tool_choice": "required"},
}


def ask(**given: object) -> KeptRequest:
    plain = {"question": "q", "repetition_penalty": 1}
    return KeptRequest.model_validate({**plain, **given}, strict=False)


def failed() -> View:
    given = {"request_id": "a", "status": Status.FAILED.value}
    view = view_from([given.get(name) for name in VIEW_FIELDS])
    assert view is not None
    return view


@pytest.mark.rule("H15")
@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
@pytest.mark.parametrize("dialect", [LlamaCpp, SGLang, VLLM])
def test_an_engine_that_would_count_other_tokens_refuses_a_penalty(dialect: Any, name: str) -> None:
    assert dialect().refuses(ask(**{name: -0.5})) == name
    assert dialect().refuses(ask(**{name: 0})) is None


@pytest.mark.rule("H15")
@pytest.mark.parametrize("name", FORMS)
def test_the_synthetic_engine_refuses_a_form(name: str) -> None:
    sink = Collector()
    engine = SyntheticEngine(SyntheticOptions())
    engine.start(sink)
    try:
        engine.submit(Job("a", ask(**FORMS[name])), None)
        refused = sink.until_end("a")
    finally:
        engine.stop()
    assert refused.finish_reason == "invalid_prompt"
    assert str(refused.error).startswith(f"{name}: ")


@pytest.mark.rule("P17.21")
def test_a_caller_of_openais_api_is_told_which_schema_is_wrong() -> None:
    failed_view = failed()
    why = "response_format: schema not supported at '#/properties/a': Invalid type: x"
    refusal = prompt_refused(replace(failed_view, finish_reason="invalid_schema", error=why))
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.field) == (
        400,
        "invalid_schema",
        "response_format",
    )
    refusal = prompt_refused(replace(failed_view, finish_reason="invalid_prompt", error="no"))
    assert refusal is not None
    assert refusal.field == "messages"
