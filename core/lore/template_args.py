"""What a request may pass to its model's chat template, such as ``{"enable_thinking": false}``.

Templates are code that came with a model. The values passed here can neither name a special token
nor replace anything that Lore itself passes.
"""

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from lore.kinds import of_kinds

OURS = frozenset(
    {
        *("messages", "conversation", "add_generation_prompt", "tools", "documents"),
        # Arguments of transformers' own ``apply_chat_template``.
        *("chat_template", "continue_final_message", "tokenize", "padding", "truncation"),
        *("max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
        "tokenizer_kwargs",
    }
)
MAX_ARGS = 16
EFFORT = "reasoning_effort"
TOGGLES = ("enable_thinking", "thinking")
SWITCHES = (EFFORT, *TOGGLES)
"""The arguments by which chat templates let a caller say how much their model reasons."""


def of_effort(effort: str, known: Collection[str]) -> dict[str, "Value"]:
    """The arguments that stand for an effort, where the template has ``known`` ones; none if it has
    no switch.
    """
    said: dict[str, Value] = {EFFORT: effort} if EFFORT in known else {}
    return said | {name: effort != "none" for name in TOGGLES if name in known}


def is_ours(name: str) -> bool:
    """Whether Lore, or the model's tokenizer, passes it to the template."""
    return name in OURS or name.endswith("_token")


def _given_by_callers(name: str) -> str:
    if is_ours(name):
        raise ValueError("Lore sets it")
    return name


Name = Annotated[
    str, Field(pattern="^[a-z][a-z0-9_]*$", max_length=64), AfterValidator(_given_by_callers)
]
Word = Annotated[str, Field(pattern=r"^[\w .,:+/-]*$", max_length=64)]
"""A string without the brackets that names of special tokens have."""
Value = Annotated[
    bool | int | Annotated[float, Field(allow_inf_nan=False)] | Word,
    of_kinds("true, false, a number or a plain word of at most 64 characters"),
]
_NAMES: Any = {
    "maxLength": 64,
    "not": {"anyOf": [{"enum": sorted(OURS)}, {"pattern": "_token$"}]},
}
TemplateArgs = Annotated[
    dict[Name, Value],
    Field(
        max_length=MAX_ARGS,
        # What the names' pattern and validator refuse, for the description of the API.
        json_schema_extra={"additionalProperties": False, "propertyNames": _NAMES},
    ),
]
