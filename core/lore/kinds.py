"""Values that may be of several kinds, and how deep they are."""

from typing import Any, cast

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError


def is_deeper(value: Any, depth: int) -> bool:
    """Whether an object or a list of JSON is nested deeper than ``depth``. It goes level by level,
    because whoever wrote it decides how deep a recursion would go.
    """
    level: list[Any] = [value]
    for _ in range(depth):
        level = [inner for one in level for inner in _inside(one)]
    return bool(level)


def _inside(value: Any) -> list[Any]:
    """Objects and lists in one of these."""
    inner: Any = cast("Any", value).values() if isinstance(value, dict) else value
    return [one for one in inner if isinstance(one, (dict, list))]


def of_kinds(expected: str) -> WrapValidator:
    """For what may be of several kinds: one error at its place. Pydantic's own are one for each
    kind, at a place inside that no body has.
    """
    why = f"Input should be {expected}"

    def read(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("of_no_kind", "{why}", {"why": why}) from None

    return WrapValidator(read)
