"""OpenAI's parameters that Lore does not support: only neutral values are accepted.

There is one class for each call. The neutral values, beside null, are those of a field's type, or
where the type does not say them, those in its description.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from lore_edge.openai.parameters import Parameters

Zero = Annotated[float, Field(ge=0, le=0)] | None
One = Annotated[float, Field(ge=1, le=1)] | None
Empty = Annotated[list[Any], Field(max_length=0)] | None


class CacheOptions(Parameters):
    """Where a prompt is cached, and for how long, changes no answer."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: str | None = None
    prewarm: Literal[False] | None = None


class Prediction(Parameters):
    """Makes a known answer faster, where it does anything."""

    type: Literal["content"]
    content: Any


class Neutral(Parameters):
    """Of all calls, OpenAI's own and those of other servers that speak its API."""

    moderation: None = None
    prompt_cache_options: Annotated[
        CacheOptions | None, Field(description="a `mode` and a `ttl`")
    ] = None
    prompt_cache_retention: Annotated[
        Literal["in_memory", "in-memory", "24h"] | None, Field(description="any of its values")
    ] = None
    service_tier: Literal["auto", "default"] | None = None

    add_generation_prompt: Literal[True] | None = None
    bad_words: Empty = None
    best_of: Annotated[One, Field(description="1")] = None
    cache_control: Annotated[dict[str, Any] | None, Field(description="any of its values")] = None
    cache_prompt: bool | None = None
    continue_final_message: Literal[False] | None = None
    dry_multiplier: Annotated[Zero, Field(description="0")] = None
    echo: Literal[False] | None = None
    ignore_eos: Literal[False] | None = None
    include_stop_str_in_output: Literal[False] | None = None
    length_penalty: Annotated[One, Field(description="1")] = None
    min_tokens: Annotated[Zero, Field(description="0")] = None
    mirostat: Annotated[Zero, Field(description="0")] = None
    n_probs: Annotated[Zero, Field(description="0")] = None
    priority: Annotated[Zero, Field(description="0")] = None
    repeat_penalty: Annotated[One, Field(description="1")] = None
    skip_special_tokens: Literal[True] | None = None
    spaces_between_special_tokens: Literal[True] | None = None
    stop_token_ids: Empty = None
    tfs_z: Annotated[One, Field(description="1")] = None
    typical_p: Annotated[One, Field(description="1")] = None
    use_beam_search: Literal[False] | None = None
    xtc_probability: Annotated[Zero, Field(description="0")] = None


class ChoiceNeutral(Neutral):
    """Of the calls that answer with choices."""

    logit_bias: Annotated[
        dict[str, Annotated[float, Field(ge=0, le=0)]] | None, Field(description="biases of 0")
    ] = None
    n: Annotated[One, Field(description="1")] = None


class ChatNeutral(ChoiceNeutral):
    add_special_tokens: Literal[False] | None = None
    return_token_ids: Literal[False] | None = None
    audio: None = None
    function_call: Literal["none", "auto"] | None = None
    functions: Empty = None
    modalities: Annotated[
        Annotated[list[Literal["text"]], Field(min_length=1)] | None,
        Field(description='["text"]'),
    ] = None
    prediction: Annotated[Prediction | None, Field(description="any content that is predicted")] = (
        None
    )
    verbosity: Literal["medium"] | None = None
    web_search_options: None = None


class CompletionNeutral(ChoiceNeutral):
    add_special_tokens: Literal[True] | None = None
    suffix: None = None


class AccessPrograms(Parameters):
    cyber: Literal["standard"] | None = None


class BackgroundOptions(Parameters):
    completion_window: Literal["soonest"] | None = None
    continuation_id: str | None = None


class ImageOptions(Parameters):
    """There are none in what Lore takes."""

    context_compression: Literal["auto", "enabled", "disabled"] | None = None


class ResponseNeutral(Neutral):
    add_special_tokens: Literal[False] | None = None
    return_token_ids: Literal[False] | None = None
    access_programs: Annotated[
        AccessPrograms | None, Field(description='{"cyber": "standard"}')
    ] = None
    background_options: Annotated[
        BackgroundOptions | None, Field(description='{"completion_window": "soonest"}')
    ] = None
    context_management: Empty = None
    conversation: None = None
    image: Annotated[ImageOptions | None, Field(description="any of its values")] = None
    max_tool_calls: Annotated[
        Annotated[int, Field(ge=1)] | None, Field(description="any number")
    ] = None
    prompt: None = None
    truncation: Literal["disabled"] | None = None
