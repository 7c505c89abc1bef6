"""Answers keep to their grammar, whatever the model would say, and wherever they are resumed."""

import copy
import json
import threading
from collections.abc import Iterator
from typing import Any, cast

import jsonschema
import pytest
import torch
from transformers.generation.continuous_batching.requests import RequestState
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from lore.parts.formats import read
from lore.parts.parser import Parser
from lore.parts.words import Arguments, CallBegin, CallEnd
from lore.request import KeptRequest
from lore_generator.engines import automata
from lore_generator.engines.automata import Automata, BadGrammar, Constrained, Grammars, follow
from lore_generator.engines.conversation import Refused
from lore_generator.engines.grammar import grammar_of
from lore_generator.engines.schema_recursion import ENDLESS as ENDS_NOT
from tests.services.sampler_harness import PLAIN, Batch, sampling, state_of
from tests.services.schemas import ENDING, ENDLESS, FLAG, REFUSED, SCHEMAS, SHORT, obj
from tests.services.tokenizers_of_both_kinds import byte_level, sentencepiece

PROMPT = [7, 8, 9]
MOST_TOKENS = 400
WANTED = [
    sampling(temperature=1.5, seed=3),
    sampling(temperature=0.8, top_k=40, top_p=0.95, seed=4, repetition_penalty=1.1),
    sampling(),
    sampling(no_repeat_ngram_size=1),
]


@pytest.fixture(scope="module", params=["byte level", "sentencepiece"])
def tokenizer(request: pytest.FixtureRequest) -> TokenizersBackend:
    return byte_level() if request.param == "byte level" else sentencepiece(normalized=False)


@pytest.fixture(scope="module")
def grammars(tokenizer: TokenizersBackend) -> Grammars:
    eos: Any = tokenizer.eos_token_id
    return Grammars(tokenizer, len(tokenizer) + 13, frozenset({eos}))


def asked(**given: object) -> KeptRequest:
    return KeptRequest.model_validate({"question": "q", **PLAIN, **given}, strict=False)


def format_of(schema: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"type": "json_schema", "name": "answer", "schema": schema, "strict": True, **more}


def grammar_for(grammars: Grammars, **given: object) -> str:
    grammar = grammar_of(asked(**given), grammars.special)
    assert grammar is not None
    return grammar


def text_of(tokenizer: TokenizersBackend, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


class Model:
    """Its scores depend on the position alone. It likes to end what it has begun."""

    def __init__(self, tokenizer: TokenizersBackend, seed: int) -> None:
        self.eos = tokenizer.eos_token_id
        self._seed = seed
        self._width = len(tokenizer) + 13  # as models do, it has more than the tokenizer
        self._likes = [
            number
            for text, number in tokenizer.get_vocab().items()
            if number == self.eos or (set(text) <= set('"}],') and text)
        ]

    def scores(self, position: int) -> torch.Tensor:
        noise = torch.Generator().manual_seed(self._seed * 100_000 + position)
        row = torch.randn(self._width, generator=noise) * 2
        row[self._likes] += 4
        return row


def run(model: Model, batch: Batch, state: RequestState, others: list[RequestState]) -> list[int]:
    """The answer, to its end, with others in the same steps."""
    for position in range(MOST_TOKENS):
        rows = torch.stack([model.scores(position)] * (1 + len(others)))
        (token, *_) = batch.step([state, *others], rows)
        if token == model.eos:
            break
    return state.generated_tokens


@pytest.mark.rule("H14")
@pytest.mark.parametrize("name", SCHEMAS)
def test_a_whole_answer_is_valid_and_resumes_at_every_token(
    name: str, tokenizer: TokenizersBackend, grammars: Grammars
) -> None:
    schema = SCHEMAS[name]
    grammar = grammar_for(grammars, response_format=format_of(schema))
    batch, ended = Batch(grammars), 0
    for number, wanted in enumerate(WANTED):
        model = Model(tokenizer, number)
        free = state_of(f"{name}.{number}.free", PROMPT, wanted)
        tokens = run(model, batch, state_of(f"{name}.{number}", PROMPT, wanted, grammar), [free])
        if tokens[-1] == model.eos:
            ended += 1
            text = text_of(tokenizer, tokens)
            jsonschema.validate(json.loads(text), schema)
        for at in range(0, len(tokens), 5 if number else 1):
            resumed = state_of(f"{name}.{number}.{at}", PROMPT, wanted, grammar, (*tokens[:at],))
            assert batch.step([resumed], model.scores(at)[None]) == [tokens[at]]
    assert ended
    assert not batch.failed


def test_an_answer_that_is_cut_by_its_length_is_a_valid_beginning(
    tokenizer: TokenizersBackend, grammars: Grammars
) -> None:
    grammar = grammar_for(grammars, response_format=format_of(SCHEMAS["strings"]))
    model, batch = Model(tokenizer, 1), Batch(grammars)
    state = state_of("cut", PROMPT, sampling(temperature=1), grammar)
    for position in range(9):
        batch.step([state], model.scores(position)[None])
        assert follow(grammars.automaton(grammar), state.generated_tokens)
    assert model.eos not in state.generated_tokens


def test_a_request_goes_on_when_its_automaton_was_dropped(
    tokenizer: TokenizersBackend, grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = grammar_for(grammars, response_format=format_of(SCHEMAS["recursive"]))
    model, wanted = Model(tokenizer, 5), sampling(temperature=1, seed=9)
    whole = run(model, Batch(grammars), state_of("whole", PROMPT, wanted, grammar), [])
    monkeypatch.setattr(automata, "KEPT_AUTOMATA", 0)
    batch = Batch(grammars)
    parked = [state_of(f"{n}", PROMPT, wanted, grammar) for n in range(5)]
    for position in range(len(whole)):
        for state in parked:
            assert batch.step([state], model.scores(position)[None]) == [whole[position]]


def test_what_was_said_outside_of_the_grammar_fails_alone(
    tokenizer: TokenizersBackend, grammars: Grammars
) -> None:
    grammar = grammar_for(grammars, response_format=format_of(SCHEMAS["enum"]))
    stranger = tokenizer.encode("What", add_special_tokens=False)
    model, batch = Model(tokenizer, 1), Batch(grammars)
    bad = state_of("bad", PROMPT, sampling(), grammar, tuple(stranger))
    good = state_of("good", PROMPT, sampling(), grammar)
    run(model, batch, good, [bad])
    assert set(batch.failed) == {"bad"}
    text = text_of(tokenizer, good.generated_tokens)
    jsonschema.validate(json.loads(text), SCHEMAS["enum"])


@pytest.mark.rule("P17.21")
@pytest.mark.parametrize(("schema", "place", "word"), REFUSED)
def test_a_schema_that_is_not_supported_is_refused_with_its_place(
    schema: dict[str, Any], place: str, word: str, grammars: Grammars
) -> None:
    for given in (
        {"response_format": format_of(schema)},
        {
            "tools": [{"name": "f", "parameters": obj(x=schema), "strict": True}],
            "tool_choice": "required",
        },
    ):
        with pytest.raises(Refused) as refused:
            grammar_for(grammars, **given)
        assert refused.value.reason == "invalid_schema"
        (field,) = {"response_format", "tools"} & given.keys()
        said = str(refused.value)
        assert said.startswith(f"{field}: ")
        assert word in said
        if place and "$" not in place and field == "response_format":
            assert f" at '{place}': " in said
        elif place and "$" not in place:
            assert f" at '#/properties/x{place[1:]}': " in said


@pytest.mark.rule("P17.21")
@pytest.mark.parametrize(("schema", "place"), ENDLESS)
@pytest.mark.parametrize("strict", [True, None])
def test_recursion_that_cannot_end_is_refused_with_its_place(
    schema: dict[str, Any], place: str, strict: bool | None, grammars: Grammars
) -> None:
    with pytest.raises(Refused) as refused:
        grammar_for(grammars, response_format=format_of(schema, strict=strict))
    assert refused.value.reason == "invalid_schema"
    where = f" at '{place}'" if place else ""
    assert str(refused.value) == f"response_format: schema not supported{where}: {ENDS_NOT}"


@pytest.mark.parametrize("schema", ENDING)
def test_recursion_that_can_end_is_supported(schema: dict[str, Any], grammars: Grammars) -> None:
    grammar_for(grammars, response_format=format_of(schema, strict=None))


def test_the_place_in_a_definition_is_named(grammars: Grammars) -> None:
    ((schema, place, _),) = [one for one in REFUSED if one[1].startswith("#/$defs")]
    with pytest.raises(Refused, match=place.replace("$", r"\$")):
        grammar_for(grammars, response_format=format_of(schema))


def test_what_a_schema_asks_for_beyond_the_library_is_left_out_unless_it_is_strict(
    tokenizer: TokenizersBackend, grammars: Grammars
) -> None:
    schema = obj(a={"type": "array", "items": FLAG, "uniqueItems": True, "maxItems": 3})
    with pytest.raises(Refused, match="uniqueItems"):
        grammar_for(grammars, response_format=format_of(schema))
    # A schema says nothing to the compiler itself.
    schema["x-guidance"] = {"whitespace_pattern": "z", "lenient": False}
    grammar = grammar_for(grammars, response_format=format_of(schema, strict=None))
    tokens = run(
        Model(tokenizer, 2), Batch(grammars), state_of("a", PROMPT, WANTED[0], grammar), []
    )
    text = text_of(tokenizer, tokens)
    assert set(json.loads(text)) == {"a"}


def huge() -> Iterator[dict[str, Any]]:
    bomb: dict[str, Any] = {"e0": obj(x=SHORT)}
    for n in range(1, 25):
        either = {"anyOf": [{"$ref": f"#/$defs/e{n - 1}"}, obj(False, **{f"y{n}": FLAG})]}
        bomb[f"e{n}"] = {"allOf": [either, either]}
    yield {"$defs": bomb, "$ref": "#/$defs/e24"}
    letters = "abcdefghijklmnopqrst"
    for of_each in (  # the compiler would take minutes
        [{"type": "string", "pattern": f".*{letter}.*"} for letter in letters],
        [obj(a={"type": "string", "pattern": letter}) for letter in letters],
        [{"type": "array", "items": {"type": "string", "pattern": letter}} for letter in letters],
    ):
        yield {"allOf": of_each}
    chain: dict[str, Any] = {
        f"n{n}": {"pattern": f"a{n}", "$ref": f"#/$defs/n{n + 1}"} for n in range(20)
    }
    yield {"$ref": "#/$defs/n0", "$defs": chain | {"n20": {"type": "string"}}}


@pytest.mark.parametrize("schema", list(huge()), ids=str)
def test_a_schema_of_which_too_much_would_come_is_refused(
    schema: dict[str, Any], grammars: Grammars
) -> None:
    # The edge's bound on its bytes is not asked here.
    request = asked()
    wanted: Any = asked(response_format=format_of({})).response_format
    wanted = wanted.model_copy(update={"schema_": schema})
    request = request.model_copy(update={"response_format": wanted})
    with pytest.raises((Refused, BadGrammar), match=r"large|patterns"):
        grammars.automaton(grammar_of(request, grammars.special) or "")


def test_many_members_may_be_left_out(tokenizer: TokenizersBackend, grammars: Grammars) -> None:
    schema = obj(False, **{f"a{n}": FLAG for n in range(600)})
    grammar = grammar_for(grammars, response_format=format_of(schema))
    batch = Batch(grammars)
    tokens = run(Model(tokenizer, 1), batch, state_of("a", PROMPT, WANTED[0], grammar), [])
    assert not batch.failed
    jsonschema.validate(json.loads(text_of(tokenizer, tokens)), schema)


def test_masks_are_computed_beside_the_model(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, masks = threading.Event(), Automata._masks

    def after_begin(self: Automata, step: Any) -> Any:
        assert began.wait(10), "the step waits for the masks before the model has its part"
        return masks(self, step)

    monkeypatch.setattr(Automata, "_masks", after_begin)
    beside = Automata(grammars)
    grammar = grammar_for(grammars, response_format={"type": "json_object"})
    beside.begin([Constrained(0, "a", grammar, lambda _: [])])
    began.set()
    allowed = beside.end()
    assert allowed is not None
    assert not allowed.failed


def test_the_place_is_found_among_many(grammars: Grammars) -> None:
    schema = obj(**{f"a{n}": SHORT for n in range(1_000)}, z={"type": "x"})
    with pytest.raises(Refused, match="at '#/properties/z': Invalid type: x"):
        grammar_for(grammars, response_format=format_of(schema))


def test_compiled_grammars_are_kept_within_a_bound(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automata, "KEPT_GRAMMARS", 3)
    for number in range(9):
        schema = obj(**{f"p{number}": FLAG})
        grammars.automaton(grammar_for(grammars, response_format=format_of(schema)))
    assert len(grammars._compiled) == 3


TOOLS = [
    {"name": "weather", "parameters": obj(city=SHORT, unit={"enum": ["C", "F"]}), "strict": True},
    {"name": "now"},
    {"name": "search", "parameters": {"type": "object", "properties": {"q": SHORT}}},
]


@pytest.mark.parametrize("form", ["", "hermes", "llama3", "mistral"])
@pytest.mark.parametrize(
    ("choice", "names"), [("required", {"weather", "now", "search"}), ({"name": "now"}, {"now"})]
)
def test_a_call_that_is_required_is_one_that_its_reader_understands(
    form: str, choice: Any, names: set[str], tokenizer: TokenizersBackend, grammars: Grammars
) -> None:
    grammar = grammar_for(
        grammars, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False, parts=form
    )
    schemas = {tool["name"]: tool.get("parameters", {}) for tool in TOOLS}
    for seed in range(4):
        model, batch = Model(tokenizer, seed), Batch(grammars)
        wanted = sampling(temperature=1, seed=seed)
        tokens = run(model, batch, state_of("a", PROMPT, wanted, grammar), [])
        assert tokens[-1] == model.eos
        text = text_of(tokenizer, tokens)
        parser = Parser(read(form or "hermes"), frozenset(schemas))
        first, *rest = [*parser.feed(text), *parser.finish()]
        assert isinstance(first, CallBegin)
        assert first.name in names
        assert rest[-1] == CallEnd(0, is_complete=True)
        said = "".join(part.text for part in rest[:-1] if isinstance(part, Arguments))
        jsonschema.validate(json.loads(said), schemas[first.name])


TWO = {
    "hermes": '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    "llama3": '{"name": "now", "parameters": {}}; {"name": "now", "parameters": {}}',
    "mistral": '[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "now", "arguments": {}}]',
}


@pytest.mark.parametrize(("form", "text"), TWO.items())
@pytest.mark.parametrize("parallel", [None, False])
def test_calls_in_parallel_follow_each_other_where_they_may(
    form: str, text: str, parallel: bool | None, grammars: Grammars
) -> None:
    parser = Parser(read(form), frozenset({"now"}))
    parser.feed(text)
    assert parser.complete_calls == 2
    grammar = grammar_for(
        grammars, tools=TOOLS, tool_choice="required", parts=form, parallel_tool_calls=parallel
    )
    automaton = grammars.automaton(grammar)
    assert grammars._words is not None
    accepts = follow(automaton, grammars._words.tokenize_str(text)) and automaton.is_accepting()
    assert accepts == (parallel is None)


def test_a_format_beside_tools_is_kept_to_unless_a_tool_is_called(
    tokenizer: TokenizersBackend, grammars: Grammars
) -> None:
    grammar = grammar_for(grammars, tools=TOOLS[1:2], response_format=format_of(obj(a=FLAG)))
    automaton, words = grammars.automaton(grammar), grammars._words
    assert words is not None
    for text in ('{"a": true}', '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'):
        again = automaton.deep_copy()
        assert follow(again, words.tokenize_str(text))
        assert again.is_accepting()
    assert not follow(automaton, words.tokenize_str("no"))


@pytest.mark.parametrize("is_special", [True, False])
def test_a_model_whose_prompt_begins_its_reasoning_reasons_before_it_keeps_to_a_format(
    is_special: bool, tokenizer: TokenizersBackend
) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    added = {"additional_special_tokens": ["<think>", "</think>"]}
    if is_special:
        tokenizer.add_special_tokens(cast("Any", added))
    eos: Any = tokenizer.eos_token_id
    grammars = Grammars(tokenizer, len(tokenizer), frozenset({eos}))
    given = asked(response_format=format_of(obj(a=FLAG)), parts="think")
    grammar = grammar_of(given, grammars.special, "<think>")
    assert grammar is not None
    automaton = grammars.automaton(grammar)
    words = grammars._words
    assert words is not None
    said = words.tokenize_str("Is it {?\nYes.</think>\n\n", parse_special=True)
    assert follow(automaton, said)
    assert not follow(automaton.deep_copy(), words.tokenize_str("x"))
    assert follow(automaton, words.tokenize_str('{"a": true}'))
    assert automaton.is_accepting()


def test_an_answer_without_a_format_is_free(grammars: Grammars) -> None:
    for given in ({}, {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "none"}):
        assert grammar_of(asked(**given), grammars.special) is None


def test_a_model_without_an_end_cannot_be_constrained(tokenizer: TokenizersBackend) -> None:
    endless = Grammars(tokenizer, len(tokenizer), frozenset())
    with pytest.raises(BadGrammar, match="no token that ends"):
        endless.automaton(grammar_for(endless, response_format={"type": "json_object"}))
