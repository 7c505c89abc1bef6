"""How many patterns of a JSON schema may hold for one value.

The grammar's compiler intersects them, in a time that doubles with each: 18 take 5 s, and no limit
of the compiler ends it.
"""

from collections import defaultdict
from collections.abc import Iterator

from lore_generator.engines.schema_recursion import Json, escaped, joined, listed, mapped

MOST_PATTERNS = 12
MOST_LOOKED_AT = 50_000
"""Of schemas, each once for every value that it is joined for."""
Value = dict[str, Json]
"""The schemas that may hold for one value, by their places."""


def crowded_place(root: Json) -> str | None:
    """The place of a schema with too many patterns, or where there are too many combinations to
    tell, as a JSON pointer; None if there is none.

    Branches of ``anyOf`` and ``oneOf`` count as if all of them held.
    """
    first = _whole(root, {"": root})
    values, seen, looked_at = [first], {frozenset(first)}, 0
    for value in values:
        looked_at += len(value)
        patterns = {str(one["pattern"]) for one in value.values() if "pattern" in one}
        if len(patterns) > MOST_PATTERNS or looked_at > MOST_LOOKED_AT:
            return next(iter(value))
        for parts in _inside(value):
            inner = _whole(root, parts)
            if frozenset(inner) not in seen:
                seen.add(frozenset(inner))
                values.append(inner)
    return None


def _whole(root: Json, value: Value) -> Value:
    """With all that its schemas join, and their branches."""
    whole, todo = dict(value), list(value.items())
    for at, schema in todo:
        more = list(joined(root, at, schema))
        for key in ("anyOf", "oneOf"):
            some = enumerate(listed(schema.get(key)))
            more += [(f"{at}/{key}/{n}", one) for n, one in some if isinstance(one, dict)]
        for place, inner in more:
            if place not in whole:
                whole[place] = inner
                todo.append((place, inner))
    return whole


def _inside(value: Value) -> Iterator[Value]:
    """What may hold for each member, and for each item."""
    members: defaultdict[str, Value] = defaultdict(dict)
    for at, schema in value.items():
        for key in ("properties", "patternProperties"):
            for name, one in mapped(schema.get(key)).items():
                members[f"{key}/{name}"][f"{at}/{key}/{escaped(name)}"] = one
        for number, one in enumerate(listed(schema.get("prefixItems"))):
            members[f"prefixItems/{number}"][f"{at}/prefixItems/{number}"] = one
        for key in ("items", "additionalProperties"):
            members[key][f"{at}/{key}"] = mapped(schema.get(key))
    for some in members.values():
        if schemas := {at: one for at, one in some.items() if one and isinstance(one, dict)}:
            yield schemas
