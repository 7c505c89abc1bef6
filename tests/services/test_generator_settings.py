"""The generator's settings: one variable each, and mistakes named in one line."""

import math

import pytest

from lore.settings import load
from lore_generator.engines.options import SyntheticOptions, TransformersOptions
from lore_generator.settings import GeneratorSettings


def read(monkeypatch: pytest.MonkeyPatch, **values: str) -> GeneratorSettings:
    for name, value in values.items():
        monkeypatch.setenv(f"LORE_{name.upper()}", value)
    return load(GeneratorSettings)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"engine": "magic"},
            (
                "LORE_ENGINE: Input should be 'transformers', 'synthetic', 'llamacpp', "
                "'vllm' or 'sglang'"
            ),
        ),
        ({"lease_s": "soon"}, "LORE_LEASE_S: Input should be a valid number"),
        ({"synthetic_rate": "0"}, "LORE_SYNTHETIC_RATE: Input should be greater than 0"),
        ({"synthetic_rate": "nan"}, "LORE_SYNTHETIC_RATE: Input should be greater than 0"),
        ({"max_requests": "0"}, "LORE_MAX_REQUESTS: Input should be greater than or equal to 1"),
        ({"window_maximum": "2000"}, "LORE_WINDOW_MAXIMUM: Input should be less than or equal"),
        (
            {"window_initial": "64", "window_maximum": "32"},
            "LORE_WINDOW_MAXIMUM: must be at least LORE_WINDOW_INITIAL (64)",
        ),
        (
            {"pace_step": "40"},
            "LORE_PACE_LEAD: must be at least twice LORE_PACE_STEP (40)",
        ),
        (
            {"device_map": "cpu", "tp_plan": "auto"},
            "LORE_TP_PLAN: excludes LORE_DEVICE_MAP",
        ),
        (
            {"tp_plan": "auto", "cuda_graphs": "on"},
            "LORE_CUDA_GRAPHS: on excludes LORE_TP_PLAN",
        ),
        (
            {"engine": "vllm"},
            "LORE_ENGINE_URL: LORE_ENGINE=vllm needs it: the address of its server",
        ),
        (
            {"engine": "synthetic", "engine_url": "http://a"},
            "LORE_ENGINE_URL: is for the engines llamacpp, sglang, vllm, and LORE_ENGINE is synth",
        ),
        (
            {"engine": "vllm", "engine_url": "localhost:8081"},
            "LORE_ENGINE_URL: 'localhost:8081' is not an address such as http://localhost:8001",
        ),
        *(
            (
                {"engine": "vllm", "engine_url": f"http://localhost:{port}"},
                f"LORE_ENGINE_URL: 'http://localhost:{port}' is not an address",
            )
            for port in ("99999", "port", "0")
        ),
        (
            {"engine": "vllm", "engine_url": "http://a, http://a/"},
            "LORE_ENGINE_URL: names a server twice",
        ),
        ({"engine_answer_s": "inf"}, "LORE_ENGINE_ANSWER_S: Input should be a finite number"),
        ({"template_args": "{"}, "LORE_TEMPLATE_ARGS: is not JSON: Expecting property name"),
        (
            {"engine": "vllm", "engine_url": "http://me:key@a"},
            "LORE_ENGINE_URL: a key does not belong here; put it into LORE_ENGINE_KEY_FILE",
        ),
        (
            {"engine": "vllm", "engine_url": "http://a?model=b"},
            "LORE_ENGINE_URL: 'http://a?model=b' must end with its path",
        ),
        (
            {"engine": "vllm", "engine_url": "http://a, http://a"},
            "LORE_ENGINE_URL: names a server twice",
        ),
        (
            {"template_args": '{"tools": [], "messages": []}'},
            "LORE_TEMPLATE_ARGS: must not hold messages, tools: Lore sets it",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_variable(
    values: dict[str, str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        read(monkeypatch, **values)
    assert exit_.value.code == 2
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(line)


def test_the_settings_reach_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, engine="synthetic", synthetic_rate="inf", slots="3")
    assert settings.engine_options == SyntheticOptions(math.inf, slots=3)
    settings = read(monkeypatch, engine="transformers", model="/a/model", dtype="bfloat16")
    expected = TransformersOptions(model="/a/model", dtype="bfloat16", slots=3)
    assert settings.engine_options == expected


def test_every_process_is_an_owner_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2"""
    assert read(monkeypatch).generator_id != read(monkeypatch).generator_id
