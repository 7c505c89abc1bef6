"""What an engine over HTTP is told of the form of an answer, before it is in the engine's words.

A form is JSON schemas and the fixed text around them, because that is what every engine can be told
of.
"""

from typing import Any, NamedTuple

from lore.parts.markers import MARKERS
from lore.request import StreamRequest
from lore.tools import JsonSchema, Tool
from lore_generator.engines.calls import arguments_of, most_calls, moved, required, wrapper_of

Json = dict[str, Any]


class CallSyntax(NamedTuple):
    """``before``, JSON, ``after``: once, or several times with ``separator`` between them."""

    before: str
    schema: Json
    after: str
    separator: str = ""
    most: int = 1


class Constraint(NamedTuple):
    """The answer is calls or JSON, whichever of the two is there, behind reasoning if it begins
    with that.
    """

    calls: CallSyntax | None = None
    answer: Json | None = None
    """A schema."""
    thought_end: str = ""
    """What ends the reasoning, and first occurs there; '' if there is none."""

    @property
    def schema(self) -> Json | None:
        """The schema, if the answer is nothing else."""
        return self.answer if self.calls is None and not self.thought_end else None


def constraint_of(request: StreamRequest, opened: str = "") -> Constraint | None:
    """None for an answer that may be anything. ``opened``: what the prompt leaves open
    (``left_open``). Raises ``Refused``.
    """
    if request.constraint is None:
        return None
    end = MARKERS[request.form().tools].reasoning[opened] if opened else ""
    if tools := required(request):
        return Constraint(_calls(request, tools), None, end)
    wanted = request.response_format
    schema = wanted.schema_ if isinstance(wanted, JsonSchema) else {"type": "object"}
    is_auto = request.tools and request.tool_choice in (None, "auto")
    return Constraint(_calls(request, request.tools or []) if is_auto else None, schema, end)


def _calls(request: StreamRequest, tools: list[Tool]) -> CallSyntax:
    wrapper, most = wrapper_of(request), most_calls(request)
    defs = {f"tool{n}": moved(arguments_of(one), f"#/$defs/tool{n}") for n, one in enumerate(tools)}
    one = {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.name},
                    wrapper.arguments: {"$ref": f"#/$defs/tool{number}"},
                },
                "required": ["name", wrapper.arguments],
                "additionalProperties": False,
            }
            for number, tool in enumerate(tools)
        ]
    }
    if not wrapper.opening:
        return CallSyntax(
            wrapper.before, one | {"$defs": defs}, wrapper.after, wrapper.separator, most
        )
    several = {"type": "array", "items": one, "minItems": 1, "maxItems": most, "$defs": defs}
    return CallSyntax(wrapper.opening, several, "")
