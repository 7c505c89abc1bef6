"""JSON schemas of many kinds, for answers that keep to them."""

from typing import Any


def obj(_required: bool = True, /, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if _required else [],
        "additionalProperties": False,
    }


TEXT, WHOLE, REAL, FLAG = ({"type": t} for t in ("string", "integer", "number", "boolean"))
SHORT = {"type": "string", "maxLength": 6}
TREE = obj(
    value=WHOLE, children={"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}
)

SCHEMAS: dict[str, dict[str, Any]] = {
    "strings": obj(name=SHORT, city=SHORT),
    "nested": obj(a=obj(b=obj(c=obj(d=FLAG)))),
    "optional": obj(False, a=FLAG, b=FLAG, c=FLAG),
    "open object": {"type": "object", "properties": {"a": FLAG}, "required": ["a"]},
    "values of one kind": {"type": "object", "additionalProperties": FLAG},
    "enum": obj(unit={"enum": ["celsius", "fahrenheit", "kelvin"]}),
    "enum of kinds": {"enum": [1, "one", None, True, [1, 2], {"a": 1}]},
    "const": obj(version={"const": 3}, kind={"const": 'é"\\\n'}),
    "array": obj(tags={"type": "array", "items": SHORT, "maxItems": 3}),
    "array with bounds": {"type": "array", "items": FLAG, "minItems": 2, "maxItems": 4},
    "array of arrays": {
        "type": "array",
        "items": {"type": "array", "items": {"type": "integer", "maximum": 9, "minimum": 0}},
        "maxItems": 2,
    },
    "tuple": {
        "type": "array",
        "prefixItems": [FLAG, {"type": "null"}, SHORT],
        "items": False,
        "minItems": 3,
    },
    "empty array": {"type": "array", "maxItems": 0},
    "integer with bounds": obj(n={"type": "integer", "minimum": -5, "maximum": 120}),
    "number with bounds": obj(n={"type": "number", "minimum": 0.5, "exclusiveMaximum": 2}),
    "multiples": obj(n={"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100}),
    "pattern": obj(id={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}),
    "pattern inside": obj(id={"type": "string", "pattern": "ab", "maxLength": 8}),
    "length": obj(code={"type": "string", "minLength": 3, "maxLength": 5}),
    "date": obj(day={"type": "string", "format": "date"}),
    "uuid": obj(id={"type": "string", "format": "uuid"}),
    "email": obj(to={"type": "string", "format": "ipv4"}),
    "any of": obj(x={"anyOf": [WHOLE, SHORT, {"type": "null"}]}),
    "any of objects": {"anyOf": [obj(cat=FLAG), obj(dog=WHOLE), obj(bird=obj(sings=FLAG))]},
    "types": obj(x={"type": ["string", "null"], "maxLength": 4}),
    "all of": {"allOf": [{"type": "object", "properties": {"a": FLAG}}, {"required": ["a"]}]},
    "one of": {"oneOf": [obj(kind={"const": "a"}, x=FLAG), obj(kind={"const": "b"}, y=FLAG)]},
    "reference": {
        **obj(home={"$ref": "#/$defs/place"}, work={"$ref": "#/$defs/place"}),
        "$defs": {"place": obj(street=SHORT, number={"type": "integer", "minimum": 1})},
    },
    "old definitions": {**obj(a={"$ref": "#/definitions/f"}), "definitions": {"f": FLAG}},
    "recursive": {"$defs": {"tree": TREE}, "$ref": "#/$defs/tree"},
    "list that recurs": {
        "$defs": {"node": obj(next={"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]})},
        "$ref": "#/$defs/node",
    },
    "pattern properties": {
        "type": "object",
        "patternProperties": {"^x_[a-z]{1,3}$": FLAG},
        "additionalProperties": False,
    },
    "names that must be escaped": obj(**{'a"b': FLAG, "a/b~c": FLAG, "größe": FLAG}),
    "anything": {},
    "described": {
        **obj(a=FLAG),
        "title": "T",
        "description": "d",
        "$schema": "http://json-schema.org/draft-07/schema#",
        "default": {},
    },
}

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (obj(a={"type": "strng"}), "#/properties/a", "Invalid type: strng"),
    (obj(a={"type": "array", "items": {"type": "x"}}), "#/properties/a/items", "Invalid type"),
    (obj(a={"$ref": "#/$defs/none"}), "#/properties/a", "does not exist"),
    (obj(a={"$ref": "http://example.com/s"}), "#/properties/a", "not fetch"),
    (obj(**{"a/b": {"type": "string", "pattern": "("}}), "#/properties/a~1b", "unclosed group"),
    (obj(a={"type": "string", "pattern": "(?=a)"}), "#/properties/a", "look-around"),
    (obj(a={"type": "integer", "minimum": 5, "maximum": 2}), "#/properties/a", "minimum"),
    (
        obj(a={"anyOf": [FLAG, {"type": "array", "uniqueItems": True}]}),
        "#/properties/a/anyOf/1",
        "uniq",
    ),
    (
        {**obj(a={"$ref": "#/$defs/b"}), "$defs": {"b": obj(c={"type": "x"})}},
        "#/$defs/b/properties/c",
        "x",
    ),
    ({"not": {"type": "string"}}, "", "not"),
    ({"properties": []}, "", "properties must be an object"),
    (
        {"type": "array", "prefixItems": [FLAG, {"minLength": -1, "type": "string"}]},
        "#/prefixItems/1",
        "min",
    ),
]
"""Of strict formats: where the fault is, and a word of what it is."""
