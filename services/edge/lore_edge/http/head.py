"""Validates a request's head by RFC 9110 and RFC 9112. No I/O.

httptools (llhttp) splits the head and refuses what its grammar does not allow. This module has the
rules that are left to a server.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from lore_edge.wire.asgi import Scope
from lore_edge.wire.errors import ApiError, invalid

Fields = list[tuple[bytes, bytes]]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_METHOD = re.compile(_TOKEN + rb"(?: |$)")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#@]+)(/[^?]*)?(?:\?(.*))?")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
_BAD_IN_TARGET = re.compile(rb"[^\x21-\x7e]|#")


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request that may be passed on."""

    path: bytes
    query: bytes
    fields: Fields
    length: int | None
    """The bytes of the body; None for a chunked one."""
    expects_continue: bool


def read_head(method: bytes, target: bytes, version: tuple[int, int], fields: Fields) -> Head:
    """Validate a head. Raises ApiError 400, 417, 501 or 505."""
    if version[0] != 1:
        raise version_not_supported()
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and version >= (1, 1)):
        raise malformed("one Host field is needed", field="Host")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise malformed("Host: expected a name or an address, and optionally a port", field="Host")
    path, query, host = _read_target(method, target)
    if host is not None:  # it counts in place of the field (RFC 9112 section 3.2.2)
        fields = [field for field in fields if field[0] != b"host"] + [(b"host", host)]
    chunked = _is_chunked(_listed(fields, b"transfer-encoding"), version)
    lengths = (int(value) for name, value in fields if name == b"content-length")
    length = None if chunked else next(lengths, 0)  # the parser accepts one, of digits only
    expected = _listed(fields, b"expect") if version >= (1, 1) else []
    if any(expectation != b"100-continue" for expectation in expected):
        raise ApiError(417, "expectation_failed", "Expect: supports 100-continue", field="Expect")
    return Head(path, query, fields, length, bool(expected) and length != 0)


def _read_target(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Path, query, and the host of an absolute-form (RFC 9112 section 3.2)."""
    if method == b"CONNECT":
        raise method_unknown()
    if _BAD_IN_TARGET.search(target):
        raise malformed("the address has a character that must be percent-encoded")
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return path, query, None
    if target == b"*" and method == b"OPTIONS":
        return b"*", b"", None
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not _HOST.fullmatch(match[1]):
        raise malformed("the address must be a path, or http:// and a host")
    return match[2] or b"/", match[3] or b"", match[1]


def _is_chunked(codings: Sequence[bytes], version: tuple[int, int]) -> bool:
    """Whether the body is chunked, the only transfer coding accepted here (RFC 9112 section 6)."""
    if not codings:
        return False
    if version < (1, 1):
        raise malformed("Transfer-Encoding: not in HTTP/1.0", field="Transfer-Encoding")
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
        raise malformed(
            "Transfer-Encoding: chunked must be last, and only once", field="Transfer-Encoding"
        )
    if len(codings) > 1:
        message = "Transfer-Encoding: only chunked can be read here"
        raise ApiError(501, "not_implemented", message, field="Transfer-Encoding")
    return True


def scope(
    method: bytes,
    http_version: str,
    read: Head,
    client: tuple[str, int] | None,
    extensions: dict[str, object],
) -> Scope:
    """The ASGI scope of a call."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": http_version,
        "client": client,
        "scheme": "http",
        "method": method.decode("ascii"),
        "root_path": "",
        "path": unquote(read.path.decode("ascii")),
        "raw_path": read.path,
        "query_string": read.query,
        "headers": read.fields,
        "extensions": extensions,
    }


def _listed(fields: Fields, name: bytes) -> list[bytes]:
    """The members of a comma-separated list, in lower case (RFC 9110 section 5.6.1)."""
    members = b",".join([value for key, value in fields if key == name]).lower().split(b",")
    return [member for part in members if (member := part.strip())]


def not_understood(start: bytes, reason: str) -> ApiError:
    """The error for a message that the parser refused. ``start`` is the beginning of the
    message.
    """
    if start.startswith(b"PRI * HTTP/2"):
        return version_not_supported()
    if reason == "Invalid method encountered" and _METHOD.match(start):
        return method_unknown()
    return malformed(
        f"this is not an HTTP request: {reason}" if reason else "this is not an HTTP request"
    )


def malformed(message: str, *, field: str | None = None) -> ApiError:
    return invalid(message, field=field, code="invalid_http")


def version_not_supported() -> ApiError:
    return ApiError(505, "http_version_not_supported", "only HTTP/1.1 and HTTP/1.0 are supported")


def method_unknown() -> ApiError:
    return ApiError(501, "not_implemented", "method not supported")


def url_too_long(limit: int) -> ApiError:
    return ApiError(414, "url_too_long", f"the URL is longer than {limit} bytes")


def fields_too_large(message: str, *, field: str | None = None) -> ApiError:
    return ApiError(431, "headers_too_large", message, field=field)


def timed_out(what: str, limit_s: float) -> ApiError:
    return ApiError(408, "request_timeout", f"the {what} did not arrive within {limit_s:g} s")
