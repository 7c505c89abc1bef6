"""Messages to ids and ids to text without transformers, held against transformers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from lore.request import StreamRequest
from lore_generator.engine import Job
from lore_generator.engines.conversation import Refused, prompt_ids
from lore_generator.engines.prompt import prompt_tokens
from lore_generator.engines.remote.dialects.base import EngineEvent
from lore_generator.engines.remote.dialects.llamacpp import LlamaCpp
from lore_generator.engines.remote.template import renderer, switches_of
from lore_generator.engines.remote.tokenizer import ModelText, load
from lore_generator.engines.remote.words import EngineWords, OwnWords
from tests.engines.running import Running, ask
from tests.engines.stub import Stub, prompt_of
from tests.services.tokenizers_of_both_kinds import CHATML, INST, KINDS

TEMPLATES = {
    "ChatML": CHATML,
    "Llama 2": INST,
    "names of special tokens": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}",
    "white space": "{% for m in messages %}\n  {{ m.role }}\n    {% endfor %}\nend",
    "a loop that breaks": (
        "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.content }}"
        "{% endfor %}"
    ),
    "marked answers": (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    ),
    "JSON": "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }}",
    "the date": "{{ strftime_now('%Y-%m-%d') }}",
    "a namespace": (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
        "{{ ns.n }}"
    ),
    "an argument": "{% if enable_thinking is false %}no{% else %}yes{% endif %}",
    "no tools": "{% if tools is none and not documents %}none{% endif %}",
    "the next answer": "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}",
    "Python's strings": "{{ messages[0].content.strip().split(' ')[0].upper() }}",
}
SAID = [
    {"role": "system", "content": "Be brief & <plain>."},
    {"role": "user", "content": "  Wie heißt das? 🙂\n"},
    {"role": "assistant", "content": "So."},
]


@pytest.mark.parametrize("args", [{}, {"enable_thinking": False}], ids=["bare", "with arguments"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_rendered_as_transformers_does(name: str, args: dict[str, Any]) -> None:
    tokenizer = KINDS["byte-level BPE"]()
    tokenizer.bos_token = "<|im_start|>"
    theirs = tokenizer.apply_chat_template(
        SAID, chat_template=TEMPLATES[name], add_generation_prompt=True, tokenize=False, **args
    )
    tokens = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert renderer(TEMPLATES[name], tokens, args)(SAID, [], {}) == theirs
    assert renderer(TEMPLATES[name], tokens, {})(SAID, [], args) == theirs


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no system message') }}",
        "{{ messages[7].content }}",
        "{{ ''.__class__.__mro__ }}{{ messages.__class__.__init__.__globals__ }}",
        "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
    ],
)
def test_a_template_that_fails_or_reaches_out_refuses_the_messages(source: str) -> None:
    tokenizer = KINDS["byte-level BPE"]().backend_tokenizer
    with pytest.raises(Refused, match="chat template refuses"):
        prompt_ids(ask("a"), tokenizer, renderer(source, {}, {}))


@pytest.mark.rule("O28")
@pytest.mark.parametrize(
    ("source", "switches"),
    [
        (
            "{% if enable_thinking is defined and not enable_thinking %}<think>{% endif %}",
            "enable_thinking",
        ),
        (
            "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}",
            "thinking",
        ),
        ("{{ reasoning_effort | default('low') }} thinking", "reasoning_effort"),
        ("Show your thinking. {{ messages }}", ""),
        ("{% for %}", ""),
    ],
    ids=["Qwen's", "DeepSeek's", "gpt-oss's", "none", "no template"],
)
def test_a_templates_switches_are_those_that_it_reads(source: str, switches: str) -> None:
    assert switches_of(source) == switches


def test_a_template_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(TemplateError):
        renderer("{% for %}", {}, {})


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[TokenizersBackend, ModelText]:
    """As transformers has a tokenizer, and as it is read from the folder that it was saved to."""
    theirs = KINDS[request.param]()
    theirs.save_pretrained(tmp_path)
    return theirs, load(str(tmp_path), None, {})


async def test_a_conversation_has_the_ids_that_transformers_gives_it(
    model: tuple[TokenizersBackend, ModelText],
) -> None:
    theirs, ours = model
    conversation = [{"role": "user", "content": "What is a loop? 中文 🙂\n"}]
    ids = theirs.apply_chat_template(
        conversation, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert await OwnWords(ours).prompt(ask(conversation[0]["content"])) == ids


async def test_the_name_of_a_special_token_in_a_message_is_text(
    model: tuple[TokenizersBackend, ModelText],
) -> None:
    theirs, ours = model
    name = str(theirs.eos_token)
    ids = await OwnWords(ours).prompt(ask(f"a{name}b"))
    plain = await OwnWords(ours).prompt(ask("ab"))
    (eos,) = ours.eos_ids
    assert ids.count(eos) == plain.count(eos)
    assert ids != plain


@pytest.mark.rule("H17")
async def test_a_raw_prompt_has_the_ids_that_transformers_gives_it(
    model: tuple[TokenizersBackend, ModelText],
) -> None:
    theirs, ours = model
    text = f"a{theirs.eos_token}b 中文"
    wanted = theirs(text)["input_ids"]
    raw = StreamRequest(prompt=text)
    assert await OwnWords(ours).prompt(raw) == prompt_tokens(Job("a", raw), theirs) == wanted
    assert await OwnWords(ours).prompt(StreamRequest(prompt=[7, 8])) == [7, 8]


@pytest.mark.rule("H17")
def test_a_raw_prompt_reaches_every_engine_as_it_is(stub: Stub, running: Running) -> None:
    for number, prompt in enumerate(([5, 6], "w5 w6")):
        assert running.whole(f"raw-{number}", ask(messages=None, prompt=prompt))[0]
        wanted = [12, 12] if number and stub.dialect == "llamacpp" else [5, 6]
        assert prompt_of(stub.bodies[-1]) == wanted, "the stub's tokenizer knows lengths"
    running.submit("unknown", ask(messages=None, prompt=[5, 1000]))
    refused = running.sink.until_end("unknown")
    assert refused.finish_reason == "invalid_prompt"
    assert "prompt: the model has no token 1000" in str(refused.error)


async def test_what_a_request_gives_the_template_is_rendered(
    model: tuple[TokenizersBackend, ModelText],
) -> None:
    """By both engines that render it themselves."""
    theirs, ours = model
    theirs.chat_template = TEMPLATES["an argument"]
    named = {"bos_token": str(theirs.bos_token or "")}
    text = replace(
        ours, render=renderer(TEMPLATES["an argument"], named, {"enable_thinking": True})
    )
    for args, said in (({"enable_thinking": False}, "no"), (None, "yes")):
        request = ask("a", template_args=args)
        assert str(theirs.decode(await OwnWords(text).prompt(request))).strip() == said
        own = prompt_tokens(Job("a", request), theirs, {"enable_thinking": True})
        assert str(theirs.decode(own)).strip() == said


def test_a_folder_without_a_tokenizer_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tokenizer in .*: it holds no tokenizer\.json"):
        load(str(tmp_path), None, {})
    with pytest.raises(ValueError, match="there is no such folder"):
        load(str(tmp_path / "none"), None, {})
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot read the tokenizer"):
        load(str(tmp_path), None, {})


def test_neither_torch_nor_transformers_is_imported_for_a_remote_engine() -> None:
    program = (
        "import sys, lore_generator.main, lore_generator.engines.remote.engine;"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_what_an_engine_wrote_for_a_token_is_not_asked_for_again() -> None:
    asked: list[str] = []

    async def engine(_: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.append(path)
        return {"content": "<|im_end|>"} if "detokenize" in path else {"tokens": [body["content"]]}

    words = EngineWords(engine, {})
    for token, text in ((260, " the"), (28, ","), (3, "\N{REPLACEMENT CHARACTER}")):
        words.learn(token, text)
    assert await words.script([]).feed([260, 28]) == " the,"
    assert [await words.may_end(token) for token in (260, 28)] == [False, False]
    assert not asked
    await words.text((3,))  # half a character says nothing by itself
    assert asked == ["/detokenize"]


def test_an_event_says_a_text_only_beside_the_count_that_shows_whose_it_is() -> None:
    event = {"tokens": [28], "content": "🙂,"}
    assert LlamaCpp().read(event, 4) == EngineEvent([28])
    assert LlamaCpp().read(event | {"tokens_predicted": 5}, 4) == EngineEvent([28], text="🙂,")
    assert LlamaCpp().read(event | {"tokens_predicted": 8}, 4) == EngineEvent([28], None, 3, "🙂,")
