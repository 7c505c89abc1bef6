"""What Lore asks of JSON beyond what Python's parser asks."""

from typing import Any, cast

MAX_DEPTH = 64
"""How many levels deep a body, or a call's arguments, may be. A fixed bound, and not what the stack
of some process has left, so that everybody reads a text alike.
"""


def no_constant(name: str) -> None:
    """``parse_constant`` of ``json.loads``: refuse ``NaN`` and ``Infinity`` (RFC 8259)."""
    raise ValueError(name)


def is_deeper(value: Any, depth: int) -> bool:
    """Whether an object or a list is nested deeper than ``depth``. It goes level by level, because
    whoever wrote it decides how deep a recursion would go.
    """
    level: list[Any] = [value]
    for _ in range(depth):
        level = [inner for one in level for inner in _inside(one)]
    return bool(level)


def _inside(value: Any) -> list[Any]:
    """Objects and lists in one of these."""
    inner: Any = cast("Any", value).values() if isinstance(value, dict) else value
    return [one for one in inner if isinstance(one, (dict, list))]
