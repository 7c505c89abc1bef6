"""vLLM's OpenAI server: ``/v1/completions`` with token ids and ``return_token_ids``."""

from lore.protocol.logprobs import Scored
from lore.request import StreamRequest
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
    unnamed,
)
from lore_generator.engines.remote.structural_tag import structural_tag
from lore_generator.engines.remote.trouble import Kind, Trouble


class VLLM(EngineDialect):
    name = "vllm"
    title = "vLLM"
    path = "/v1/completions"
    load_gauges = "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"

    def refuses(self, request: StreamRequest) -> str | None:
        # It applies min_p before top_p, which then keeps fewer tokens.
        if request.min_p and request.top_p < 1 and request.temperature > 0:
            return "min_p together with top_p"
        return super().refuses(request)

    async def identify(self, ask: Ask, model: str | None) -> ServerFacts:
        served: list[Event] = (await ask("GET", "/v1/models")).get("data") or []
        ours = [one for one in served if one.get("owned_by") == "vllm"]
        if not ours:
            raise Trouble(Kind.UNFIT, "it is not a vLLM server")
        found = next((one for one in ours if model in (None, one.get("id"))), None)
        if found is None:
            names = ", ".join(str(one.get("id")) for one in served)
            raise Trouble(Kind.UNFIT, f"it serves {names}, and not {model}")
        context = found.get("max_model_len")
        if not isinstance(context, int):
            raise Trouble(Kind.UNFIT, "it does not say how long its context is")
        root = found.get("root")
        return ServerFacts(
            Identity(str(found["id"]), context, str(root)),
            slots=None,
            tokenizer=root if isinstance(root, str) else None,
        )

    async def template(self, ask: Ask, model: str, chat: Chat) -> list[int] | None:
        body = {"model": model, "add_generation_prompt": True, **chat}
        return ids_of((await ask("POST", "/tokenize", body)).get("tokens"))

    def body(self, call: EngineCall) -> dict[str, object]:
        request = call.request
        body: dict[str, object] = {
            "model": call.model,
            "prompt": list(call.ids),
            "stream": True,
            "return_token_ids": True,
            "max_tokens": call.most,
            "temperature": request.temperature,
            "top_k": request.top_k,
            "top_p": request.top_p,
            "min_p": request.min_p or 0.0,
            "repetition_penalty": request.repetition_penalty,
            "seed": call.seed,
        }
        if request.logprobs is not None:
            body |= {"logprobs": request.logprobs, "return_tokens_as_token_ids": True}
        return body

    async def constrain(
        self, ask: Ask, body: dict[str, object], constraint: Constraint
    ) -> dict[str, object]:
        del ask
        if constraint.schema is not None:
            return body | {"structured_outputs": {"json": constraint.schema}}
        return body | {"structured_outputs": {"structural_tag": structural_tag(constraint)}}

    def read(self, event: Event, made: int) -> EngineEvent:
        del made
        choices = event.get("choices")
        if not isinstance(choices, list):
            raise Trouble(Kind.FAILED, "an event without choices")
        if not choices:
            return EngineEvent()  # the usage, which Lore does not ask for
        choice: Event = choices[0]
        reason = choice.get("finish_reason")
        ids = ids_of(choice.get("token_ids") or [])
        if ids is None or (not ids and choice.get("text")):
            raise Trouble(Kind.FAILED, "no token ids in its stream (return_token_ids)")
        scored = _scored(choice["logprobs"]) if choice.get("logprobs") else ()
        return EngineEvent(ids, None if reason is None else end_of(reason), scored=scored)


def _scored(told: Event) -> list[Scored]:
    """Beside the likeliest tokens, ``top_logprobs`` has the one that was chosen."""
    scored: list[Scored] = []
    for token, logprob, top in zip(
        told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True
    ):
        others = (unnamed(_token(name), value) for name, value in (top or {}).items())
        scored.append(Scored(unnamed(_token(token), logprob), tuple(others)))
    return scored


def _token(name: str) -> int:
    """Of ``token_id:12``."""
    return int(name.rpartition(":")[2])
