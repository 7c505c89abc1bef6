"""llama.cpp's server (``llama-server``): ``/completion`` with token ids, tried with b11669."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import cast

from lore.protocol.logprobs import Likely, Scored, likely
from lore_generator.engines.remote.constraint import Constraint
from lore_generator.engines.remote.dialects.base import (
    Ask,
    Chat,
    EngineCall,
    EngineDialect,
    EngineEvent,
    Event,
    Identity,
    ServerFacts,
    end_of,
    ids_of,
)
from lore_generator.engines.remote.gbnf import gbnf
from lore_generator.engines.remote.trouble import Kind, Trouble

SAMPLERS = ("penalties", "temperature", "top_k", "top_p", "min_p")
"""The order in Lore's own engine; llama.cpp by default applies the temperature last."""
ENDS = {"eos": "stop", "word": "stop", "limit": "length"}


class LlamaCpp(EngineDialect):
    name = "llamacpp"
    title = "llama.cpp"
    has_own_text = True
    path = "/completion"
    load_gauges = "llamacpp:requests_deferred", "llamacpp:kv_cache_usage_ratio"
    """Available if it was started with ``--metrics``."""

    async def identify(self, ask: Ask, model: str | None) -> ServerFacts:
        props, models = await _props(ask), await ask("GET", "/v1/models")
        served: list[Event] = models.get("data") or []
        if len(served) != 1 or "total_slots" not in props:
            raise Trouble(Kind.UNFIT, "it is not a llama.cpp server with one model")
        # An alias, or the path of the file.
        served_as = PurePath(str(served[0].get("id"))).name
        if model is not None and model not in (served_as, PurePath(served_as).stem):
            raise Trouble(Kind.UNFIT, f"it serves {served_as}, and not {model}")
        meta = served[0].get("meta") or {}
        shape = [f"{key}={meta.get(key)}" for key in ("n_vocab", "n_params", "size", "ftype")]
        context = props["default_generation_settings"]["n_ctx"]
        return ServerFacts(
            Identity(served_as, int(context), " ".join(shape)),
            slots=int(props["total_slots"]),
            eos=props.get("eos_token"),
            template=str(props.get("chat_template") or ""),
            vocabulary=meta.get("n_vocab"),
        )

    async def tokenize(self, ask: Ask, model: str, text: str) -> list[int] | None:
        del model
        return await encode(ask, text, special=False)

    async def template(self, ask: Ask, model: str, chat: Chat) -> list[int] | None:
        del model
        return await encode(ask, await render(ask, chat), special=True, add_special=True)

    def body(self, call: EngineCall) -> dict[str, object]:
        request = call.request
        body: dict[str, object] = {
            "prompt": list(call.ids),
            "stream": True,
            "return_tokens": True,
            "cache_prompt": True,
            "n_predict": call.most,
            "samplers": SAMPLERS,
            "temperature": request.temperature,
            "top_k": request.top_k,
            "top_p": request.top_p,
            "min_p": request.min_p or 0.0,
            "repeat_penalty": request.repetition_penalty,
            "repeat_last_n": len(call.ids) + call.most,
            "seed": call.seed,
            # Otherwise the last event repeats the prompt.
            "response_fields": ["stop", "stop_type", "tokens", "completion_probabilities"],
        }
        if request.logprobs is not None:
            body["n_probs"] = max(1, request.logprobs)  # 0: it tells none
        return body

    async def constrain(
        self, ask: Ask, body: dict[str, object], constraint: Constraint
    ) -> dict[str, object]:
        if constraint.schema is not None:
            return body | {"json_schema": constraint.schema}
        calls = constraint.calls.schema if constraint.calls else None
        of_calls = await grammar(ask, calls) if calls is not None else ""
        of_answer = await grammar(ask, constraint.answer) if constraint.answer is not None else ""
        return body | {"grammar": gbnf(constraint, of_calls, of_answer)}

    def read(self, event: Event, made: int) -> EngineEvent:
        """Parse an event. There is one for each whole character, with only the last of its tokens.

        The tokens of an incomplete character at the very end are never sent; they have no text.
        """
        ids, text = ids_of(event.get("tokens")), str(event.get("content", ""))
        if ids is None or (text and not ids):
            raise Trouble(Kind.FAILED, "no token ids in its stream")
        if event.get("stop"):
            return EngineEvent(ids, end_of(event.get("stop_type"), ENDS))
        total, scored = event.get("tokens_predicted"), _scored(event)
        if not isinstance(total, int):
            return EngineEvent(ids, scored=scored)
        return EngineEvent(ids, missing=max(0, total - made - len(ids)), text=text, scored=scored)

    async def recover(self, ask: Ask, said: EngineEvent) -> list[int] | None:
        """The ids of the event's text, if their number and their end are as expected."""
        ids = await encode(ask, said.text, special=False)
        wanted = said.missing + len(said.ids)
        return ids if len(ids) == wanted and ids[-1:] == list(said.ids[-1:]) else None

    def whole(self, body: dict[str, object], most: int) -> dict[str, object]:
        return body | {"stream": False, "n_predict": most}

    def read_whole(self, answer: Event, most: int) -> EngineEvent:
        ids, end = ids_of(answer.get("tokens")), end_of(answer.get("stop_type"), ENDS)
        if not ids:
            raise Trouble(Kind.FAILED, "no token ids in its answer")
        end = None if end == "length" and len(ids) >= most else end
        return EngineEvent(ids, end, scored=_scored(answer))


def _scored(event: Event) -> tuple[Scored, ...]:
    """Of the tokens that end a character: it tells of no others, and gives that one its bytes."""
    told: list[Event] = event.get("completion_probabilities") or []
    return tuple(Scored(_likely(one), tuple(map(_likely, one["top_logprobs"]))) for one in told)


def _likely(one: Event) -> Likely:
    return likely(one["id"], bytes(one["bytes"]), one["logprob"])


async def _props(ask: Ask) -> Event:
    try:
        props = await ask("GET", "/props")
    except Trouble as trouble:
        if trouble.kind is Kind.BUSY:
            loads = "loading" in trouble.message.lower()
            said = "it is loading its model" if loads else trouble.message
            raise Trouble(Kind.AWAY, said) from None
        raise
    if not isinstance(props.get("default_generation_settings"), dict):
        raise Trouble(Kind.UNFIT, "it is not a llama.cpp server")
    return props


async def encode(ask: Ask, text: str, *, special: bool, add_special: bool = False) -> list[int]:
    """The ids of a text. ``special``: names of special tokens in it stand for those tokens."""
    body = {"content": text, "add_special": add_special, "parse_special": special}
    ids = ids_of((await ask("POST", "/tokenize", body)).get("tokens"))
    if ids is None:
        raise Trouble(Kind.UNFIT, "its /tokenize gives no ids")
    return ids


async def grammar(ask: Ask, schema: Mapping[str, object]) -> str:
    """The grammar that the server makes of a schema: a call that generates nothing tells it."""
    name = "generation_settings/grammar"
    body = {"prompt": [0], "n_predict": 0, "json_schema": schema, "response_fields": [name]}
    found = (await ask("POST", "/completion", body)).get(name)
    if not isinstance(found, str):
        raise Trouble(Kind.REFUSED, "this version does not tell the grammar of a schema")
    return found


async def decode(ask: Ask, ids: Sequence[int]) -> str:
    """The text of these ids, with special tokens written out; U+FFFD for an incomplete
    character.
    """
    answer = await ask("POST", "/detokenize", {"tokens": list(ids)})
    return cast("str", answer.get("content", ""))


async def render(ask: Ask, chat: Chat) -> str:
    prompt = (await ask("POST", "/apply-template", chat)).get("prompt")
    if not isinstance(prompt, str):
        raise Trouble(Kind.UNFIT, "its /apply-template gives no prompt")
    return prompt
