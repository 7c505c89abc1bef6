"""What a request may give its model's chat template, as ``{"enable_thinking": false}``.

Templates are code that came with a model. What they are given here names no special token, and
takes the place of nothing that Lore gives them itself.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

OURS = frozenset(
    {
        *("messages", "conversation", "add_generation_prompt", "tools", "documents"),
        # What transformers' ``apply_chat_template`` takes for itself.
        *("chat_template", "continue_final_message", "tokenize", "padding", "truncation"),
        *("max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
        "tokenizer_kwargs",
    }
)
MAX_ARGS = 16


def is_ours(name: str) -> bool:
    """Whether Lore gives it to the template itself, or the model's tokenizer does."""
    return name in OURS or name.endswith("_token")


def _given_by_callers(name: str) -> str:
    if is_ours(name):
        raise ValueError("Lore sets it")
    return name


Name = Annotated[
    str, Field(pattern="^[a-z][a-z0-9_]*$", max_length=64), AfterValidator(_given_by_callers)
]
Word = Annotated[str, Field(pattern=r"^[\w .,:+/-]*$", max_length=64)]
"""Without the brackets that names of special tokens have."""
Value = bool | int | Annotated[float, Field(allow_inf_nan=False)] | Word
TemplateArgs = Annotated[dict[Name, Value], Field(max_length=MAX_ARGS)]
