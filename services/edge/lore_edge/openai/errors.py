"""Errors in OpenAI's format: ``{"error": {"message", "type", "param", "code"}}``."""

import json
import re
from collections.abc import Mapping
from typing import Any

from lore.protocol.lifecycle import INVALID_SCHEMA, REFUSALS, Status
from lore.request import StreamRequest
from lore.store.base import View
from lore_edge.wire.errors import ApiError

_PATHS = re.compile(r"/v1/(chat|completions|responses|models)(/.*)?", re.DOTALL)
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
"""Where OpenAI has one code for several of Lore's."""
TOO_LONG = "context_length_exceeded"
"""The code for a prompt over any limit: clients shorten their history when they see it (P17.18)."""
_SHORTEN = "Please reduce the length of the messages."


class OpenAIError(ApiError):
    """An error in OpenAI's format. ``field`` is what OpenAI calls ``param``."""

    def content(self) -> dict[str, Any]:
        return {
            "message": self.message,
            "type": _type(self.status, self.code),
            "param": self.field,
            "code": _CODES.get(self.status, self.code),
        }

    def body(self) -> bytes:
        return json.dumps({"error": self.content()}, ensure_ascii=False).encode(errors="replace")


def refused(code: str, message: str, param: str | None = None) -> OpenAIError:
    return OpenAIError(400, code, message, field=param)


def prompt_too_long(message: str, param: str) -> OpenAIError:
    return refused(TOO_LONG, f"The prompt is too long: {message}. {_SHORTEN}", param)


def is_openai(path: str) -> bool:
    return _PATHS.fullmatch(path) is not None


def told(error: ApiError, path: str) -> ApiError:
    """The error in the format of this address, whichever part raised it (O3)."""
    return in_openai(error) if is_openai(path) else error


def in_openai(error: ApiError, names: Mapping[str, str] | None = None) -> OpenAIError:
    """Convert an error. ``names`` has OpenAI's names of Lore's fields."""
    if isinstance(error, OpenAIError) and not names:
        return error
    field, message = error.field, error.message
    if field and (param := (names or {}).get(field)):
        field, message = param, message.replace(field, param, 1)
    if error.code == "prompt_too_long" and field:
        return prompt_too_long(message, field)
    return OpenAIError(error.status, error.code, message, field=field, headers=error.headers)


def unknown_model(model: str) -> OpenAIError:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return OpenAIError(404, "model_not_found", message, field="model")


def unknown_object(kind: str, object_id: str) -> OpenAIError:
    return OpenAIError(404, "not_found", f"{kind} with id '{object_id}' not found.")


def not_answered(view: View) -> OpenAIError | None:
    """The error for an answer that failed or was cancelled, if it was. A retry by itself would not
    help, so clients are told not to.
    """
    headers = {"X-Should-Retry": "false"}
    if view.status is Status.CANCELLED:  # not 409, because some clients retry after that
        return OpenAIError(400, "cancelled", "the answer was cancelled", headers=headers)
    if (refusal := prompt_refused(view)) is not None:
        return refusal
    if view.status is Status.FAILED:
        message = view.error or "the answer failed"
        return OpenAIError(500, "server_error", message, headers=headers)
    return None


def prompt_refused(view: View) -> OpenAIError | None:
    """The error if the generator refused the prompt (P17.21)."""
    if view.status is not Status.FAILED or view.finish_reason not in REFUSALS:
        return None
    named = view.error.partition(":")[0]
    is_named = view.finish_reason == INVALID_SCHEMA or named in StreamRequest.model_fields
    field = named if is_named else "messages"
    return OpenAIError(400, view.finish_reason, view.error, field=field)


def _type(status: int, code: str) -> str:
    if status == 429:
        return "tokens" if "token" in code else "requests"
    if status >= 500:
        return "server_error"
    return "invalid_request_error"
