"""OpenAI's calls in the description of this edge (``GET /openapi.json``).

Bodies come from the models that check them; of the answers, what a client can count on.
"""

from typing import Any

from pydantic import BaseModel

from lore_edge.create import MAX_KEY_CHARS, REQUEST_ID
from lore_edge.openai import chat_events, response_events
from lore_edge.openai.chat_request import ChatRequest
from lore_edge.openai.neutral import ChatNeutral, ResponseNeutral
from lore_edge.openai.parameters import Parameters, takes
from lore_edge.openai.responses_request import ResponseRequest
from lore_edge.schemas import STRING, Json, integer, ref

TAG = "OpenAI"
_REFUSALS = {
    400: "a parameter is wrong, or not offered, which `param` names, or the prompt too long; "
    "or the answer was cancelled",
    401: "no key or token, or none that is good here",
    404: "there is no such object, or it is somebody else's, or it is no longer kept",
    410: "the end of what the reader has was lost with a store",
    413: "the body is longer than is taken",
    415: "the body does not say that it is JSON",
    422: "the `Idempotency-Key` was used for another body, or a deleted request",
    429: "a limit is reached, which `message` names",
    500: "the answer failed; asking again by itself would not help",
    503: "the store or this edge is away; come back",
}
_ASKING = (400, 401, 404, 410, 413, 415, 422, 429, 503)
_READING = (400, 401, 404, 503)
_RETRY = {
    "Retry-After": {"description": "seconds to wait before asking again", "schema": integer()}
}
_ID = {"X-Request-Id": {"description": "the request's own id", "schema": STRING}}
_FLAG: Json = {"type": "boolean"}


def paths() -> Json:
    completion = _named("completion_id", f"^{chat_events.PREFIX}{REQUEST_ID}$")
    response = _named("response_id", f"^{response_events.PREFIX}{REQUEST_ID}$")
    stream = _in("query", "stream", "as server-sent events", _FLAG)
    return {
        "/v1/chat/completions": {
            "post": _operation(
                "createChatCompletion",
                "Ask in a chat; with `stream`, the answer as it is written",
                _answers("ChatCompletion", "ChatEvent", 500, *_ASKING),
                parameters=[_KEY],
                requestBody=_body("ChatRequest"),
            )
        },
        "/v1/chat/completions/{completion_id}": {
            "parameters": [completion],
            "get": _operation(
                "readChatCompletion",
                "The answer once it has ended; with `stream`, what follows `Last-Event-ID`",
                _answers("ChatCompletion", "ChatEvent", 400, 410, 500, *_READING),
                parameters=[stream, _LAST_EVENT_ID],
            ),
        },
        "/v1/responses": {
            "post": _operation(
                "createResponse",
                "Ask for a response; with `background`, it is made with nobody reading",
                _answers("Response", "ResponseEvent", *_ASKING),
                parameters=[_KEY],
                requestBody=_body("ResponseRequest"),
            )
        },
        "/v1/responses/{response_id}": {
            "parameters": [response],
            "get": _operation(
                "readResponse",
                "A response as it is now; with `stream`, its events after `starting_after`",
                _answers("Response", "ResponseEvent", 410, *_READING),
                parameters=[
                    stream,
                    _in("query", "starting_after", "the last event's number", integer()),
                    _in("query", "include_obfuscation", "false", {"enum": [False]}),
                ],
            ),
            "delete": _operation(
                "deleteResponse",
                "Stop it if it runs, and forget it with its log",
                _answers("DeletedResponse", "", *_READING),
            ),
        },
        "/v1/responses/{response_id}/cancel": {
            "parameters": [response],
            "post": _operation(
                "cancelResponse",
                "Cancel for good (P14), again too",
                _answers("Response", "", *_READING),
            ),
        },
        "/v1/responses/{response_id}/input_items": {
            "parameters": [response],
            "get": _operation(
                "listInputItems",
                "What a response was asked",
                _answers("InputItems", "", *_READING),
                parameters=[
                    _in("query", "after", "the last item of the page before", STRING),
                    _in("query", "limit", "items on a page", integer(1, maximum=100)),
                    _in("query", "order", "newest first, or not", {"enum": ["asc", "desc"]}),
                ],
            ),
        },
        "/v1/models": {
            "get": _operation("listModels", "The model that answers", _answers("Models", "", 401))
        },
        "/v1/models/{model}": {
            "parameters": [_named("model", "")],
            "get": _operation("readModel", "The same, by its id", _answers("Model", "", 401, 404)),
        },
    }


def schemas() -> Json:
    model = _object(id=STRING, object=_const("model"), created=integer(), owned_by=STRING)
    return {
        **_request("ChatRequest", ChatRequest, ChatNeutral),
        **_request("ResponseRequest", ResponseRequest, ResponseNeutral),
        "OpenAIError": _object(
            error=_object(message=STRING, type=STRING, param=_NULLABLE, code=_NULLABLE)
        ),
        "ChatCompletion": _object(
            id=STRING,
            object=_const("chat.completion"),
            created=integer(),
            model=STRING,
            choices=_list(_object(index=integer(), message=_MESSAGE, finish_reason=_FINISHED)),
            usage=_USAGE,
        ),
        "ChatCompletionChunk": _object(
            id=STRING,
            object=_const("chat.completion.chunk"),
            created=integer(),
            model=STRING,
            choices=_list(
                _object(
                    index=integer(),
                    delta={"type": "object", "properties": {"role": STRING, "content": STRING}},
                    finish_reason={"enum": ["stop", "length", None]},
                )
            ),
        ),
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
            output=_list({"type": "object"}),
            error={"type": ["object", "null"]},
            incomplete_details={"type": ["object", "null"]},
            instructions=_NULLABLE,
            metadata={"type": "object", "additionalProperties": STRING},
            usage={"type": ["object", "null"]},
        ),
        "ChatEvent": _object(data=STRING)
        | {"description": "`data` is a `ChatCompletionChunk`, an `OpenAIError`, or `[DONE]`"},
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
            data=_list({"type": "object"}),
            first_id=STRING,
            last_id=STRING,
            has_more=_FLAG,
        ),
        "Model": model,
        "Models": _object(object=_const("list"), data=_list(ref("Model"))),
    }


def _request(name: str, model: type[BaseModel], neutral: type[Parameters]) -> Json:
    """Null says nothing, whatever the parameter."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    properties = schema["properties"]
    null = {"type": "null"}
    for field in properties.keys() - set(schema["required"]):
        if null not in properties[field].get("anyOf", ()):
            properties[field] = {"anyOf": [properties[field], null]}
    for field in neutral.model_fields:
        harmless = takes(neutral, field) or "null"
        properties[field]["description"] = f"not offered: only {harmless} is taken"
    return {**schema.pop("$defs"), name: schema}


def _answers(whole: str, event: str, *refusals: int) -> Json:
    content = {"application/json": {"schema": ref(whole)}}
    if event:
        content["text/event-stream"] = {"schema": ref(event)}
    answers: Json = {"200": {"description": "as asked", "content": content, "headers": _ID}}
    for status in sorted(refusals):
        answers[str(status)] = {
            "description": _REFUSALS[status],
            "content": {"application/json": {"schema": ref("OpenAIError")}},
        }
        if status in (429, 503):
            answers[str(status)]["headers"] = _RETRY
    return answers


def _operation(name: str, summary: str, responses: Json, **more: Any) -> Json:
    return {"operationId": name, "summary": summary, "tags": [TAG], **more, "responses": responses}


def _in(place: str, name: str, description: str, schema: Json) -> Json:
    required = place == "path"
    return {
        "in": place,
        "name": name,
        "description": description,
        "required": required,
        "schema": schema,
    }


def _named(name: str, pattern: str) -> Json:
    schema = {"type": "string", "pattern": pattern} if pattern else STRING
    return _in("path", name, "what is meant", schema)


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _const(value: Any) -> Json:
    return {"const": value}


_NULLABLE: Json = {"type": ["string", "null"]}
_FINISHED: Json = {"enum": ["stop", "length"]}
_MESSAGE = _object(role=_const("assistant"), content=STRING)
_USAGE = _object(prompt_tokens=integer(), completion_tokens=integer(), total_tokens=integer())
_KEY = _in(
    "header",
    "Idempotency-Key",
    "makes a retried POST the same request",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
)
_LAST_EVENT_ID = _in("header", "Last-Event-ID", "the last event that the reader has", STRING)
