"""Values that may be of several kinds."""

from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError


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
