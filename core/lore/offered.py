"""What a request may ask for that not all of Lore's parts can do yet.

Each word of ``OFFERED`` lets one thing in; what is not there is refused where it is asked for, and
nothing is created.
"""

from typing import Literal, NamedTuple

from lore.request import StreamRequest

Feature = Literal["tools", "grammar", "strict", "logprobs"]

OFFERED: frozenset[Feature] = frozenset({"grammar", "logprobs", "tools"})
"""``tools``: tools are told to the model, and their calls to readers. ``grammar``: a format is kept
to by constrained decoding, and a call of a tool can be required. ``strict``: the arguments of calls
that the model makes of its own accord match their schema. ``logprobs``: log probabilities are in
the log.
"""
FIELDS: dict[Feature, tuple[str, ...]] = {
    "tools": ("tools", "tool_choice", "parallel_tool_calls"),
    "grammar": ("response_format",),
    "logprobs": ("logprobs",),
}
"""Those of a request that are about each."""


class Refusal(NamedTuple):
    field: str
    why: str


def not_offered(asked: StreamRequest, offered: frozenset[Feature] = OFFERED) -> Refusal | None:
    """The first field that asks for what is not there."""
    is_free = asked.tool_choice in (None, "auto")
    needs: list[tuple[str, Feature, bool]] = [
        ("tools", "tools", asked.tools is not None),
        ("tools", "strict", is_free and any(tool.strict for tool in asked.tools or ())),
        ("messages", "tools", any(one.tool_calls for one in asked.messages or ())),
        ("tool_choice", "grammar", asked.tool_choice not in (None, "auto", "none")),
        ("response_format", "grammar", asked.response_format is not None),
        ("logprobs", "logprobs", asked.logprobs is not None),
    ]
    for field, feature, is_needed in needs:
        if is_needed and feature not in offered:
            return Refusal(field, _WHY[feature])
    return None


_WHY: dict[Feature, str] = {
    "tools": "Lore does not offer tools yet",
    "strict": "Lore keeps to a 'strict' schema only where a call is required",
    "grammar": "Lore does not offer constrained decoding yet",
    "logprobs": "Lore does not offer log probabilities yet",
}
