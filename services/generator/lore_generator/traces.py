"""The generator's spans of a request: its wait, and the result of each claim.

Names follow OpenTelemetry's conventions for generative AI where these have one.
"""

import time

from lore import tracing
from lore.protocol.lifecycle import FAILURES
from lore.store.base import Claimed
from lore.tracing import Span
from lore_generator.owned_request import OwnedRequest


def begin(claimed: Claimed, model: str, waited_s: float) -> Span:
    """Begin the span of the work on a claimed request, until it ends or another owner has it. The
    request was created ``waited_s`` seconds ago.
    """
    view = claimed.view
    asked_ns = time.time_ns() - round(waited_s * 1e9)
    first = is_first(claimed)
    if first:
        began_ns = view.created_ms * 1_000_000
        tracing.begin("queue", parent=view.trace, began_ns=began_ns).end()
    span = tracing.begin(
        f"chat {model}",
        parent=view.trace,
        began_ns=asked_ns,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "lore",
            "gen_ai.request.model": model,
            "gen_ai.request.stream": True,
            "gen_ai.response.id": view.request_id,
            "lore.request.id": view.request_id,
            "lore.epoch": view.epoch,
            "lore.generator.id": view.owner,
        },
    )
    tracing.call("lore_claim", span, began_ns=asked_ns).end()
    if not first:
        span.event("takeover", next_seq=view.next_seq, tries=view.tries)
    return span


def is_first(claimed: Claimed) -> bool:
    """Whether nobody had claimed it before."""
    return claimed.view.started_ms == claimed.view.progress_ms


def work_on(owned: OwnedRequest, span: Span) -> None:
    """Record the request's parameters, but none of its text."""
    owned.span, request = span, owned.job.request
    span.set(
        {
            "gen_ai.request.max_tokens": request.max_tokens,
            "gen_ai.request.temperature": request.temperature,
            "gen_ai.request.top_p": request.top_p,
            "gen_ai.request.top_k": request.top_k,
        }
    )


def ended(owned: OwnedRequest, finish_reason: str) -> None:
    """Record how the request ended, once the store has its end."""
    owned.span.set(
        {
            "gen_ai.usage.input_tokens": owned.owner.prompt_tokens,
            "gen_ai.usage.output_tokens": owned.producer.generated_tokens,
            "gen_ai.response.finish_reasons": [finish_reason],
        }
    )
    if finish_reason in FAILURES:
        owned.span.fail("engine" if finish_reason == "error" else finish_reason)
