"""OpenAI's calls in the description of this edge (``GET /openapi.json``).

Bodies are described by the models that check them, answers by what a client can rely on.
"""

from typing import Any

from pydantic import BaseModel

from lore_edge.openai.chat_request import ChatRequest
from lore_edge.openai.completion_request import CompletionRequest
from lore_edge.openai.neutral import ChatNeutral, CompletionNeutral, ResponseNeutral
from lore_edge.openai.notes import ChatNote, CompletionNote, ResponseNote
from lore_edge.openai.parameters import Parameters, takes
from lore_edge.openai.responses_request import ResponseRequest
from lore_edge.reference.schemas import (
    KEY,
    NULLABLE,
    RETRY_AFTER,
    STRING,
    Json,
    integer,
    json_body,
    let_null_say_nothing,
    list_of,
    operation,
    parameter,
    ref,
)
from lore_edge.wire.ids import REQUEST_ID

TAG = "OpenAI"
_REFUSALS = {
    400: "a parameter is wrong or not supported (`param` names it), the prompt is too long, "
    "or the answer was cancelled",
    401: "missing or invalid credentials",
    404: "unknown object, no longer kept, or owned by another subject",
    410: "a store lost the end of the text that the reader has",
    413: "the body is too large",
    415: "the `Content-Type` is not JSON",
    422: "the `Idempotency-Key` was used with another body, or for a deleted request",
    429: "a limit is exceeded; `message` names it",
    500: "the answer failed; do not retry automatically",
    503: "the store or this edge is unavailable; retry",
}
_ASKING = (400, 401, 404, 410, 413, 415, 422, 429, 503)
_READING = (400, 401, 404, 503)
_RETRY = {"Retry-After": {"description": RETRY_AFTER, "schema": integer()}}
_ID = {"X-Request-Id": {"description": "the request's own id", "schema": STRING}}
_FLAG: Json = {"type": "boolean"}


def paths() -> Json:
    chat = ("a chat completion", ChatNote.prefix, "Chat")
    completion = ("a completion of a raw prompt", CompletionNote.prefix, "")
    return {
        **_choice_paths("/v1/chat/completions", *chat),
        **_choice_paths("/v1/completions", *completion),
        **_response_paths(),
        **_model_paths(),
    }


def _choice_paths(path: str, what: str, prefix: str, kind: str) -> Json:
    request = f"{kind or 'Completion'}Request"
    whole, event = f"{kind}Completion", f"{kind or 'Completion'}Event"
    return {
        path: {
            "post": _operation(
                f"create{kind}Completion",
                f"Create {what}; with `stream`, as server-sent events",
                _answers(whole, event, 500, *_ASKING),
                parameters=[KEY],
                requestBody={"required": True, **json_body(request)},
            )
        },
        path + "/{completion_id}": {
            "parameters": [_named("completion_id", f"^{prefix}{REQUEST_ID}$")],
            "get": _operation(
                f"read{kind}Completion",
                "Read a completion that has ended; with `stream`, the chunks after `Last-Event-ID`",
                _answers(whole, event, 400, 410, 500, *_READING),
                parameters=[_STREAM, _LAST_EVENT_ID],
            ),
        },
    }


def _response_paths() -> Json:
    response = _named("response_id", f"^{ResponseNote.prefix}{REQUEST_ID}$")
    return {
        "/v1/responses": {
            "post": _operation(
                "createResponse",
                "Create a response; with `background`, it is generated without a reader",
                _answers("Response", "ResponseEvent", *_ASKING),
                parameters=[KEY],
                requestBody={"required": True, **json_body("ResponseRequest")},
            )
        },
        "/v1/responses/{response_id}": {
            "parameters": [response],
            "get": _operation(
                "readResponse",
                "Read a response as it is now; with `stream`, its events after `starting_after`",
                _answers("Response", "ResponseEvent", 410, *_READING),
                parameters=[
                    _STREAM,
                    parameter("query", "starting_after", "the last event's number", integer()),
                    parameter("query", "include_obfuscation", "false", {"enum": [False]}),
                ],
            ),
            "delete": _operation(
                "deleteResponse",
                "Delete a response and its log; a running one is stopped",
                _answers("DeletedResponse", "", *_READING),
            ),
        },
        "/v1/responses/{response_id}/cancel": {
            "parameters": [response],
            "post": _operation(
                "cancelResponse",
                "Cancel (P14); final, idempotent",
                _answers("Response", "", *_READING),
            ),
        },
        "/v1/responses/{response_id}/input_items": {
            "parameters": [response],
            "get": _operation(
                "listInputItems",
                "List the input items of a response",
                _answers("InputItems", "", *_READING),
                parameters=[
                    parameter("query", "after", "the last item of the previous page", STRING),
                    parameter("query", "limit", "items on a page", integer(1, maximum=100)),
                    parameter(
                        "query",
                        "order",
                        "oldest first (`asc`) or newest first (`desc`)",
                        {"enum": ["asc", "desc"]},
                    ),
                ],
            ),
        },
    }


def _model_paths() -> Json:
    return {
        "/v1/models": {
            "get": _operation("listModels", "List the model", _answers("Models", "", 401))
        },
        "/v1/models/{model}": {
            "parameters": [_named("model", "")],
            "get": _operation(
                "readModel", "Read the model by its id", _answers("Model", "", 401, 404)
            ),
        },
    }


def schemas() -> Json:
    model = _object(id=STRING, object=_const("model"), created=integer(), owned_by=STRING)
    return {
        **_choice_schemas(),
        **_response_schemas(),
        "OpenAIError": _object(
            error=_object(message=STRING, type=STRING, param=NULLABLE, code=NULLABLE)
        ),
        "Model": model,
        "Models": _object(object=_const("list"), data=list_of(ref("Model"))),
    }


def _choice_schemas() -> Json:
    ended, text = {"enum": ["stop", "length"]}, {"text": STRING, "logprobs": _TEXT_SCORES}
    of_text = {
        "Completion": _choices("text_completion", _USAGE, **text, finish_reason=ended),
        "CompletionChunk": _choices("text_completion", None, **text, finish_reason=_or_null(ended)),
    }
    for schema in of_text.values():
        choice = schema["properties"]["choices"]["items"]
        choice["properties"] |= {"token_ids": _IDS, "prompt_token_ids": _IDS}
    scores, chat = {"logprobs": _SCORES}, "chat.completion"
    return {
        **_request("ChatRequest", ChatRequest, ChatNeutral),
        **_request("CompletionRequest", CompletionRequest, CompletionNeutral),
        "ChatCompletion": _choices(
            chat, _USAGE, message=_MESSAGE, **scores, finish_reason=_FINISHED
        ),
        "ChatCompletionChunk": _choices(
            f"{chat}.chunk", None, delta=_DELTA, **scores, finish_reason=_or_null(_FINISHED)
        ),
        "ChatEvent": _chunks("ChatCompletionChunk"),
        "CompletionEvent": _chunks("CompletionChunk"),
        **of_text,
    }


def _choices(kind: str, usage: Json | None, **choice: Json) -> Json:
    """A whole answer with its usage, or a chunk of one without."""
    choices = list_of(_object(index=integer(), **choice))
    head = {"id": STRING, "object": _const(kind), "created": integer(), "model": STRING}
    return _object(**head, choices=choices, **({"usage": usage} if usage else {}))


def _chunks(chunk: str) -> Json:
    about = f"`data` is a `{chunk}`, an `OpenAIError`, or `[DONE]`"
    return _object(data=STRING) | {"description": about}


def _or_null(values: Json) -> Json:
    return {"enum": [*values["enum"], None]}


def _response_schemas() -> Json:
    return {
        **_request("ResponseRequest", ResponseRequest, ResponseNeutral),
        "Response": _object(
            id=STRING,
            object=_const("response"),
            created_at=integer(),
            model=STRING,
            status={
                "enum": ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
            },
            background=_FLAG,
            store=_FLAG,
            output=list_of({"type": "object"}),
            error={"type": ["object", "null"]},
            incomplete_details={"type": ["object", "null"]},
            instructions=NULLABLE,
            metadata={"type": "object", "additionalProperties": STRING},
            usage={"type": ["object", "null"]},
        ),
        "ResponseEvent": _object(
            event=STRING,
            data={
                **STRING,
                "contentMediaType": "application/json",
                "contentSchema": _object(type=STRING, sequence_number=integer()),
            },
        ),
        "DeletedResponse": _object(id=STRING, object=_const("response"), deleted=_const(True)),
        "InputItems": _object(
            object=_const("list"),
            data=list_of({"type": "object"}),
            first_id=STRING,
            last_id=STRING,
            has_more=_FLAG,
        ),
    }


def _request(name: str, model: type[BaseModel], neutral: type[Parameters]) -> Json:
    """The schema of a body. Any parameter may be null, which counts as absent."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    properties = schema["properties"]
    let_null_say_nothing(schema)
    for field in neutral.model_fields:
        harmless = takes(neutral, field) or "null"
        properties[field]["description"] = f"not supported: only {harmless} is accepted"
    return {**schema.pop("$defs"), name: schema}


def _answers(whole: str, event: str, *refusals: int) -> Json:
    content = json_body(whole)["content"]
    if event:
        content["text/event-stream"] = {"schema": ref(event)}
    answers: Json = {"200": {"description": "as asked", "content": content, "headers": _ID}}
    for status in sorted(refusals):
        answers[str(status)] = {"description": _REFUSALS[status], **json_body("OpenAIError")}
        if status in (429, 503):
            answers[str(status)]["headers"] = _RETRY
    return answers


def _operation(name: str, summary: str, responses: Json, **more: Any) -> Json:
    return operation(name, summary, responses, tags=[TAG], **more)


def _named(name: str, pattern: str) -> Json:
    schema = {"type": "string", "pattern": pattern} if pattern else STRING
    return parameter("path", name, "the object's id", schema)


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _const(value: Any) -> Json:
    return {"const": value}


_FINISHED: Json = {"enum": ["stop", "length", "tool_calls"]}
_TOKEN: dict[str, Json] = {
    "token": STRING,
    "logprob": {"type": "number", "maximum": 0},
    "bytes": list_of(integer(0, maximum=255)),
}
_SCORES: Json = {
    "description": "null unless asked for",
    "type": ["object", "null"],
    "properties": {
        "content": list_of(_object(**_TOKEN, top_logprobs=list_of(_object(**_TOKEN)))),
        "refusal": {"type": "null"},
    },
}
_IDS: Json = list_of(integer()) | {"description": "only if asked for"}
_TEXT_SCORES: Json = {
    "description": "null unless asked for",
    "type": ["object", "null"],
    "properties": {
        "tokens": list_of(STRING),
        "token_logprobs": list_of({"type": "number", "maximum": 0}),
        "top_logprobs": list_of({"type": "object", "additionalProperties": {"type": "number"}}),
        "text_offset": list_of(integer()),
    },
}
_MESSAGE = _object(role=_const("assistant"), content=NULLABLE)
_MESSAGE["properties"] |= {"reasoning_content": STRING, "tool_calls": list_of({"type": "object"})}
_DELTA: Json = {
    "type": "object",
    "properties": _MESSAGE["properties"] | {"role": STRING, "content": STRING},
}
_USAGE = _object(prompt_tokens=integer(), completion_tokens=integer(), total_tokens=integer())
_STREAM = parameter("query", "stream", "as server-sent events", _FLAG)
_LAST_EVENT_ID = parameter("header", "Last-Event-ID", "the last event that the reader has", STRING)
