"""Recursion without an end in a JSON schema: parts that no finite value satisfies.

The grammar's compiler accepts them, and an answer that has entered one could never end. A part can
end if some kind of value that it allows needs only parts that can end: a least fixpoint.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import unquote

Json = dict[str, Any]
Parts = list[tuple[str, Json]]
"""Schemas that hold for the same value, with their places."""
_CHOICES = ("anyOf", "oneOf")
_LISTS = ("allOf", *_CHOICES, "prefixItems", "items")
_MAPS = ("properties", "patternProperties")
_SINGLE = ("items", "additionalProperties")
ENDLESS = "recursion without an end: no finite value satisfies it"
MOST_JOINED = 64
"""So many schemas are taken together. A recursion across more may be missed."""


def endless_reference(root: Json) -> str | None:
    """The outermost reference that cannot end, as a JSON pointer; None if all parts can end.

    ``root``: a schema that the compiler accepts. It does not look at what has no effect, so such
    a part may be anything. ``minProperties`` is not looked at here.
    """
    schemas: dict[str, Json] = {"": root}
    users: defaultdict[str, list[str]] = defaultdict(list)
    places = [""]
    for at in places:
        for inner, schema in _inside(root, at, schemas[at]):
            users[inner].append(at)
            if inner not in schemas:
                schemas[inner] = schema
                places.append(inner)
    joins = {at: {to for to, _ in joined(root, at, one)} for at, one in schemas.items()}
    parts = {at: _together(root, at, one) for at, one in schemas.items()}
    endings: set[str] = set()
    unknown = places[::-1]  # from the inside, so that one look is enough for most
    while unknown:
        looked_at = set[str]()
        for at in unknown:
            if joins[at] <= endings and _can_end(parts[at], endings):
                endings.add(at)
                looked_at.update(users[at])
        unknown = [at for at in looked_at if at not in endings]
    return next((at for at in places if at not in endings and "$ref" in schemas[at]), None)


def referred(root: Json, schema: Json) -> Iterator[tuple[str, Json]]:
    """What a reference within the document leads to, with its place."""
    ref = schema.get("$ref")
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        return
    place, target = unquote(ref[1:]), cast("Any", root)
    for step in place.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        members = mapped(target) or {str(n): one for n, one in enumerate(listed(target))}
        target = members.get(name)
    if isinstance(target, dict):
        yield place, target


def escaped(name: str) -> str:
    """A name as a step of a JSON pointer (RFC 6901 §3)."""
    return name.replace("~", "~0").replace("/", "~1")


def _inside(root: Json, at: str, schema: Json) -> Iterator[tuple[str, Json]]:
    """The schemas in a schema that is at ``at``, and the one that it refers to. Definitions are
    left out: a reference leads to those that are used."""
    some: list[tuple[str, Any]] = [(f"{at}/{key}", schema.get(key)) for key in _SINGLE]
    for key in _MAPS:
        some += [
            (f"{at}/{key}/{escaped(name)}", one) for name, one in mapped(schema.get(key)).items()
        ]
    for key in _LISTS:
        some += [(f"{at}/{key}/{n}", one) for n, one in enumerate(listed(schema.get(key)))]
    yield from ((place, inner) for place, inner in some if isinstance(inner, dict))
    yield from referred(root, schema)


def joined(root: Json, at: str, schema: Json) -> Iterator[tuple[str, Json]]:
    """The schemas that hold for the same value."""
    yield from referred(root, schema)
    for number, inner in enumerate(listed(schema.get("allOf"))):
        if isinstance(inner, dict):
            yield f"{at}/allOf/{number}", cast("Json", inner)


def _together(root: Json, at: str, schema: Json) -> Parts:
    """The schema with all that it joins, up to a bound."""
    parts = {at: schema}
    todo = [(at, schema)]
    while todo and len(parts) < MOST_JOINED:
        for place, inner in joined(root, *todo.pop()):
            if place not in parts:
                parts[place] = inner
                todo.append((place, inner))
    return list(parts.items())


def _can_end(parts: Parts, endings: set[str]) -> bool:
    if any("enum" in one or "const" in one for _, one in parts):
        return True
    for at, one in parts:
        for key in _CHOICES:
            branches = enumerate(listed(one.get(key)))
            ends = [not isinstance(it, dict) or f"{at}/{key}/{n}" in endings for n, it in branches]
            if ends and not any(ends):
                return False
    kinds = [one["type"] for _, one in parts if "type" in one]
    named = [_names([kind] if isinstance(kind, str) else kind) for kind in kinds]
    allowed = set[str].intersection(*named) if named else {"null"}
    return (
        bool(allowed - {"object", "array"})
        or ("object" in allowed and _members(parts) <= endings)
        or ("array" in allowed and _items(parts) <= endings)
    )


def _members(parts: Parts) -> set[str]:
    """The places of the members that an object must have."""
    required = {name for _, one in parts for name in _names(one.get("required"))}
    places = set[str]()
    for at, one in parts:
        known, others = mapped(one.get("properties")), one.get("additionalProperties")
        for name in required:
            if name in known:
                places |= {f"{at}/properties/{escaped(name)}"} if known[name] is not True else set()
            elif isinstance(others, dict) and "patternProperties" not in one:
                places.add(f"{at}/additionalProperties")
    return places


def _items(parts: Parts) -> set[str]:
    """The places of the items that an array must have."""
    counts = [one["minItems"] for _, one in parts if isinstance(one.get("minItems"), int)]
    fewest = max(counts, default=0)
    places = set[str]()
    for at, one in parts:
        items = one.get("items")
        key = "items" if isinstance(items, list) else "prefixItems"
        first = listed(one.get(key))
        places |= {f"{at}/{key}/{n}" for n, it in enumerate(first[:fewest]) if it is not True}
        if isinstance(items, dict) and fewest > len(first):
            places.add(f"{at}/items")
    return places


def mapped(value: Any) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _names(value: Any) -> set[str]:
    return {one for one in listed(value) if isinstance(one, str)}


def listed(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
