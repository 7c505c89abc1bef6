"""The parts of an answer, whatever was cut where."""

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore.parts import formats
from lore.parts.formats import Format
from lore.parts.parser import Parser
from lore.parts.words import Arguments, CallBegin, CallEnd, Part, ReasoningText, Text
from lore.strict_json import MAX_DEPTH

NAMES = frozenset(("weather", "time"))
WORDS = (
    "",
    "think",
    "hermes",
    "llama3",
    "mistral",
    "hermes+think",
    "llama3+think",
    "mistral+think",
)


def merged(parts: Sequence[Part]) -> list[Part]:
    """Fragments of one part as one."""
    whole: list[Part] = []
    for part in parts:
        match whole[-1:], part:
            case [Text(before)], Text(text):
                whole[-1] = Text(before + text)
            case [ReasoningText(before)], ReasoningText(text):
                whole[-1] = ReasoningText(before + text)
            case [Arguments(call, before)], Arguments(same, text) if call == same:
                whole[-1] = Arguments(call, before + text)
            case _:
                whole.append(part)
    return whole


def parsed(word: str, *texts: str, single: bool = False) -> list[Part]:
    parser = Parser(formats.read(word), NAMES, single=single)
    parts = [part for text in texts for part in parser.feed(text)]
    return merged(parts + parser.finish())


def call(number: int, name: str, arguments: str) -> list[Part]:
    return [CallBegin(number, name), Arguments(number, arguments), CallEnd(number, True)]


def nested(depth: int) -> str:
    return '{"a": ' * depth + "1" + "}" * depth


OSLO, NOTHING = '{"city": "Oslo"}', "{}"
WEATHER, TIME = call(0, "weather", OSLO), call(1, "time", NOTHING)
TWO_CALLS_OF_HERMES = """Sure.
<tool_call>
{"name": "weather", "arguments": {"city": "Oslo"}}
</tool_call>
<tool_call>
{"arguments": {}, "name": "time"}
</tool_call>"""
A_LIST_OF_MISTRAL = """[TOOL_CALLS] [
{"name": "weather", "arguments": {"city": "Oslo"}, "id": "abcdefghi"},
{"name": "time", "arguments": {}}]"""
ANSWERS: list[tuple[str, str, list[Part]]] = [
    ("", "<think>a</think><tool_call>{", [Text("<think>a</think><tool_call>{")]),
    (
        "hermes",
        TWO_CALLS_OF_HERMES,
        [Text("Sure."), *WEATHER, *TIME],
    ),
    (
        "hermes",
        '<tool_call>{"name": "time", "arguments": {"a": "}</tool_call>\\""}}</tool_call>b',
        [*call(0, "time", '{"a": "}</tool_call>\\""}'), Text("b")],
    ),
    ("hermes", '<tool_call>{"name": "time"}</tool_call>', call(0, "time", NOTHING)),
    (
        "hermes",
        '<tool_call>{"name": "time", "arguments": "{\\"a\\": 1}"}</tool_call>',
        call(0, "time", '{"a": 1}'),
    ),
    ("hermes", "a <tool_call> is a marker", [Text("a <tool_call> is a marker")]),
    ("hermes", '<tool_call>{"city": 1}</tool_call>', [Text('<tool_call>{"city": 1}</tool_call>')]),
    ("hermes", "a  <tool_cal", [Text("a  <tool_cal")]),
    (
        "hermes+think",
        "<think>\nHm.\n</think>\n\nYes.\n",
        [ReasoningText("Hm."), Text("Yes.\n")],
    ),
    ("hermes+think", "<think>\n\n</think>\n\nYes.", [Text("Yes.")]),
    ("think", "a <think>b</think>", [Text("a <think>b</think>")]),
    ("think", "<think>a", [ReasoningText("a")]),
    (
        "llama3",
        '{"name": "weather", "parameters": {"city": "Oslo"}}; {"name": "time", "parameters": {}}',
        [*WEATHER, *TIME],
    ),
    (
        "llama3",
        '<|python_tag|>{"type": "function", "name": "weather", "parameters": {"city": "Oslo"}}',
        WEATHER,
    ),
    ("llama3", ' {"name": "Ada", "age": 36}', [Text(' {"name": "Ada", "age": 36}')]),
    (
        "mistral",
        A_LIST_OF_MISTRAL,
        [*WEATHER, *TIME],
    ),
    ("mistral", 'So.[TOOL_CALLS]weather{"city": "Oslo"}', [Text("So."), *WEATHER]),
    (
        "mistral",
        '[TOOL_CALLS]weather[CALL_ID]a1[ARGS]{"city": "Oslo"}[TOOL_CALLS]time[ARGS]{}',
        [*WEATHER, *TIME],
    ),
    ("mistral", "[TOOL_CALLS]none of them", [Text("[TOOL_CALLS]none of them")]),
    ("mistral+think", "[THINK]Hm.[/THINK]Yes.", [ReasoningText("Hm."), Text("Yes.")]),
]


@pytest.mark.rule("P19.2", "P19.4")
@pytest.mark.parametrize(("word", "text", "parts"), ANSWERS)
def test_an_answer_has_its_parts(word: str, text: str, parts: list[Part]) -> None:
    assert parsed(word, text) == parts
    assert parsed(word, *text) == parts, "a character at a time"


@pytest.mark.rule("P19.3")
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('<tool_call>{"name": "wea', [Text('<tool_call>{"name": "wea')]),
        ('<tool_call>{"name": "time"', [CallBegin(0, "time"), CallEnd(0, False)]),
        (
            '<tool_call>{"name": "time", "arguments": {"a": "b',
            [CallBegin(0, "time"), Arguments(0, '{"a": "b'), CallEnd(0, False)],
        ),
        (
            '<tool_call>{"name": "time", "arguments": {"a"]}</tool_call>',
            [
                CallBegin(0, "time"),
                Arguments(0, '{"a"'),
                CallEnd(0, False),
                Text("]}</tool_call>"),
            ],
        ),
    ],
)
def test_a_call_that_is_cut_is_not_complete(text: str, parts: list[Part]) -> None:
    parser = Parser(Format("hermes"), NAMES)
    assert merged(parser.feed(text) + parser.finish()) == parts
    assert not parser.has_called


@pytest.mark.rule("P19.3")
@pytest.mark.parametrize(
    "arguments",
    [
        '{"a" "b"}',
        "{a: 1}",
        '{"a": nope}',
        '{"a": 1,}',
        '{"a": NaN}',
        '{"a": "\n"}',
        '{"a": "\\x"}',
        "[1]",
        "5",
        "nope",
        '"{"',
        '""',
        nested(MAX_DEPTH + 1),
        nested(1_500),
    ],
    ids=lambda arguments: arguments[:9],
)
def test_a_call_whose_arguments_are_no_object_is_not_complete(arguments: str) -> None:
    parts = parsed("hermes", f'<tool_call>{{"name": "time", "arguments": {arguments}}}</tool_call>')
    assert parts[0] == CallBegin(0, "time")
    assert [part for part in parts if isinstance(part, CallEnd)] == [CallEnd(0, False)]


@pytest.mark.parametrize(
    ("text", "depth", "is_complete"),
    [
        ('[TOOL_CALLS]time{"a" 1}', 0, False),
        ("[TOOL_CALLS]time{}", MAX_DEPTH, True),
        ("[TOOL_CALLS]time{}", MAX_DEPTH + 1, False),
    ],
)
def test_so_are_arguments_behind_a_name(text: str, depth: int, is_complete: bool) -> None:
    parts = parsed("mistral", text.replace("{}", nested(depth)))
    assert CallEnd(0, is_complete) in parts


def test_an_object_of_another_member_may_be_too_deep_for_a_call() -> None:
    text = f'<tool_call>{{"x": {nested(1_500)}, "name": "time"}}</tool_call>'
    assert parsed("hermes", text) == [Text(text)]


def test_half_a_character_in_arguments_stays_an_escape() -> None:
    text = '<tool_call>{"name": "time", "arguments": "{\\"a\\": \\"\\ud800\\"}"}</tool_call>'
    assert parsed("hermes", text) == call(0, "time", '{"a": "\\ud800"}')


def test_one_call_ends_an_answer_of_single_calls() -> None:
    text = '<tool_call>{"name": "time"}</tool_call>'
    assert parsed("hermes", f"a{text}\n{text}b", single=True) == [
        Text("a"),
        *call(0, "time", NOTHING),
    ]


def test_what_may_be_a_marker_is_held_back_and_nothing_else_is() -> None:
    parser = Parser(Format("hermes"), NAMES)
    assert parser.feed("a < b\n<tool") == [Text("a < b")]
    assert parser.feed("s>") == [Text("\n<tools>")]
    assert parser.feed('<tool_call>{"name": "time", "arguments": {"a') == [
        CallBegin(0, "time"),
        Arguments(0, '{"a'),
    ]
    assert parser.feed('": 1') == [Arguments(0, '": 1')]


@pytest.mark.rule("P19.4")
def test_no_text_is_a_call_where_there_are_no_tools() -> None:
    text = '<tool_call>{"name": "time"}</tool_call>'
    parser = Parser(Format("hermes", True))
    assert merged(parser.feed(text) + parser.finish()) == [Text(text)]


PIECES = st.sampled_from(
    [
        *("<think>", "</think>", "[THINK]", "[/THINK]", "<tool_call>", "</tool_call>", "</tool"),
        *("<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[", "]", "{", "}", ";", ","),
        *('{"name": "time"}', '{"name": "time", "arguments": {"a": [1, "}"]}}', '{"name": "no"}'),
        *('"arguments": ', '{"arguments": {}, "name": "weather"}', '"a"', "\\", '"', ":", "time{}"),
        *("time", " ", "\n", "a b", "<", "中文🙂", "1"),
    ]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@pytest.mark.rule("P19.2")
@given(st.sampled_from(WORDS), TEXTS, st.data())
def test_any_cut_of_a_text_gives_the_same_parts(word: str, text: str, data: st.DataObject):
    places = st.integers(0, len(text))
    cuts = sorted({0, *data.draw(st.lists(places, max_size=8)), len(text)})
    pieces = [text[a:b] for a, b in pairwise(cuts)]
    assert parsed(word, *pieces) == parsed(word, text)


@pytest.mark.rule("P19.2")
@given(st.sampled_from(WORDS), st.lists(PIECES, max_size=12), st.data())
def test_a_parser_goes_on_from_any_position(word: str, chunks: list[str], data: st.DataObject):
    """An edge that a reader comes back to reads what came before, and derives the same rest."""
    position = data.draw(st.integers(0, len(chunks)))
    first, second = (Parser(formats.read(word), NAMES) for _ in range(2))
    for chunk in chunks[:position]:
        first.feed(chunk)
    second.feed("".join(chunks[:position]))
    for chunk in chunks[position:]:
        assert second.feed(chunk) == first.feed(chunk)
    assert second.finish() == first.finish()


@given(st.sampled_from(WORDS), TEXTS)
def test_no_character_of_a_text_without_markers_is_lost(word: str, text: str) -> None:
    said = text.replace("<", "").replace("[", "").replace("{", "")
    assert parsed(word, said) == ([Text(said)] if said else [])


@given(st.sampled_from(WORDS), TEXTS)
def test_each_call_begins_before_its_arguments_and_ends_once(word: str, text: str) -> None:
    calls: list[int] = []
    is_open = False
    for part in parsed(word, text):
        match part:
            case CallBegin(number):
                assert not is_open
                assert number == len(calls)
                calls.append(number)
                is_open = True
            case Arguments(number):
                assert is_open
                assert number == calls[-1]
            case CallEnd(number):
                assert is_open
                assert number == calls[-1]
                is_open = False
            case _:
                assert not is_open
    assert not is_open


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=9) | st.integers() | st.none()))
def test_arguments_are_what_the_model_wrote(arguments: dict[str, object]) -> None:
    written = json.dumps(arguments, ensure_ascii=False)
    text = f'<tool_call>\n{{"name": "time", "arguments": {written}}}\n</tool_call>'
    assert parsed("hermes", *text) == call(0, "time", written)


@pytest.mark.parametrize("word", WORDS)
def test_a_format_is_one_word(word: str) -> None:
    assert str(formats.read(word)) == word


@pytest.mark.parametrize("word", ["xml", "hermes+", "+think", "think+hermes", "hermes+thin"])
def test_no_other_word_is_a_format(word: str) -> None:
    with pytest.raises(ValueError, match="not a format"):
        formats.read(word)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("{{ messages }}", ""),
        ("{% if tools %}<tool_call>{% endif %}", "hermes"),
        ("{% if tools %}<tool_call>{% endif %}<think>", "hermes+think"),
        ("{% if tools %}<tool_call><function=f>{% endif %}", ""),
        ("{% if tools %}<|python_tag|>{% endif %}", "llama3"),
        ("{% if tools %}[TOOL_CALLS]{% endif %}", "mistral"),
        ("<tool_call> without what may be called", ""),
    ],
)
def test_a_chat_template_says_which_format_it_teaches(source: str, word: str) -> None:
    assert str(formats.of_template(source)) == word
