"""Where in a JSON schema a fault is, of which no grammar can be made.

The compiler says what is wrong and not where. So the parts of a schema that it refuses are given
to it by halves, from the outside to the inside.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from llguidance import LLMatcher, LLParserLimits

from lore_generator.engines.calls import moved
from lore_generator.engines.schema_patterns import MOST_PATTERNS, crowded_place
from lore_generator.engines.schema_recursion import (
    ENDLESS,
    endless_reference,
    escaped,
    listed,
    mapped,
    referred,
)

LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_items_in_row=20_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
"""A schema that takes more is refused, or its answer fails alone."""
CROWDED = f"more than {MOST_PATTERNS} patterns, or too many schemas, for one value"
_ROOT = "#/$defs/root"
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
_SINGLE = ("items", "additionalProperties", "unevaluatedProperties", "contains", "not")


class SchemaError(NamedTuple):
    place: str
    """A JSON pointer, from ``#``."""
    why: str


def first_error(schema: dict[str, Any]) -> SchemaError | None:
    """None for a schema of which a grammar can be made."""
    # Before the compiler, which would take them all together.
    if (place := crowded_place(schema)) is not None:
        return SchemaError("#" + place, CROWDED)
    why = _refusal(schema)
    if not why:
        place = endless_reference(schema)
        return None if place is None else SchemaError("#" + place, ENDLESS)
    # Its references point into it where it now is.
    inside = {**moved(schema, _ROOT), "x-guidance": None}
    document = {"$defs": {"root": inside}, "x-guidance": schema.get("x-guidance", {})}
    at, at_fault, seen = "", schema, {""}
    while True:
        inner = [(place, one) for place, one in _inside(schema, at_fault, at) if place not in seen]
        if not (said := _refusal_of(document, inner)):
            return SchemaError("#" + at, why)
        while len(inner) > 1:
            first = inner[: len(inner) // 2]
            inner = first if _refusal_of(document, first) else inner[len(first) :]
        ((at, at_fault),) = inner
        why = _refusal_of(document, inner) or said
        seen.add(at)


def _refusal_of(document: dict[str, Any], parts: list[tuple[str, Any]]) -> str:
    """Why the compiler refuses one of these parts of the document, or ''."""
    refs = [{"$ref": quote(_ROOT + at, safe="#/$~")} for at, _ in parts]
    return _refusal({**document, "type": "array", "prefixItems": refs}) if refs else ""


def _refusal(schema: dict[str, Any]) -> str:
    """Why the compiler takes it for no schema, or ''."""
    is_bad, said = LLMatcher.validate_grammar_with_warnings(
        LLMatcher.grammar_from_json_schema(json.dumps(schema)), limits=LIMITS
    )
    return _one_line(said[0]) if is_bad else ""


def _one_line(message: str) -> str:
    """Of an error in a pattern: the pattern is in the schema, and the caret means nothing here."""
    lines = [line.strip() for line in message.splitlines()]
    lines = [line for line in lines if line and not line.startswith("while processing")]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f"pattern: {errors[0]}" if errors else lines[0]


def _inside(root: Any, schema: Any, at: str) -> Iterator[tuple[str, Any]]:
    """The schemas right inside a schema, with their places, and the one that it refers to."""
    if not isinstance(schema, dict):
        return
    known = cast("dict[str, Any]", schema)
    for key in _MAPS:
        for name, inner in mapped(known.get(key)).items():
            yield f"{at}/{key}/{escaped(name)}", inner
    for key in _LISTS:
        for number, inner in enumerate(listed(known.get(key))):
            yield f"{at}/{key}/{number}", inner
    for key in _SINGLE:
        if isinstance(one := known.get(key), dict):
            yield f"{at}/{key}", one
    yield from referred(root, known)
