"""The events of the stub's streams, in each dialect.

Every function takes the ids of the call so far, how many tokens were made, the call's body, and why
it ended if it did: an event without an end is about the last token.
"""

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
EOS = 9


FORM, CALL = 200, 210
"""Where answers begin that are of a form: JSON, and a call in Hermes' words."""
JSON = ('{"river":', '"Rhine",', '"km":', "1233", "}")
CALLED = ("<tool_call>", '{"name": "look", "arguments":', '{"city":', '"Bonn"}}', "</tool_call>")
WORDS = {EOS: "", **dict(enumerate(JSON, FORM)), **dict(enumerate(CALLED, CALL))}


def word(token: int) -> str:
    return WORDS.get(token, f" {token}")


def scores(token: int, most: int) -> dict[int, float]:
    """What the stub tells of a token: its log probability, and then those of ``most`` others."""
    return {token + other: -1.5 - other / 8 for other in range(most + 1)}


def llamacpp(ids: list[int], made: int, body: Json, end: str | None, *, scored: bool) -> Json:
    new = ids[-1:] if end is None else []
    event: Json = {"content": "".join(map(word, new)), "tokens": new, "stop": end is not None}
    if not ids and end is None:
        event["content"] = "x"
    event["stop_type"] = {"stop": "eos", "length": "limit", None: ""}[end]
    event["tokens_predicted"] = made
    if scored and body.get("n_probs"):
        told = [_told(token, body["n_probs"]) for token in new]
        event["completion_probabilities"] = [
            {**one[0], "top_logprobs": one[: body["n_probs"]]} for one in told
        ]
    return event


def _told(token: int, most: int) -> list[Json]:
    return [
        {"id": one, "token": word(one), "bytes": list(word(one).encode()), "logprob": logprob}
        for one, logprob in scores(token, most).items()
    ]


def vllm(ids: list[int], made: int, body: Json, end: str | None, *, scored: bool) -> Json:
    new = ids[-1:] if end is None else []
    choice: Json = {"index": 0, "text": "x" if end is None else "", "finish_reason": end}
    if ids:
        choice["token_ids"] = new
    if scored and body.get("logprobs") is not None and new:
        assert body["return_tokens_as_token_ids"]
        told = [scores(token, body["logprobs"]) for token in new]
        choice["logprobs"] = {
            "tokens": [f"token_id:{token}" for token in new],
            "token_logprobs": [one[token] for token, one in zip(new, told, strict=True)],
            "top_logprobs": [
                {f"token_id:{token}": logprob for token, logprob in reversed(one.items())}
                for one in told
            ],
        }
    return {"model": body["model"], "choices": [choice]}


def sglang(ids: list[int], made: int, body: Json, end: str | None, *, scored: bool) -> Json:
    meta: Json = {"completion_tokens": made, "id": body["rid"]}
    meta["finish_reason"] = None if end is None else {"type": end}
    if scored and body.get("return_logprob"):
        told = [scores(token, body["top_logprobs_num"]) for token in ids]
        listed = [[[logprob, token, None] for token, logprob in one.items()] for one in told]
        meta["output_token_logprobs"] = [one[0] for one in listed]
        if body["top_logprobs_num"]:
            meta["output_top_logprobs"] = [one[: body["top_logprobs_num"]] for one in listed]
    event: Json = {"text": "", "meta_info": meta}
    return event | ({"output_ids": ids} if ids else {})


EVENTS: dict[str, Callable[..., Json]] = {"llamacpp": llamacpp, "vllm": vllm, "sglang": sglang}
