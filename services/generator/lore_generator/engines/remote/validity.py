"""Whether a whole answer keeps to its form.

The engine keeps it there, as far as it knows the schema's keywords: some engines pass over those
that they do not know. So what it made is checked here before it is called complete.
"""

import json
from typing import Any

from jsonschema_rs import ReferencingError, ValidationError, Validator, validator_for

from lore.parts.parser import Parser
from lore.parts.words import Arguments, CallBegin, CallEnd, Text
from lore.protocol.lifecycle import INVALID_SCHEMA
from lore.request import StreamRequest
from lore.strict_json import no_constant
from lore.tools import JsonSchema
from lore_generator.engines.calls import UNNAMED, arguments_of, required
from lore_generator.engines.conversation import Refused
from lore_generator.engines.schema_recursion import ENDLESS, endless_reference

Json = dict[str, Any]
NOT_JSON = "it is not JSON"


class Validity:
    """Judges one request's answer."""

    def __init__(self, request: StreamRequest) -> None:
        """Raises ``Refused`` for a schema that is none, and says where."""
        self._request = request
        self._must_call = {tool.name for tool in required(request)}
        self._arguments: dict[str, Validator | None] = {}
        for tool in request.tools or ():
            checked = _validator(arguments_of(tool), "tools", f" of '{tool.name}'")
            self._arguments[tool.name] = checked if tool.strict else None
        self._answer: Validator | None = None
        self._is_object = False
        match request.response_format:
            case JsonSchema(schema_=schema, strict=strict):
                checked = _validator(schema, "response_format", "")
                self._answer = checked if strict else None
            case None:
                pass
            case _:
                self._is_object = True

    def fault(self, text: str) -> str | None:
        """Why a whole answer is not as it has to be; None if it is. Repeats nothing of it."""
        said, calls = self._parts(text)
        if calls or self._must_call:
            return self._fault_of_calls(calls)
        return _fault(said, self._answer, is_object=self._is_object)

    def _parts(self, text: str) -> tuple[str, list[tuple[str, str]]]:
        """The text beside reasoning and calls, and the name and the arguments of each call."""
        form, names = self._request.form(), self._request.callable_names
        if names and not form.tools:
            form = form._replace(tools=UNNAMED)
        parser = Parser(form, names)
        said, calls = "", list[tuple[str, str]]()
        for part in (*parser.feed(text), *parser.finish()):
            match part:
                case Text(more):
                    said += more
                case CallBegin(_, name):
                    calls.append((name, ""))
                case Arguments(_, more):
                    calls[-1] = calls[-1][0], calls[-1][1] + more
                case CallEnd(_, is_complete=False):
                    calls[-1] = calls[-1][0], ""
                case _:
                    pass
        return said, calls

    def _fault_of_calls(self, calls: list[tuple[str, str]]) -> str | None:
        if not calls:
            return "tool_choice: it calls no tool"
        for name, arguments in calls:
            if name not in (self._must_call or self._arguments):
                return "tool_choice: it calls another tool"
            if why := _fault(arguments, self._arguments[name], is_object=True):
                return f"tools: the arguments for '{name}': {why}"
        return None


def _validator(schema: Json, field: str, whose: str) -> Validator:
    place, why = "", ""
    try:
        # Nothing is fetched that a schema refers to, and nothing of an answer is repeated.
        validator = validator_for(schema, offline=True, mask="it")
    except ValidationError as error:
        place, why = _pointer(error), error.message
    except (ReferencingError, ValueError) as error:
        why = str(error).partition("\n")[0]
    else:
        place = endless_reference(schema)
        if place is None:
            return validator
        why = ENDLESS
    where = f" at '#{place}'" if place else ""
    raise Refused(f"{field}: schema{whose} not supported{where}: {why}", INVALID_SCHEMA)


def _pointer(error: ValidationError) -> str:
    return "".join(f"/{step}" for step in error.instance_path)


def _fault(text: str, validator: Validator | None, *, is_object: bool) -> str | None:
    try:
        value = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return NOT_JSON
    if is_object and not isinstance(value, dict):
        return "it is not an object"
    if validator is None:
        return None
    error = next(validator.iter_errors(value), None)
    if error is None:
        return None
    return f"at '#{_pointer(error)}': {error.message}"
