"""How a model writes what is not text, named by one word.

For example ``hermes+think``: how tools are called, and whether the model reasons before it answers.
It follows from the model's chat template. The edge that accepts a request stores it with the
request.
"""

from typing import Literal, NamedTuple

ToolFormat = Literal["", "hermes", "llama3", "mistral"]
_TOOL_FORMATS: tuple[ToolFormat, ...] = ("", "hermes", "llama3", "mistral")
THINK = "think"


class Format(NamedTuple):
    tools: ToolFormat = ""
    reasons: bool = False

    def __str__(self) -> str:
        return "+".join(filter(None, (self.tools, THINK if self.reasons else "")))


_ALL = {str(one): one for tools in _TOOL_FORMATS for one in (Format(tools), Format(tools, True))}


def read(word: str) -> Format:
    """Parse the word. Raises ValueError for an unknown one."""
    if word not in _ALL:
        raise ValueError(f"not a format of parts: {word!r}")
    return _ALL[word]


def of_template(source: str) -> Format:
    """The format of a chat template; '' if it has no tools, or writes calls in another way."""
    return Format(_tools_of(source), "<think>" in source or "[THINK]" in source)


def _tools_of(source: str) -> ToolFormat:
    if "tools" not in source:
        return ""
    if "[TOOL_CALLS]" in source:
        return "mistral"
    if "<tool_call>" in source:
        is_xml = "<function=" in source or "<arg_key>" in source
        return "" if is_xml else "hermes"
    if "<|python_tag|>" in source or '"parameters": dictionary' in source:
        return "llama3"
    return ""
