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

ME = {"$ref": "#"}
ENDLESS: list[tuple[dict[str, Any], str]] = [
    (ME, ""),
    ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, ""),
    (obj(a=ME), "#/properties/a"),
    (
        obj(False, a=FLAG, b={"$ref": "#/$defs/b"})
        | {"$defs": {"b": obj(c={"$ref": "#/$defs/b"})}},
        "#/properties/b",
    ),
    ({"type": "array", "items": ME, "minItems": 1}, "#/items"),
    ({"type": "array", "prefixItems": [FLAG, ME], "minItems": 2}, "#/prefixItems/1"),
    (obj(a={"anyOf": [ME, obj(b=ME)]}), "#/properties/a/anyOf/0"),
    (
        {"allOf": [{"type": "object", "properties": {"a/b": ME}}, {"required": ["a/b"]}]},
        "#/allOf/0/properties/a~1b",
    ),
    ({"type": "object", "additionalProperties": ME, "required": ["a"]}, "#/additionalProperties"),
    ({"anyOf": [FLAG, obj(a={"$ref": "#/anyOf/1"})]}, "#/anyOf/1/properties/a"),
    ({"$defs": {"50%": obj(a={"$ref": "#/$defs/50%25"})}, "$ref": "#/$defs/50%25"}, ""),
]
"""No finite value satisfies the reference at this place."""
ENDING: list[dict[str, Any]] = [
    obj(False, a=ME),
    obj(a={"anyOf": [ME, {"type": "null"}]}),
    {"type": ["object", "null"], "properties": {"a": ME}, "required": ["a"]},
    {"type": ["object", "array"], "properties": {"a": ME}, "required": ["a"], "items": ME},
    {"type": "array", "items": ME},
    {"type": "array", "prefixItems": [FLAG, ME], "minItems": 1},
    {"$defs": {"a": FLAG}, "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]},
    obj(a={"enum": [1], "$ref": "#/$defs/b"}) | {"$defs": {"b": {"type": "integer"}}},
    {"$defs": {"unused": obj(a={"$ref": "#/$defs/unused"})}, "type": "null"},
    {"type": "string", "properties": {"a": 3}, "required": [[]], "minItems": "x", "items": 3},
    {"type": "array", "required": "a", "minItems": 1, "items": {"type": "object", "items": ME}},
]

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
    (
        {"type": "object", "patternProperties": {"^(?:a b|%|ü)$": {"type": "x"}}},
        "#/patternProperties/^(?:a b|%|ü)$",
        "Invalid type: x",
    ),
    ({"properties": []}, "", "properties must be an object"),
    (
        {"type": "array", "prefixItems": [FLAG, {"minLength": -1, "type": "string"}]},
        "#/prefixItems/1",
        "min",
    ),
]
"""Of strict formats: where the fault is, and a word of what it is."""
