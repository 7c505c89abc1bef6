"""An engine's stand-in, in each dialect, and Lore's engine that drives it."""

import json
from collections.abc import Iterator

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.engines.running import QUICK, Running
from tests.engines.stub import EOS, Stub
from tests.engines.stub_events import WORDS

DIALECTS = ("llamacpp", "vllm", "sglang")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the stub's vocabulary, for the dialects that have none of their own."""
    folder = tmp_path_factory.mktemp("stub-model")
    names = ["<unk>", *(f"w{number}" for number in range(1, 1000))]
    for token, text in WORDS.items():
        names[token] = text
    names[EOS] = "<end>"
    made = Tokenizer(
        models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["<end>"])
    made.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<end>", "chat_template": "{{ messages[-1].content }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(params=DIALECTS)
def stub(request: pytest.FixtureRequest) -> Iterator[Stub]:
    with Stub(request.param) as stub:
        yield stub


@pytest.fixture
def options(stub: Stub, tokenizer: str) -> dict[str, object]:
    return QUICK | ({} if stub.dialect == "llamacpp" else {"tokenizer": tokenizer})


@pytest.fixture
def running(stub: Stub, options: dict[str, object]) -> Iterator[Running]:
    with Running(stub.dialect, stub.url, **options) as running:
        yield running
