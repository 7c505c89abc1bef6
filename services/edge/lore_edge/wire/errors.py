"""Errors as readers see them: ``{"error": {"code", "message", "field"?}}``."""

import json
import math

from starlette.exceptions import HTTPException

from lore.metrics import ANSWERS, REQUESTS_REFUSED
from lore.protocol.messages import View
from lore.store.types import StoreFull, StoreUnavailable

STORE_RETRY_S = 1
STORE_FULL_RETRY_S = 60  # where it is unknown when there will be room
AUTH_RETRY_S = 5


class UnknownRequest(Exception):
    """The store does not have the request, or no longer has it."""


class LostRequest(UnknownRequest):
    """The store has lost the request with its data, and nobody has given it back (P4.7)."""


class ApiError(Exception):
    """An error that is the response to a call."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        headers: dict[str, str] | None = None,
        retry_s: float | None = None,
    ) -> None:
        """``retry_s``: in how many seconds to ask again."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.headers = headers or {}
        if retry_s is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_s)))

    def body(self) -> bytes:
        error = {"code": self.code, "message": self.message}
        if self.field is not None:
            error["field"] = self.field
        return json.dumps({"error": error}, ensure_ascii=False).encode(errors="replace")


def invalid(message: str, *, field: str | None = None, code: str = "invalid_request") -> ApiError:
    return ApiError(400, code, message, field=field)


def unauthorized(*, invalid: bool = False) -> ApiError:
    """``invalid``: there were credentials. What is wrong with them is not disclosed (A2, RFC
    6750).
    """
    challenge = 'Bearer realm="lore"'
    if invalid:
        challenge += ', error="invalid_token"'
        message = "invalid credentials"
    else:
        message = "missing credentials; send an API key or a JWT as Authorization: Bearer …"
    return ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": challenge})


def auth_unavailable() -> ApiError:
    message = "the token cannot be verified at the moment; try again"
    return ApiError(503, "auth_unavailable", message, retry_s=AUTH_RETRY_S)


def not_found() -> ApiError:
    return ApiError(404, "not_found", "unknown request, or it is no longer kept")


def history_lost() -> ApiError:
    return ApiError(410, HISTORY_LOST_CODE, HISTORY_LOST)


def given_up() -> ApiError:
    return ApiError(410, GIVEN_UP_CODE, GIVEN_UP)


def lost(view: View) -> ApiError:
    """The error for text of a known request that is gone."""
    return given_up() if view.given_up_ms else history_lost()


def request_lost() -> ApiError:
    message = "the stored request cannot be read by this version; ask again"
    return ApiError(410, HISTORY_LOST_CODE, message)


GIVEN_UP_CODE = "given_up"
GIVEN_UP = "this answer was read to its end and then given up by a full store; ask again"
HISTORY_LOST_CODE = "history_lost"
HISTORY_LOST = "a store lost the end of the text that you have; ask again for the whole answer"


def store_unavailable() -> ApiError:
    message = "the store is unavailable at the moment; try again"
    return ApiError(503, "store_unavailable", message, retry_s=STORE_RETRY_S)


def store_full(retry_after_s: float | None) -> ApiError:
    wait_s = STORE_FULL_RETRY_S if retry_after_s is None else retry_after_s
    message = "the store is full and accepts no new requests; try again later"
    return ApiError(503, "store_full", message, retry_s=wait_s)


def count(error: ApiError) -> None:
    """Count an error of a call, whichever part raised it."""
    if (refusals := REQUESTS_REFUSED.get(error.code)) is not None:
        refusals.inc()
    if error.code in (HISTORY_LOST_CODE, GIVEN_UP_CODE):
        ANSWERS[error.code].inc()


def as_api_error(error: Exception) -> ApiError:
    """The error that the caller gets for an exception of a call."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, StoreFull):
        return store_full(error.retry_after_s)
    if isinstance(error, StoreUnavailable):
        return store_unavailable()
    if isinstance(error, HTTPException):
        return _routing_error(error)
    return not_found()


def _routing_error(error: HTTPException) -> ApiError:
    if error.status_code == 405:
        return method_not_allowed(dict(error.headers or {}).get("Allow", "GET, HEAD"))
    return ApiError(404, "not_found", "unknown address")


def method_not_allowed(allowed: str) -> ApiError:
    message = f"method not supported; this address supports {allowed}"
    return ApiError(405, "method_not_allowed", message, headers={"Allow": allowed})
