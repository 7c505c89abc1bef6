"""The handlers of OpenAI's calls."""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from lore.protocol.commands import Cancel, Forget
from lore.protocol.lifecycle import ENDED
from lore.request import KeptRequest
from lore.store.base import ChunkMessage, Outcome, Store, View
from lore_edge.admission.context import Context
from lore_edge.admission.served_model import NAMELESS, ServedModel
from lore_edge.delivery import views
from lore_edge.delivery.dialect import Dialect
from lore_edge.delivery.streams import Streams
from lore_edge.openai import chat_request, completion_request, replay, responses_request
from lore_edge.openai.asking import Asking
from lore_edge.openai.chat_events import ChatStream, completion
from lore_edge.openai.chat_parts import Deltas
from lore_edge.openai.choices import failure
from lore_edge.openai.completion_events import CompletionStream
from lore_edge.openai.completion_events import completion as text_completion
from lore_edge.openai.earlier import Earlier
from lore_edge.openai.errors import (
    in_openai,
    prompt_refused,
    refused,
    unknown_model,
    unknown_object,
)
from lore_edge.openai.input_items import input_items
from lore_edge.openai.notes import ChatNote, CompletionNote, ResponseNote
from lore_edge.openai.parameters import MAX_SHOWN
from lore_edge.openai.parts import parser_of
from lore_edge.openai.query import INCLUDE, asks_for_stream, flag, query_of, starting_after
from lore_edge.openai.response_events import ResponseStream, chunks_had, response
from lore_edge.openai.response_parts import ResponsePartsStream
from lore_edge.openai.stored import Shelf
from lore_edge.settings import EdgeSettings
from lore_edge.wire import call_trace, sse
from lore_edge.wire.asgi import Receive, Scope, Send, answer, check_json, parse_object, read_body
from lore_edge.wire.errors import ApiError, method_not_allowed
from lore_edge.wire.resume import ResumePoint, wanted
from lore_edge.wire.subject import subject_of


class OpenAICall(NamedTuple):
    scope: Scope
    receive: Receive
    send: Send
    name: str
    """The name in the address, or ''."""


Handler = Callable[[OpenAICall], Awaitable[None]]


class OpenAI:
    def __init__(
        self,
        store: Store,
        settings: EdgeSettings,
        streams: Streams,
        context: Context,
        served: ServedModel,
    ) -> None:
        self._store = store
        self._settings = settings
        self._streams = streams
        self._asking = Asking(store, settings, context, served)
        self._limits = settings.request_limits
        self._served = served
        self.routes: dict[str, dict[str, Handler]] = {
            "/v1/chat/completions": {"POST": self._ask_chat},
            "/v1/chat/completions/{completion_id}": {"GET": partial(self._read_choice, ChatNote)},
            "/v1/completions": {"POST": self._ask_completion},
            "/v1/completions/{completion_id}": {"GET": partial(self._read_choice, CompletionNote)},
            "/v1/responses": {"POST": self._ask_response},
            "/v1/responses/{response_id}": {
                "GET": self._read_response,
                "DELETE": self._delete_response,
            },
            "/v1/responses/{response_id}/cancel": {"POST": self._cancel_response},
            "/v1/responses/{response_id}/input_items": {"GET": self._list_input},
            "/v1/models": {"GET": self._list_models},
            "/v1/models/{model}": {"GET": self._read_model},
        }
        self._patterns = {_pattern(path): handlers for path, handlers in self.routes.items()}

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call. Raises ApiError, UnknownRequest, StoreUnavailable and Disconnected."""
        for pattern, handlers in self._patterns.items():
            if (match := pattern.fullmatch(scope["path"])) is None:
                continue
            method = scope["method"]
            handler = handlers.get("GET" if method == "HEAD" else method)
            if handler is None:
                raise method_not_allowed(", ".join(handlers).replace("GET", "GET, HEAD"))
            await handler(OpenAICall(scope, receive, send, match[1] if match.lastindex else ""))
            return
        raise ApiError(404, "unknown_url", f"Unknown request URL: {scope['path']}.")

    # chat completions, and completions of raw prompts

    async def _ask_chat(self, call: OpenAICall) -> None:
        where = wanted(call.scope)
        asked = chat_request.parse(await self._body(call), self._limits)
        await self._check_model(asked.model)
        more = await self._served.effort(asked.reasoning_effort)
        kept = asked.kept(self._limits, more)
        view, kept = await self._asking.ask(call.scope, kept, now=asked.stream)
        await self._serve_choice(call, view, asked.note, kept, where if asked.stream else None)

    async def _ask_completion(self, call: OpenAICall) -> None:
        where = wanted(call.scope)
        asked = completion_request.parse(await self._body(call), self._limits)
        await self._check_model(asked.model)
        try:
            kept = asked.kept(self._limits)
            view, kept = await self._asking.ask(call.scope, kept, now=asked.stream)
        except ApiError as error:
            raise in_openai(error, CompletionNote.names) from None
        await self._serve_choice(call, view, asked.note, kept, where if asked.stream else None)

    async def _read_choice(self, kind: type[ChatNote | CompletionNote], call: OpenAICall) -> None:
        view, note, kept = await self._shelf(call).find(kind, call.name)
        call_trace.about(call.scope, view)
        query = query_of(call.scope, {"stream", "after", "log"})
        where = wanted(call.scope) if asks_for_stream(call.scope, query) else None
        await self._serve_choice(call, view, note, kept, where)

    async def _serve_choice(
        self,
        call: OpenAICall,
        view: View,
        note: ChatNote | CompletionNote,
        kept: KeptRequest,
        where: ResumePoint | None,
    ) -> None:
        """``where``: the position of a stream; None for the whole answer."""
        if where is not None:
            await self._stream(call, view, *await self._choice_stream(view, note, kept, where))
            return
        ended, text = await self._collect(call, view)
        if (error := failure(ended, note)) is not None:
            raise error
        chunks = await self._chunks(ended, kept)
        if isinstance(note, ChatNote):
            whole = completion(ended, note, kept, text, chunks)
        else:
            whole = text_completion(ended, note, text, chunks)
        await _answer(call, whole, view.request_id)

    async def _choice_stream(
        self, view: View, note: ChatNote | CompletionNote, kept: KeptRequest, where: ResumePoint
    ) -> tuple[Dialect, ResumePoint]:
        """The stream, and where it begins, if it has to count through what the reader has."""
        parser, position, had = parser_of(kept), where.position, list[ChunkMessage]()
        is_counted = view.has_more if isinstance(note, CompletionNote) else parser is not None
        if is_counted:
            had = await replay.before(self._store, view, position or 0)
            where = where._replace(begin=len(had))
        if isinstance(note, CompletionNote):
            offset = sum(len(one.text) for one in had)
            return CompletionStream(view, note, had=position or 0, offset=offset), where
        deltas = Deltas(parser, view.request_id, had) if parser else None
        return ChatStream(view, note, had=position, deltas=deltas), where

    # responses

    async def _ask_response(self, call: OpenAICall) -> None:
        asked = responses_request.parse(await self._body(call), self._limits)
        await self._check_model(asked.model)
        earlier, now = await Earlier(self._store, self._shelf(call), self._limits.messages).resolve(
            asked
        )
        note = asked.note(len(earlier))
        try:
            more = await self._served.effort(asked.reasoning_effort)
            kept = asked.kept(self._limits, earlier, now, more)
            view, kept = await self._asking.ask(call.scope, kept, now=asked.stream)
        except ApiError as error:
            raise in_openai(error, ResponseNote.names) from None
        if asked.stream:
            await self._stream_response(call, view, note, kept, None)
        elif asked.background:
            await self._answer_response(call, view, note, kept)
        else:
            ended, text = await self._collect(call, view)
            if (refusal := prompt_refused(ended)) is not None:
                raise in_openai(refusal, ResponseNote.names)
            chunks = await self._chunks(ended, kept)
            await _answer(call, response(ended, note, kept, text, chunks), view.request_id)

    async def _read_response(self, call: OpenAICall) -> None:
        view, note, kept = await self._shelf(call).stored_response(call.name)
        call_trace.about(call.scope, view)
        query = query_of(call.scope, {"stream", "starting_after", "include_obfuscation", *INCLUDE})
        if flag(query, "include_obfuscation"):
            raise refused(
                "unsupported_value",
                "Unsupported value: 'include_obfuscation' supports only false.",
                "include_obfuscation",
            )
        after = starting_after(query)
        if asks_for_stream(call.scope, query):
            await self._stream_response(call, view, note, kept, after)
        elif after is not None:
            raise refused(
                "invalid_value", "'starting_after' needs 'stream' to be true.", "starting_after"
            )
        else:
            await self._answer_response(call, view, note, kept)

    async def _stream_response(
        self,
        call: OpenAICall,
        view: View,
        note: ResponseNote,
        kept: KeptRequest,
        starting_after: int | None,
    ) -> None:
        dialect: Dialect
        if (parser := parser_of(kept)) is not None:
            dialect = ResponsePartsStream(view, note, kept, parser, starting_after)
            had = await replay.skip_to(self._store, view, dialect)
            log_id = dialect.log.name if had else None
        else:
            dialect = ResponseStream(view, note, kept, starting_after)
            had, log_id = chunks_had(starting_after, view)
        where = ResumePoint(had, log_id, "starting_after")
        await self._stream(call, view, dialect, where)

    async def _cancel_response(self, call: OpenAICall) -> None:
        """Cancel a response, in the background or not: hanging up cancels nothing (O9, P14)."""
        view, note, kept = await self._shelf(call).find(ResponseNote, call.name)
        call_trace.about(call.scope, view)
        retention_ms = round(self._settings.retention_s * 1000)
        position = await self._store.do(
            Cancel(view.request_id, retention_ms=retention_ms, subject=view.subject)
        )
        if position.outcome is Outcome.UNKNOWN:
            raise unknown_object("Response", call.name)
        if position.outcome is not Outcome.OK:
            status = response(view, note, kept)["status"]
            raise refused("not_cancellable", f"Cannot cancel a response that is {status}.")
        await self._answer_response(call, view, note, kept)

    async def _delete_response(self, call: OpenAICall) -> None:
        view, _, _ = await self._shelf(call).find(ResponseNote, call.name)
        call_trace.about(call.scope, view)
        await self._store.do(Forget(view.request_id, subject=view.subject))
        await _answer(call, {"id": call.name, "object": "response", "deleted": True})

    async def _list_input(self, call: OpenAICall) -> None:
        view, note, kept = await self._shelf(call).stored_response(call.name)
        call_trace.about(call.scope, view)
        query = query_of(call.scope, {"after", "limit", "order", *INCLUDE})
        await _answer(call, input_items(view, note, kept, query))

    async def _answer_response(
        self, call: OpenAICall, view: View, note: ResponseNote, kept: KeptRequest
    ) -> None:
        """Answer with the response as it is now, which may be slightly later than ``view``."""
        now, text = await views.read(self._store, view.request_id, view.subject)
        chunks = await self._chunks(now, kept)
        await _answer(call, response(now, note, kept, text, chunks), view.request_id)

    # models

    async def _list_models(self, call: OpenAICall) -> None:
        served = await self._served.shown() or NAMELESS
        await _answer(call, {"object": "list", "data": [_model(served)]})

    async def _read_model(self, call: OpenAICall) -> None:
        await self._check_model(call.name)
        await _answer(call, _model(call.name))

    async def _check_model(self, model: str) -> None:
        if not await self._served.has(model):
            raise unknown_model(model[:MAX_SHOWN])

    # shared

    def _stream(
        self, call: OpenAICall, view: View, dialect: Dialect, where: ResumePoint
    ) -> Awaitable[None]:
        scope, receive, send, _ = call
        return self._streams.serve(
            scope, receive, send, view.request_id, view.subject, dialect, where
        )

    def _collect(self, call: OpenAICall, view: View) -> Awaitable[tuple[View, str]]:
        return self._streams.collect(call.scope, call.receive, view.request_id, view.subject)

    async def _body(self, call: OpenAICall) -> dict[str, Any]:
        self._streams.check_open()
        check_json(call.scope)
        return parse_object(await read_body(call.receive, self._settings.max_body_bytes))

    async def _chunks(self, view: View, kept: KeptRequest | None = None) -> list[ChunkMessage]:
        """Those of an answer that has ended, if more than its text is to be told; else none."""
        reasons = kept is not None and kept.form().reasons
        if not (view.has_more or reasons) or view.status not in ENDED:
            return []
        return await replay.whole(self._store, view)

    def _shelf(self, call: OpenAICall) -> Shelf:
        return Shelf(self._store, subject_of(call.scope))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "lore"}


def _pattern(path: str) -> re.Pattern[str]:
    """A pattern for a path. A model's name may contain slashes."""
    name = "(.+)" if "{model}" in path else "([^/]+)"
    return re.compile(re.sub(r"{\w+}", name, path), re.DOTALL)


async def _answer(call: OpenAICall, data: dict[str, Any], request_id: str = "") -> None:
    headers = [(b"x-request-id", request_id.encode())] if request_id else []
    await answer(call.send, 200, sse.encode_json(data).encode(errors="replace"), headers)
