"""The limits of one client, and its place in the queue (protocol P17).

The store counts, in one call for all limits. It cannot see that a request has ended. So when a
client is refused, its requests are checked here: ended ones are settled, and the store is asked
again.
"""

import asyncio
import contextlib
import math

from lore.protocol.lifecycle import LIVE
from lore.request import KeptRequest, StreamRequest
from lore.store.base import Admission, Limits, Store, View
from lore.store.types import Admit, Settle
from lore_edge.settings import EdgeSettings
from lore_edge.wire.errors import ApiError, invalid
from lore_edge.wire.subject import ANONYMOUS

SETTLE_MS = 10_000
"""For so long, in ms, an admitted request that the store does not know may still be on its way."""
STREAMS_RETRY_S = 5
"""When to ask again if a stream of the client has to end first."""
BYTES_PER_TOKEN = 4
"""The average bytes of text in a token; an edge has no tokenizer."""


def prompt_tokens(asked: StreamRequest) -> int:
    """An estimate of the tokens in its prompt."""
    if isinstance(asked.prompt, list):
        return len(asked.prompt)
    return math.ceil(sum(len(text.encode()) for text in asked.texts()) / BYTES_PER_TOKEN)


def check_size(settings: EdgeSettings, asked: StreamRequest) -> None:
    """Raises ApiError 400 when a prompt is longer than the limit for all."""
    size = len(asked.prompt) if asked.prompt else sum(map(len, asked.texts()))
    if 0 < settings.max_prompt_chars < size:
        message = f"{asked.asked_in}: at most {settings.max_prompt_chars} characters in total"
        raise invalid(message, field=asked.asked_in, code="prompt_too_long")


async def admit(
    store: Store, settings: EdgeSettings, client: str, request_id: str, asked: StreamRequest
) -> Admission:
    """Count a request, and return its place in the queue.

    ``asked`` is the request as the generator gets it (``complete``).

    Raises ApiError: 429 when the client is at a limit, 400 when this request alone exceeds one.
    """
    limits = Limits(
        settings.streams_per_client, settings.requests_per_minute, settings.tokens_per_minute
    )
    quantum_ms = 0 if client == ANONYMOUS else round(settings.fair_quantum_s * 1000)
    if limits == Limits() and not quantum_ms:
        return Admission(True)
    prompt = prompt_tokens(asked)
    tokens = prompt + asked.expected_tokens(settings.default_max_tokens)
    if 0 < limits.tokens_per_minute < tokens:
        message = (
            f"max_tokens: with a prompt of about {prompt} tokens, this exceeds your limit of "
            f"{limits.tokens_per_minute} tokens a minute; ask for fewer"
        )
        raise invalid(message, field="max_tokens", code="answer_too_long")

    async def ask() -> Admission:
        return await store.do(
            Admit(client, request_id, limits, tokens=tokens, quantum_ms=quantum_ms)
        )

    admission = await ask()
    if admission.counted and (over := await _over(store, admission)):
        await store.do(Settle(client, over))
        admission = await ask()
    if not admission.admitted:
        raise _too_many(limits, admission)
    return admission


def _too_many(limits: Limits, admission: Admission) -> ApiError:
    wait_s, most = admission.wait_ms / 1000, limits.requests_per_minute
    if admission.limit == "streams":
        wait_s = STREAMS_RETRY_S
        message = f"at most {limits.streams} live requests; wait for one to end, or cancel one"
    elif admission.limit == "requests":
        message = f"rate limit exceeded: at most {most} requests a minute; try again later"
    else:
        message = (
            f"token limit exceeded: at most {limits.tokens_per_minute} tokens a minute, prompts "
            "and max_tokens together; try again later, or ask for fewer"
        )
    return ApiError(429, f"too_many_{admission.limit}", message, retry_s=wait_s)


async def _over(store: Store, admission: Admission) -> dict[str, int | None]:
    """The counted requests that are no longer live, with the tokens they used; None where
    unknown.
    """
    views = await asyncio.gather(*(store.view(request_id) for request_id, _ in admission.counted))
    return {
        request_id: await _used_tokens(store, view) if view else None
        for (request_id, age_ms), view in zip(admission.counted, views, strict=True)
        if (view.status not in LIVE if view else age_ms >= SETTLE_MS)
    }


async def _used_tokens(store: Store, view: View) -> int:
    """The tokens that a request used. One that was cancelled may have ended before its prompt was
    counted.
    """
    if view.prompt_tokens:
        return view.prompt_tokens + view.generated_tokens
    body = await store.body(view.request_id)
    with contextlib.suppress(ValueError):  # another release stored it
        if body:
            return prompt_tokens(KeptRequest.read(body)) + view.generated_tokens
    return view.generated_tokens
