"""A parser with bounded memory: bytes in, heads and bodies out.

Each piece goes through llhttp in slices, which are counted before it stores them. So no head,
trailer or chunk extension grows beyond its bound (SECURITY.md).
"""

from typing import TYPE_CHECKING, cast

import httptools

from lore_edge.http import head
from lore_edge.settings import EdgeSettings
from lore_edge.wire.errors import ApiError

if TYPE_CHECKING:
    from lore_edge.http.connection import Connection

CHUNKED_SLICE = 1024  # a slice may contain the end of a chunked body and calls behind it
OVERHEAD = 16  # the most bytes of framing for each byte of body; a chunk of 1 byte takes 5
_END = b"\r\n\r\n"


class RequestParser:
    __slots__ = (
        "_fed",
        "_fields",
        "_fields_bytes",
        "_left",
        "_overhead",
        "_parser",
        "_replays",
        "_settings",
        "_sink",
        "_start",
        "_upgrade",
        "_url",
        "in_body",
    )

    def __init__(self, sink: "Connection", settings: EdgeSettings) -> None:
        self._sink = sink
        self._settings = settings
        self.in_body = False
        self._upgrade = self._replays = False
        self._left: int | None = 0
        self._overhead = 0
        self._begin_head()
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_version=True)  # head.py judges it

    def _begin_head(self) -> None:
        self._fed = self._fields_bytes = 0
        self._start = self._url = b""
        self._fields: head.Fields = []

    @property
    def in_head(self) -> bool:
        """Whether a part of a head has arrived."""
        return self._fed > 0

    def take(self, data: bytes, view: memoryview, position: int) -> int:
        """Parse a slice that begins at ``position``. Returns its end. Raises ApiError."""
        end = self._slice_end(data, position)
        try:
            self._feed(view[position:end])
        except httptools.HttpParserUpgrade as upgrade:
            end = position + upgrade.args[0]
            self._ignore_upgrade()
        return end

    def _slice_end(self, data: bytes, position: int) -> int:
        if not self.in_body:
            end = data.find(_END, position, position + self._room)
            return end + len(_END) if end >= 0 else position + self._room
        return position + (self._left or CHUNKED_SLICE)

    @property
    def _room(self) -> int:
        return self._settings.max_url_bytes + self._settings.max_head_bytes + 1 - self._fed

    def _feed(self, part: memoryview) -> None:
        """Raises ApiError, and HttpParserUpgrade with the offset of the unread rest."""
        if not self.in_body:
            if len(self._start) < len("PRI * HTTP/2"):
                self._start += part[:32]
            self._fed += len(part)
        else:
            self._overhead += len(part)  # on_body subtracts the content
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserCallbackError as error:
            if error.__context__ is None:
                raise
            raise error.__context__ from None
        except httptools.HttpParserError as error:
            raise head.not_understood(self._start, str(error)) from None
        if self._fed and self._room <= 0:
            raise self._too_large()
        if self._left is None and self._overhead > self._settings.max_head_bytes:
            raise head.malformed("chunk extensions and trailers are too long")

    def _ignore_upgrade(self) -> None:
        """Parse on in spite of an Upgrade field. The field may be ignored (RFC 9110 section 7.8),
        but the request's body may not: a new parser that has not seen the field reads it.
        """
        self._upgrade = False
        self._begin()
        framing = b"transfer-encoding: chunked" if self._left is None else b""
        if self._left:
            framing = b"content-length: %d" % self._left
        self._replays = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % (framing or b"a: b"))

    def _too_large(self) -> ApiError:
        settings = self._settings
        if not self._fields and not self.in_body and len(self._url) >= settings.max_url_bytes:
            return head.url_too_long(settings.max_url_bytes)
        message = f"the fields are longer than {settings.max_head_bytes} bytes together"
        return head.fields_too_large(message)

    # called by httptools

    def on_url(self, url: bytes) -> None:
        if self._replays:
            return
        self._url += url
        if len(self._url) > self._settings.max_url_bytes:
            raise head.url_too_long(self._settings.max_url_bytes)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field. One of a trailer is dropped (RFC 9110 section 6.5.1)."""
        if self._replays:
            return
        settings = self._settings
        size = len(name) + len(value)
        self._fields_bytes += size
        if size > settings.max_field_bytes:
            told = name[:64].decode("latin-1")
            message = f"{told}: a field is longer than {settings.max_field_bytes} bytes"
            raise head.fields_too_large(message, field=told)
        if self._fields_bytes > settings.max_head_bytes:
            raise self._too_large()
        self._fields.append((name.lower(), value))
        if len(self._fields) > settings.max_fields:
            raise head.fields_too_large(f"there are more than {settings.max_fields} header fields")

    def on_headers_complete(self) -> None:
        if self._replays:
            self._replays = False
            return
        parts = (int(part) for part in self._parser.get_http_version().split("."))
        version = cast("tuple[int, int]", tuple(parts))
        method = self._parser.get_method()
        read = head.read_head(method, self._url, version, self._fields)
        keeps = version >= (1, 1) and self._parser.should_keep_alive()
        self._upgrade = self._parser.should_upgrade()
        self._begin_head()
        self.in_body, self._left, self._overhead = True, read.length, 0
        self._sink.on_head(method, version, read, keeps=keeps)

    def on_body(self, body: bytes) -> None:
        self._overhead -= (1 + OVERHEAD) * len(body)
        if self._left:
            self._left = self._left - len(body)
        self._sink.on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrade:
            return  # the parser takes the end of the head for the end of the message
        self.in_body = False
        self._begin_head()
        self._sink.on_end(keeps=self._parser.should_keep_alive())  # a trailer may have changed this
