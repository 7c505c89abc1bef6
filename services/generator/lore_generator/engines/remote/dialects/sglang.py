"""SGLang's ``/generate`` with token ids. Tried only against its documented answers."""

import json
from typing import Any, cast

from lore.protocol.logprobs import Scored
from lore.request import StreamRequest
from lore_generator.engines.remote.constraint import Constraint
from lore_generator.engines.remote.dialects.base import (
    Ask,
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
from lore_generator.engines.remote.trouble import Kind, Trouble, of_status


class SGLang(EngineDialect):
    name = "sglang"
    title = "SGLang"
    path = "/generate"
    load_gauges = "sglang:num_queue_reqs", "sglang:token_usage"
    """Available if it was started with ``--enable-metrics``."""

    def refuses(self, request: StreamRequest) -> str | None:
        # It penalises generated tokens but not the prompt; after a re-entry, everything is prompt.
        penalty = "repetition_penalty" if request.repetition_penalty != 1 else None
        return super().refuses(request) or penalty

    async def identify(self, ask: Ask, model: str | None) -> ServerFacts:
        info = await ask("GET", "/get_server_info")
        path = info.get("model_path")
        context = info.get("context_length") or info.get("max_total_num_tokens")
        if not isinstance(path, str) or not isinstance(context, int):
            raise Trouble(Kind.UNFIT, "it is not a SGLang server")
        served = str(info.get("served_model_name") or path)
        if model is not None and model not in (served, path):
            raise Trouble(Kind.UNFIT, f"it serves {served}, and not {model}")
        slots = info.get("max_running_requests")
        return ServerFacts(
            Identity(served, context, f"{path} {info.get('revision')}"),
            slots=slots if isinstance(slots, int) else None,
            tokenizer=str(info.get("tokenizer_path") or path),
        )

    def body(self, call: EngineCall) -> dict[str, object]:
        request = call.request
        body: dict[str, object] = {
            "rid": call.name,
            "input_ids": list(call.ids),
            "stream": True,
            "sampling_params": {
                "max_new_tokens": call.most,
                "temperature": request.temperature,
                "top_k": request.top_k or -1,
                "top_p": request.top_p,
                "min_p": request.min_p or 0.0,
                "sampling_seed": call.seed,
            },
        }
        if request.logprobs is not None:
            body |= {"return_logprob": True, "top_logprobs_num": request.logprobs}
        return body

    async def constrain(
        self, ask: Ask, body: dict[str, object], constraint: Constraint
    ) -> dict[str, object]:
        del ask
        form = (
            {"structural_tag": structural_tag(constraint)}
            if constraint.schema is None
            else {"json_schema": json.dumps(constraint.schema)}
        )
        params = cast("dict[str, object]", body["sampling_params"])
        return body | {"sampling_params": params | form}

    def read(self, event: Event, made: int) -> EngineEvent:
        """Parse an event. Its ids are all so far, or with ``--stream-output`` those since the last
        event.
        """
        ids = ids_of(event.get("output_ids"))
        meta: Event = event.get("meta_info") or {}
        total = meta.get("completion_tokens")
        if ids is None or not isinstance(total, int):
            raise Trouble(Kind.FAILED, "no token ids in its stream")
        scored = _scored(meta)
        if len(ids) == total:
            ids, scored = ids[made:], scored[made:]
        elif made + len(ids) != total:
            raise Trouble(Kind.FAILED, "its token count differs from the tokens that it sends")
        reason = meta.get("finish_reason")
        if reason is None:
            return EngineEvent(ids, scored=scored)
        why = cast("Event", reason) if isinstance(reason, dict) else {"type": reason}
        if why.get("type") == "abort" and isinstance(why.get("status_code"), int):
            raise of_status(why["status_code"], str(why.get("message")))  # as for a bad schema
        return EngineEvent(ids, end_of(why.get("type")), scored=scored)

    def abort(self, name: str) -> tuple[str, dict[str, object]]:
        """Needed, because it notices a closed connection late."""
        return "/abort_request", {"rid": name}


def _scored(meta: Event) -> list[Scored]:
    """Of the event's ids. A token is told as its log probability, its id and its text."""
    chosen: list[list[Any]] = meta.get("output_token_logprobs") or []
    top: list[list[list[Any]] | None] = meta.get("output_top_logprobs") or [None] * len(chosen)
    return [
        Scored(unnamed(one[1], one[0]), tuple(unnamed(two[1], two[0]) for two in others or ()))
        for one, others in zip(chosen, top, strict=True)
    ]
