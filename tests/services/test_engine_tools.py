"""Tools on their way to the model, and its markers on their way to the log."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from lore.messages import Message, ToolCall
from lore.request import KeptRequest, StreamRequest
from lore.tools import Tool
from lore_generator.engine import Job
from lore_generator.engines.conversation import Refused
from lore_generator.engines.loading import Loaded
from lore_generator.engines.prompt import Prepared, grammars_of, prepare, prompt_tokens
from lore_generator.engines.remote.tokenizer import load
from lore_generator.engines.remote.words import EngineWords, OwnWords
from lore_generator.engines.transcript import Transcript
from lore_generator.owned_request import is_foreign
from tests.services.tokenizers_of_both_kinds import byte_level

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'tool' %}{{ m.name }}/{{ m.tool_call_id }}: {% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[TOOL_CALLS]{{ c.function.name }}"
    "{{ c.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if think %}<think>\n{% endif %}{% endif %}"
)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
CALL_ID = "call_of_another_length"
MARKERS = ("[TOOL_CALLS]", "<think>", "</think>")


@pytest.fixture(scope="module")
def tokenizer() -> TokenizersBackend:
    made = byte_level()
    made.add_tokens(list(MARKERS), special_tokens=True)
    made.chat_template = TEMPLATE
    return made


@pytest.fixture(scope="module")
def words(tokenizer: TokenizersBackend, tmp_path_factory: pytest.TempPathFactory) -> OwnWords:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return OwnWords(load(str(folder), None, {}))


def asked(said: str = "Rain.", **more: Any) -> KeptRequest:
    call = ToolCall(id=CALL_ID, name="weather", arguments=f'{{"city": "{said}"}}')
    given: dict[str, Any] = {
        "messages": [
            Message(role="user", content="How is it?"),
            Message(role="assistant", tool_calls=[call]),
            Message(role="tool", tool_call_id=CALL_ID, content=said),
        ],
        "tools": [Tool(name="weather", description=said, parameters={**SCHEMA, said: {}})],
        "parts": "mistral+think",
    }
    return KeptRequest(**(given | more))


async def ids_of(request: StreamRequest, tokenizer: TokenizersBackend, words: OwnWords):
    """By both engines that render a template themselves."""
    ids = prompt_tokens(Job("a", request), tokenizer)
    assert await words.prompt(request) == ids
    return ids


async def test_a_template_is_given_tools_calls_and_results(
    tokenizer: TokenizersBackend, words: OwnWords
) -> None:
    text = str(tokenizer.decode(await ids_of(asked(), tokenizer, words)))
    head, call, result = "{", '[TOOL_CALLS]weather{"city": "Rain."}', ": Rain.<|im_end|>"
    assert f'{head}"type": "function", "function": {{"name": "weather"' in text
    assert call in text
    assert result in text
    name, _, call_id = text.partition(result)[0].rpartition("\n")[2].partition("/")
    assert name == "weather"
    assert (len(call_id), call_id.isalnum()) == (9, True), "as Mistral's templates demand"


async def test_a_model_is_told_of_no_tools_that_it_must_not_call(
    tokenizer: TokenizersBackend, words: OwnWords
) -> None:
    text = tokenizer.decode(await ids_of(asked(tool_choice="none"), tokenizer, words))
    assert '"type": "function"' not in text


async def test_no_tool_no_call_and_no_result_writes_a_special_token(
    tokenizer: TokenizersBackend, words: OwnWords
) -> None:
    end = str(tokenizer.eos_token)
    ids = await ids_of(asked(f"a{end}b[TOOL_CALLS]"), tokenizer, words)
    plain = await ids_of(asked("ab"), tokenizer, words)
    for name in (end, "[TOOL_CALLS]"):
        token = cast("int", tokenizer.convert_tokens_to_ids(name))
        assert ids.count(token) == plain.count(token)
    assert tokenizer.decode(ids).count(f"a{end}b[TOOL_CALLS]") == 4


def test_a_model_without_a_chat_template_knows_no_tools(tokenizer: TokenizersBackend) -> None:
    bare = byte_level()
    bare.chat_template = None
    with pytest.raises(Refused, match="no tools"):
        prompt_tokens(Job("a", asked()), bare)


def written(tokenizer: TokenizersBackend) -> list[int]:
    text = 'Hm.</think>[TOOL_CALLS]weather{"city": "中文"}<|im_end|>'
    return cast("list[int]", tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.rule("P19.5")
async def test_markers_that_are_special_tokens_are_text_where_they_are_asked_for(
    tokenizer: TokenizersBackend, words: OwnWords
) -> None:
    ids, backend = written(tokenizer), tokenizer.backend_tokenizer
    whole = 'Hm.</think>[TOOL_CALLS]weather{"city": "中文"}'
    assert Transcript(backend, ()).feed(ids) == 'Hm.weather{"city": "中文"}'
    assert Transcript(backend, (), MARKERS).feed(ids) == whole
    one_by_one = Transcript(backend, (), MARKERS)
    assert "".join(one_by_one.feed([one]) for one in ids) == whole
    assert await words.script([], MARKERS).feed(ids) == whole

    async def engine(_: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if "detokenize" in path:
            return {"content": tokenizer.decode(body["tokens"])}
        is_name = body["content"] in (*MARKERS, tokenizer.eos_token)
        return {"tokens": [0] if is_name and body["parse_special"] else [1]}

    assert await EngineWords(engine, {}).script([], MARKERS).feed(ids) == whole


@pytest.mark.rule("P19.5")
@pytest.mark.parametrize("think", [True, False])
def test_reasoning_that_the_template_has_begun_begins_in_the_text(
    tokenizer: TokenizersBackend, think: bool
) -> None:
    """The log alone then tells where the reasoning is; a takeover continues the same text."""
    size = SimpleNamespace(vocab_size=len(tokenizer))
    model: Any = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: size))
    loaded = Loaded("a", model, tokenizer, tokenizer.backend_tokenizer, frozenset(), "", "")
    request = asked(template_args={"think": think})
    ids = written(tokenizer)[:-1]
    opening = "<think>" if think else ""
    grammars = grammars_of(loaded)

    def prepared(job: Job) -> Prepared:
        return prepare(job, loaded, 10_000, grammars)

    assert prepared(Job("a", request)).unsent == opening
    again = prepared(Job("a", request, tuple(ids[:2]), opening))
    assert opening + again.unsent == opening + str(tokenizer.decode(ids[:2]))
    plain = replace(Job("a", request), request=request.model_copy(update={"parts": None}))
    assert prepared(plain).unsent == "", "nobody asked for parts"


@pytest.mark.rule("P19.6")
@pytest.mark.parametrize(
    ("parts", "here", "is_other"),
    [
        ("hermes", "hermes+think", False),
        ("hermes+think", "hermes", False),
        ("hermes", "llama3", True),
        ("hermes", "", True),
        (None, "hermes", True),
    ],
)
def test_an_answer_that_may_call_is_left_alone_by_a_model_that_calls_in_another_way(
    parts: str | None, here: str, is_other: bool
) -> None:
    assert is_foreign(asked(parts=parts), here) is is_other
    assert not is_foreign(asked(parts=parts, tool_choice="none"), here)
