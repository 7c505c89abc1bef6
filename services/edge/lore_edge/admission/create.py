"""From the body of ``POST /v1/streams`` to an accepted request (protocol P17)."""

import asyncio
import base64
import contextlib
import itertools
import math
import secrets
from collections.abc import Iterator
from typing import Any

import structlog
from pydantic import SecretStr, ValidationError, model_validator

from lore import logs, tracing
from lore.messages import Message, place_of
from lore.metrics import REQUESTS_ACCEPTED
from lore.protocol.window import WindowConfig
from lore.request import AckKind, KeptRequest, StreamRequest
from lore.request_limits import RequestLimits
from lore.store.base import Admission, NewRequest, Outcome, Store, StoreUnavailable, View
from lore.store.keys import PARTITIONS, partition_of
from lore.store.types import Leave, Open
from lore.tracing import NOTHING, Span
from lore_edge.admission.limits import admit, check_size
from lore_edge.settings import EdgeSettings
from lore_edge.wire.asgi import Scope, header, is_unicode, not_json, parse_object, without_nulls
from lore_edge.wire.errors import ApiError, given_up, invalid
from lore_edge.wire.secret import sign

_log = structlog.get_logger()

MAX_KEY_CHARS = 255
PARTITION_TRIES = 4
QUEUE_RETRY_S = 2
LISTED_MS = 86_400_000
"""How many ms a subject's list outlives its retention: as long as an answer may take."""
_EITHER = "question"  # the field that is named when a body has neither


class _Body(StreamRequest):
    """The body as it arrives."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return without_nulls(value)


def parse(body: bytes, limits: RequestLimits) -> StreamRequest:
    """Validate a body. Raises ApiError 400, which names the first field that is wrong."""
    try:
        return _Body.model_validate_json(body, context=limits)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    kind, message = first["type"], first["msg"]
    field = ".".join(str(part) for part in place_of(first))
    if kind == "json_invalid":
        raise _unreadable(body, message.removeprefix("Invalid JSON: "))
    if not field and kind == "model_type":
        raise invalid("the body is not a JSON object")
    if kind == "extra_forbidden":
        message = "unknown field"
    elif kind == "value_error":
        message = message.removeprefix("Value error, ")
    raise invalid(f"{field}: {message}" if field else message, field=field or _EITHER)


def _unreadable(body: bytes, reason: str) -> ApiError:
    """What is wrong with a body that could not be parsed: the member with half a surrogate pair,
    which JSON can escape, or else ``reason``.
    """
    with contextlib.suppress(ApiError):
        for name, value in parse_object(body).items():
            if is_unicode(name) and not is_unicode(value):
                return invalid(f"{name}: not valid Unicode", field=name)
    return not_json(reason)


def key_of(scope: Scope) -> str:
    """The ``Idempotency-Key``, or '' without one.

    Raises ApiError 400 for an empty one: its sender believes that a retry is safe, and it would not
    be.
    """
    key = header(scope, b"idempotency-key")
    if not key and any(name == b"idempotency-key" for name, _ in scope["headers"]):
        raise invalid("Idempotency-Key: at least 1 character", field="Idempotency-Key")
    return key


def complete(asked: StreamRequest, settings: EdgeSettings) -> StreamRequest:
    """The request as the generator gets it: always with messages and a length, and with a seed that
    a takeover keeps.
    """
    changes: dict[str, object] = {}
    if asked.question is not None:
        changes["question"] = None
        changes["messages"] = [
            Message(role="system", content=settings.system_prompt),
            *asked.conversation(),
        ]
    if "max_tokens" not in asked.model_fields_set:
        changes["max_tokens"] = settings.default_max_tokens
    if asked.seed is None:
        changes["seed"] = secrets.randbits(63)
    changes["pace"] = pace_of(asked, settings) or None
    return asked.model_copy(update=changes)


def pace_of(asked: StreamRequest, settings: EdgeSettings) -> float:
    """The most tokens a second that its reader takes; 0 for a machine (P20.8)."""
    if asked.pace is not None:
        return asked.pace
    if asked.ack is AckKind.NONE:
        return 0.0
    return settings.openai_pace if isinstance(asked, KeptRequest) else settings.pace


def initial_window(asked: StreamRequest) -> int:
    """The initial window in tokens; 0 does not bind (P6, P8)."""
    if asked.ack is AckKind.NONE:
        return 0
    return asked.window or WindowConfig().initial_tokens


def derived_ids(secret: SecretStr, subject: str, key: str) -> list[str]:
    """The request ids of this subject's key, the same on every edge with this secret. Each is in
    another partition, and they are tried in this order (H2).
    """
    purposes = (f"idempotency key {number or ''}".rstrip() for number in itertools.count())
    digests = (sign(secret, purpose, subject, key)[:16] for purpose in purposes)
    return _spread(base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in digests)


def _spread(request_ids: Iterator[str]) -> list[str]:
    """The first of these that are each in another partition."""
    ids: dict[int, str] = {}
    while len(ids) < PARTITION_TRIES:
        request_id = next(request_ids)
        ids.setdefault(partition_of(request_id), request_id)
    return list(ids.values())


async def create(
    store: Store,
    settings: EdgeSettings,
    subject: str,
    client: str,
    asked: StreamRequest,
    idempotency_key: str,
    span: Span = NOTHING,
    *,
    parts: str = "",
) -> View:
    """Accept a request, or find the one that this key made before.

    ``subject`` owns it; ``client`` is charged with its share of the queue; its trace continues
    ``span``.

    Raises ApiError (400 for the key or a size, 410, 422, 429) and StoreUnavailable.
    """
    if len(idempotency_key) > MAX_KEY_CHARS:
        raise invalid(
            f"Idempotency-Key: at most {MAX_KEY_CHARS} characters", field="Idempotency-Key"
        )
    check_size(settings, asked)
    mark = asked.fingerprint()
    limit = math.ceil(settings.queue_limit / PARTITIONS)
    whole = complete(asked, settings)
    text = whole.kept_json(parts)
    ids = _ids(settings, subject, idempotency_key)
    views = await asyncio.gather(*map(store.view, ids)) if idempotency_key else ()
    made = next((view.request_id for view in views if view is not None), None)
    for request_id in [made] if made else ids:
        if made:
            admission = Admission(True)  # it exists, so it was counted before
        else:
            with tracing.call("lore_admit", span):
                admission = await admit(store, settings, client, request_id, whole)
        new = NewRequest(
            request_id=request_id,
            subject=subject,
            body=text,
            fingerprint=mark,
            ack=asked.ack,
            window=initial_window(asked),
            place_ms=admission.place_ms,
            ahead=admission.ahead,
            trace=span.context,
            asks_elsewhere=bool(idempotency_key) and request_id != ids[-1],
        )
        with tracing.call("lore_open", span):
            opened = await store.do(Open(new, queue_limit=limit))
        if opened.outcome is Outcome.OK and opened.view is not None:
            view = _same(opened.view, mark)
            REQUESTS_ACCEPTED.inc(opened.created)
            if opened.created:
                await _list(store, settings, view)
            _log.debug("request accepted", **logs.of(view), created=opened.created)
            return view
        await store.do(Leave(client, request_id))
        if opened.outcome is Outcome.UNKNOWN:
            raise _key_reused("the request of this Idempotency-Key was deleted")
    raise ApiError(429, "queue_full", "the queue is full; try again later", retry_s=QUEUE_RETRY_S)


def _same(view: View, mark: str) -> View:
    """Return the view. Raises ApiError if the request has another body, or was given up."""
    if view.fingerprint != mark:
        raise _key_reused("this Idempotency-Key was used for another body")
    if view.given_up_ms:
        raise given_up()
    return view


def _key_reused(message: str) -> ApiError:
    return ApiError(422, "idempotency_key_reused", message, field="Idempotency-Key")


async def _list(store: Store, settings: EdgeSettings, view: View) -> None:
    keep_ms = round(settings.retention_s * 1000) + LISTED_MS
    with contextlib.suppress(StoreUnavailable):  # the request exists all the same
        await store.list_request(view.subject, view.request_id, keep_ms=keep_ms)


def _ids(settings: EdgeSettings, subject: str, key: str) -> list[str]:
    """The ids to try in turn, each in another partition, because one queue may be full by
    chance.
    """
    if key:
        return derived_ids(settings.secret, subject, key)
    return _spread(secrets.token_urlsafe(16) for _ in itertools.count())
