"""Features of a request that not every part of Lore supports yet.

Each word of ``OFFERED`` enables one feature. An edge refuses a request with any other feature, and
creates nothing.
"""

from typing import Literal, NamedTuple

from lore.request import StreamRequest

Feature = Literal["tools", "grammar", "logprobs"]

OFFERED: frozenset[Feature] = frozenset({"grammar", "logprobs", "tools"})
"""``tools``: the model gets tools, and readers get its calls. ``grammar``: constrained decoding
enforces a format, and a call of a tool can be required. ``logprobs``: the log has log
probabilities.
"""
FIELDS: dict[Feature, tuple[str, ...]] = {
    "tools": ("tools", "tool_choice", "parallel_tool_calls"),
    "grammar": ("response_format",),
    "logprobs": ("logprobs",),
}
"""The fields of a request that belong to each feature."""


class Refusal(NamedTuple):
    field: str
    why: str


def not_offered(asked: StreamRequest, offered: frozenset[Feature] = OFFERED) -> Refusal | None:
    """The first field that needs a missing feature; None if all are offered."""
    needs: list[tuple[str, Feature, bool]] = [
        ("tools", "tools", asked.tools is not None),
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
    "grammar": "Lore does not offer constrained decoding yet",
    "logprobs": "Lore does not offer log probabilities yet",
}
