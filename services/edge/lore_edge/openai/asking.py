"""From a validated body to its request: a new one, or one that is running (O12).

OpenAI's SDKs retry by themselves when a connection breaks or a proxy times out, and say so in
``x-stainless-retry-count``. The answer is still being generated then, and the retry joins it.
"""

import asyncio
import contextlib

from lore.protocol.lifecycle import ENDED, Status
from lore.request import KeptRequest
from lore.store.base import Store, StoreUnavailable, View
from lore_edge.admission.context import Context
from lore_edge.admission.create import create, key_of
from lore_edge.admission.served_model import ServedModel
from lore_edge.openai.errors import prompt_refused
from lore_edge.settings import EdgeSettings
from lore_edge.wire import call_trace
from lore_edge.wire.asgi import Scope, header
from lore_edge.wire.secret import sign
from lore_edge.wire.subject import client_of, subject_of

JUDGED_S = 10.0
"""How many seconds a stream whose prompt may be refused waits for its generator before it
begins.
"""
LOOK_S = 0.05


class Asking:
    def __init__(
        self, store: Store, settings: EdgeSettings, context: Context, served: ServedModel
    ) -> None:
        self._store = store
        self._settings = settings
        self._context = context
        self._served = served

    async def ask(self, scope: Scope, kept: KeptRequest, *, now: bool) -> tuple[View, KeptRequest]:
        """Create or join a request. ``now``: the answer is sent as it is generated, so errors must
        come first.

        Raises ApiError and StoreUnavailable.
        """
        may_be_unfit = (
            kept.constraint is not None
            or kept.logprobs is not None
            or isinstance(kept.prompt, list)  # a token may be outside the vocabulary
        )
        may_fail = await self._context.may_not_fit(kept) or may_be_unfit
        if kept.prompt is None:  # what continues a prompt is text alone
            kept = kept.model_copy(update={"parts": await self._served.parts_of(kept) or None})
        view = await self._retried(scope, kept) or await self._create(scope, kept)
        if _attempt(scope) or key_of(scope):
            kept = await self._stored(view) or kept
        call_trace.about(scope, view)
        if may_fail and now:
            view = await self._judged(view)
            if (refusal := prompt_refused(view)) is not None:
                raise refusal
        return view, kept

    async def _stored(self, view: View) -> KeptRequest | None:
        """A request that was made before, as it is kept: its model may have had another format."""
        body = await self._store.body(view.request_id)
        try:
            return KeptRequest.read(body) if body else None
        except ValueError:
            return None

    async def _create(self, scope: Scope, kept: KeptRequest) -> View:
        settings, subject = self._settings, subject_of(scope)
        client = client_of(scope, settings)
        key = key_of(scope)
        span = call_trace.begin(scope)
        view = await create(self._store, settings, subject, client, kept, key, span)
        if settings.retry_window_s and not key:
            window_ms = round(settings.retry_window_s * 1000)
            with contextlib.suppress(StoreUnavailable):  # the request exists all the same
                await self._store.note_attempt(
                    self._mark(subject, kept), view.request_id, window_ms=window_ms
                )
        return view

    async def _retried(self, scope: Scope, kept: KeptRequest) -> View | None:
        """The request of which this call is a retry, unless that failed or was cancelled."""
        subject = subject_of(scope)
        if not _attempt(scope) or key_of(scope):
            return None
        request_id = await self._store.attempted(self._mark(subject, kept))
        view = await self._store.view(request_id) if request_id else None
        if view is None or view.subject != subject or view.fingerprint != kept.fingerprint():
            return None
        return None if view.status in ENDED and view.status is not Status.DONE else view

    def _mark(self, subject: str, kept: KeptRequest) -> str:
        return sign(self._settings.secret, "attempt", subject, kept.fingerprint()).hex()[:32]

    async def _judged(self, view: View) -> View:
        """Wait until its generator has begun with it, or ended it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JUDGED_S):
                while view.status not in ENDED and view.next_seq == 1:
                    await asyncio.sleep(LOOK_S)  # without a feed, because nobody reads yet
                    view = await self._store.view(view.request_id) or view
        return view


def _attempt(scope: Scope) -> int:
    """How many times the SDK has asked before; 0 for other clients."""
    count = header(scope, b"x-stainless-retry-count")
    return int(count) if count.isascii() and count.isdecimal() and len(count) < 5 else 0
