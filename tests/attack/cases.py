# ruff: noqa: E501 (one line for each case)
"""What a server must do with what a client may send: one line for each case.

Sections are of RFC 9110 (semantics) and RFC 9112 (HTTP/1.1). A case is the bytes that are sent at
once, and the statuses that come back in order. A case that ends in an error is closed after it,
unless it says that it stays open; one that stays open has to be in step afterwards, which a call
that follows shows.
"""

from dataclasses import dataclass

from tests.attack.raw import chunked, post, request

BODY = b'{"question": "a"}'


@dataclass(frozen=True)
class Case:
    name: str
    section: str
    sent: bytes
    statuses: tuple[int, ...]
    stays: bool
    methods: tuple[str, ...] = ()


def ok(name: str, section: str, sent: bytes, *statuses: int, methods: str = "") -> Case:
    """It is answered, and the connection goes on."""
    return Case(name, section, sent, statuses, True, tuple(methods.split()))


def last(name: str, section: str, sent: bytes, *statuses: int, methods: str = "") -> Case:
    """It is answered, and the connection is closed."""
    return Case(name, section, sent, statuses, False, tuple(methods.split()))


def fields(*lines: bytes) -> bytes:
    return b"\r\n".join([b"GET /v1/models HTTP/1.1", b"Host: a", *lines, b"", b""])


CASES = [
    # request line
    ok("a plain request", "9112 3", request(), 200),
    ok("an empty line before it", "9112 2.2", b"\r\n" + request(), 200),
    last("a bare LF", "9112 2.2", request().replace(b"\r\n", b"\n"), 400),
    last("a bare CR in the request line", "9112 2.2", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    last("a space before the first field", "9112 2.2", fields().replace(b"\r\nH", b"\r\n H"), 400),
    ok("two spaces", "9112 3", request().replace(b" /", b"  /"), 200),
    last("a space in the target", "9112 3.2", request(target="/v1/mo dels"), 400),
    last("no version, which is HTTP/0.9", "9112 3", b"GET /v1/models\r\n\r\n", 505),
    last("garbage", "9112 3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    last("NUL in the target", "9112 3.2", request(target="/\x00"), 400),
    last("8-bit characters in the target", "9112 3.2", request(target="/\xe4"), 400),
    last("a fragment in the target", "9112 3.2", request(target="/v1/models#a"), 400),
    # methods
    ok("HEAD has no body", "9110 9.3.2", request("HEAD", "/"), 200, methods="HEAD"),
    ok("HEAD of an error has none", "9110 9.3.2", request("HEAD", "/no"), 404, methods="HEAD"),
    last("an unknown method", "9110 9.1", request("BREW"), 501),
    last("methods are case-sensitive", "9110 9.1", request("get"), 501),
    last("CONNECT", "9110 9.3.6", request("CONNECT", "a.example:80"), 501),
    ok("a method that is known, and not there", "9110 15.5.6", request("PUT", "/"), 405),
    ok("OPTIONS *", "9110 9.3.7", request("OPTIONS", "*"), 204),
    ok("a GET with a body", "9110 9.3.1", request("GET", "/v1/models", "Content-Length: 3", body=b"abc"), 200),
    ok("HEAD of the models", "9110 9.1", request("HEAD", "/v1/models"), 200, methods="HEAD"),
    ok("HEAD of one that is not there", "9110 9.1", request("HEAD", "/v1/models/no"), 404, methods="HEAD"),
    ok("HEAD of what takes a POST", "9110 9.1", request("HEAD", "/v1/responses"), 405, methods="HEAD"),
    # ranges and conditions
    ok("a range of a file", "9110 14.2", request("GET", "/", "Range: bytes=0-5"), 200),
    ok("a range that is none", "9110 14.2", request("GET", "/", "Range: bytes=a"), 200),
    ok("a range backwards", "9110 14.2", request("GET", "/web/app.js", "Range: bytes=5-0"), 200),
    ok("a range in other units", "9110 14.2", request("GET", "/web/app.js", "Range: items=0-5"), 200),
    ok("a range beyond the end", "9110 14.2", request("GET", "/", "Range: bytes=99999999-"), 200),
    ok("a thousand ranges", "9110 14.2", request("GET", "/", "Range: bytes=" + ",".join(["0-1"] * 1000)), 200),
    ok("a range of an answer", "9110 14.2", request("GET", "/v1/models", "Range: bytes=0-5"), 200),
    ok("anything but what there is", "9110 13.1.2", request("GET", "/", "If-None-Match: *"), 304),
    ok("another version", "9110 13.1.2", request("GET", "/", 'If-None-Match: "a"'), 200),
    ok("newer than tomorrow", "9110 13.1.3", request("GET", "/", "If-Modified-Since: Sun, 29 Nov 2099 00:00:00 GMT"), 304),
    ok("a date that is none", "9110 13.1.3", request("GET", "/", "If-Modified-Since: a"), 200),
    ok("a date beyond all years", "9110 13.1.3", request("GET", "/", "If-Modified-Since: Sun, 29 Nov 99999999 00:00:00 GMT"), 304),
    # other protocols
    last("PROXY, version 1", "9112 3", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + request(), 501),
    last("PROXY, version 2", "9112 3", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + b"\x01" * 12 + request(), 400),
    last("RESP", "9112 3", b"*1\r\n$4\r\nPING\r\n", 400),
    # versions
    last("HTTP/1.0", "9112 2.3", request(version="HTTP/1.0"), 200),
    last("HTTP/1.0 without Host", "9112 3.2", request(version="HTTP/1.0", host=None), 200),
    ok("a minor version to come", "9110 2.5", request(version="HTTP/1.2"), 200),
    last("HTTP/2.0", "9110 15.6.6", request(version="HTTP/2.0"), 505),
    last("HTTP/3.0", "9110 15.6.6", request(version="HTTP/3.0"), 505),
    last("HTTP/0.9", "9110 15.6.6", request(version="HTTP/0.9"), 505),
    last("HTTP/2's preface", "9110 15.6.6", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    last("no digits", "9112 2.3", request(version="HTTP/a.b"), 400),
    last("lower case", "9112 2.3", request(version="http/1.1"), 400),
    # targets and Host
    ok("absolute-form", "9112 3.2.2", request(target="http://b.example/v1/models"), 200),
    ok("absolute-form without a path", "9112 3.2.2", request(target="http://b.example"), 200),
    ok("absolute-form with a query", "9112 3.2.2", request(target="HTTP://b.example:80/v1/models?a"), 200),
    last("another scheme", "9112 3.2.2", request(target="ftp://b.example/"), 400),
    last("user information", "9110 4.2.4", request(target="http://u:p@b.example/"), 400),
    last("authority-form", "9112 3.2.3", request(target="b.example:80"), 400),
    last("asterisk-form", "9112 3.2.4", request(target="*"), 400),
    last("a relative target", "9112 3.2", request(target="v1/models"), 400),
    last("no Host", "9112 3.2", request(host=None), 400),
    last("two Hosts", "9112 3.2", fields(b"Host: b"), 400),
    last("the same Host twice", "9112 3.2", fields(b"Host: a"), 400),
    last("a Host that is none", "9112 3.2", request(host="a/b"), 400),
    last("a list of Hosts", "9112 3.2", request(host="a b"), 400),
    ok("an empty Host", "9112 3.2", request(host=""), 200),
    ok("an IPv6 Host", "9112 3.2", request(host="[::1]:80"), 200),
    # fields
    ok("no space after the colon", "9112 5", fields(b"A:b"), 200),
    ok("an empty value", "9112 5", fields(b"A:"), 200),
    ok("8-bit characters", "9110 5.5", fields(b"A: \xe4\xff"), 200),
    last("a space before the colon", "9112 5.1", fields(b"A : b"), 400),
    last("a line without a colon", "9112 5", fields(b"A"), 400),
    last("a field without a name", "9112 5", fields(b": b"), 400),
    last("a name that is no token", "9110 5.1", fields(b"A(b): c"), 400),
    last("NUL in a value", "9110 5.5", fields(b"A: b\x00c"), 400),
    last("a bare CR in a value", "9110 5.5", fields(b"A: b\rc"), 400),
    last("a bare LF in a value", "9110 5.5", fields(b"A: b\nContent-Length: 5"), 400),
    last("a line that goes on", "9112 5.2", fields(b"A: b", b" c"), 400),
    last("a tab that goes on", "9112 5.2", fields(b"A: b", b"\tc"), 400),
    # content
    ok("a body", "9112 6.2", post(), 201),
    ok("a length with zeros", "9112 6.2", post("Content-Length: 0017"), 201),
    last("a length with a sign", "9112 6.3", post("Content-Length: +17"), 400),
    last("a negative length", "9112 6.3", post("Content-Length: -17"), 400),
    last("a length with a fraction", "9112 6.3", post("Content-Length: 17.0"), 400),
    last("a length in hexadecimal", "9112 6.3", post("Content-Length: 0x11"), 400),
    last("an empty length", "9112 6.3", post("Content-Length: "), 400),
    last("two lengths", "9112 6.3", post("Content-Length: 17", "Content-Length: 18"), 400),
    last("a list of lengths", "9112 6.3", post("Content-Length: 17, 18"), 400),
    last("a length beyond 64 bits", "9112 6.3", post("Content-Length: 99999999999999999999"), 400),
    last("a length beyond the bound", "9110 15.5.14", post("Content-Length: 99999999"), 413),
    ok("no body", "9112 6.3", post("Content-Length: 0", body=b""), 400),
    ok("gzip", "9110 8.4", post("Content-Encoding: gzip"), 415),
    ok("a coding unknown", "9110 8.4", post("Content-Encoding: a"), 415),
    ok("identity", "9110 8.4", post("Content-Encoding: identity"), 201),
    ok("another type", "9110 15.5.16", post().replace(b"application/json", b"text/plain"), 415),
    # transfer codings
    ok("chunked", "9112 7.1", post("Transfer-Encoding: chunked", body=chunked(BODY)), 201),
    ok("chunked, in capitals", "9112 7", post("Transfer-Encoding: CHUNKED", body=chunked(BODY)), 201),
    ok("small chunks", "9112 7.1", post("Transfer-Encoding: chunked", body=chunked(*(b"%c" % c for c in BODY))), 201),
    ok("extensions are ignored", "9112 7.1.1", post("Transfer-Encoding: chunked", body=chunked(BODY, extension=b';a="b"')), 201),
    ok("trailers are ignored", "9112 7.1.2", post("Transfer-Encoding: chunked", body=chunked(BODY, trailers=b"Host: b\r\nExpect: a\r\n")), 201),
    ok("an upgrade in trailers", "9112 7.1.2", post("Transfer-Encoding: chunked", body=chunked(BODY, trailers=b"Connection: Upgrade\r\nUpgrade: h2c\r\n")), 201),
    last("close in trailers", "9110 6.5.1", post("Transfer-Encoding: chunked", body=chunked(BODY, trailers=b"Connection: close\r\n")), 201),
    last("framing in trailers", "9110 6.5.1", post("Transfer-Encoding: chunked", body=chunked(BODY, trailers=b"Content-Length: 3\r\n")), 400),
    last("a trailer that is none", "9112 7.1.2", post("Transfer-Encoding: chunked", body=chunked(BODY, trailers=b"A\r\n")), 400),
    ok("a call behind trailers", "9112 7.1.2", post("Transfer-Encoding: chunked", body=chunked(BODY, trailers=b"A: b\r\n")) + request(), 201, 200),
    last("chunked and a length", "9112 6.3", post("Transfer-Encoding: chunked", "Content-Length: 17", body=chunked(BODY)), 400),
    last("a length and chunked", "9112 6.3", post("Content-Length: 17", "Transfer-Encoding: chunked", body=chunked(BODY)), 400),
    last("chunked in HTTP/1.0", "9112 6.1", post("Transfer-Encoding: chunked", body=chunked(BODY), version="HTTP/1.0"), 400),
    last("chunked twice", "9112 6.1", post("Transfer-Encoding: chunked, chunked", body=chunked(BODY)), 400),
    last("chunked in two fields", "9112 6.1", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=chunked(BODY)), 400),
    last("chunked is not last", "9112 6.3", post("Transfer-Encoding: chunked, gzip", body=chunked(BODY)), 400),
    last("not chunked", "9112 6.3", post("Transfer-Encoding: gzip", body=chunked(BODY)), 400),
    last("identity is gone", "9112 7", post("Transfer-Encoding: identity", body=BODY), 400),
    last("nearly chunked", "9112 6.3", post("Transfer-Encoding: xchunked", body=chunked(BODY)), 400),
    last("a coding that is unknown", "9112 6.1", post("Transfer-Encoding: gzip, chunked", body=chunked(BODY)), 501),
    last("a size that is none", "9112 7.1", post("Transfer-Encoding: chunked", body=b"x\r\n" + BODY), 400),
    last("a size with a sign", "9112 7.1", post("Transfer-Encoding: chunked", body=b"+11\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    last("a size with 0x", "9112 7.1", post("Transfer-Encoding: chunked", body=b"0x11\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    last("a size with a space", "9112 7.1", post("Transfer-Encoding: chunked", body=b"11 \r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    last("no size", "9112 7.1", post("Transfer-Encoding: chunked", body=b"\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    last("a size beyond 64 bits", "9112 7.1", post("Transfer-Encoding: chunked", body=b"1" * 17 + b"\r\n" + BODY), 400),
    last("a chunk that is longer", "9112 7.1", post("Transfer-Encoding: chunked", body=b"2\r\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    last("a bare LF behind a size", "9112 7.1", post("Transfer-Encoding: chunked", body=b"11\n" + BODY + b"\n0\n\n"), 400),
    last("a bare LF behind a chunk", "9112 7.1", post("Transfer-Encoding: chunked", body=b"11\r\n" + BODY + b"\n0\r\n\r\n"), 400),
    last("a bare LF in an extension", "9112 7.1.1", post("Transfer-Encoding: chunked", body=b"11;a\n" + BODY + b"\r\n0\r\n\r\n"), 400),
    # upgrade
    ok("h2c with a GET", "9110 7.8", request("GET", "/v1/models", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"), 200),
    ok("h2c with a body", "9110 7.8", post("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"), 201),
    ok("h2c with a chunked body", "9110 7.8", post("Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked", body=chunked(BODY)), 201),
    ok("h2c with an empty body", "9110 7.8", post("Connection: Upgrade", "Upgrade: h2c", body=b""), 400),
    ok("websocket with a GET", "9110 7.8", request("GET", "/v1/models", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 200),
    ok("websocket with a body", "9110 7.8", post("Connection: keep-alive, Upgrade", "Upgrade: websocket"), 201),
    ok("several protocols", "9110 7.8", post("Connection: Upgrade", "Upgrade: TLS/1.0, h2c"), 201),
    ok("Upgrade without Connection", "9110 7.8", post("Upgrade: h2c"), 201),
    last("Upgrade in HTTP/1.0", "9110 7.8", post("Connection: Upgrade", "Upgrade: h2c", version="HTTP/1.0"), 201),
    ok("a call behind an upgrade", "9110 7.8", post("Connection: Upgrade", "Upgrade: h2c") + request(), 201, 200),
    ok("an upgrade behind a call", "9110 7.8", request() + post("Connection: Upgrade", "Upgrade: h2c"), 200, 201),
    ok("an upgrade behind another", "9110 7.8", 2 * post("Connection: Upgrade", "Upgrade: h2c"), 201, 201),
    # expect
    ok("100-continue with the body at once", "9110 10.1.1", post("Expect: 100-continue"), 201),
    ok("100-Continue", "9110 10.1.1", post("Expect: 100-Continue"), 201),
    ok("100-continue without a body", "9110 10.1.1", request("GET", "/v1/models", "Expect: 100-continue"), 200),
    last("another expectation", "9110 10.1.1", post("Expect: 200-ok"), 417),
    last("another expectation as well", "9110 10.1.1", post("Expect: 100-continue, a=b"), 417),
    last("an expectation in HTTP/1.0", "9110 10.1.1", post("Expect: 200-ok", version="HTTP/1.0"), 201),
    # connection options
    last("close", "9112 9.6", request("GET", "/v1/models", "Connection: close"), 200),
    last("CLOSE", "9110 7.6.1", request("GET", "/v1/models", "Connection: CLOSE"), 200),
    last("close among others", "9110 7.6.1", request("GET", "/v1/models", "Connection: a, close, b"), 200),
    last("close in a second field", "9110 7.6.1", request("GET", "/v1/models", "Connection: a", "Connection: close"), 200),
    last("a call behind close", "9112 9.6", request("GET", "/v1/models", "Connection: close") + request(), 200),
    last("close and upgrade", "9112 9.6", post("Connection: close, Upgrade", "Upgrade: h2c"), 201),
    ok("keep-alive", "9112 9.3", request("GET", "/v1/models", "Connection: keep-alive"), 200),
    # pipelining
    ok("three calls", "9112 9.3.2", request() + request("GET", "/no") + request(), 200, 404, 200),
    ok("bodies between", "9112 9.3.2", post() + request() + post(), 201, 200, 201),
    ok("HEAD between", "9112 9.3.2", request("HEAD", "/") + request(), 200, 200, methods="HEAD GET"),
    ok("fifty calls", "9112 9.3.2", 50 * request(), *50 * [200]),
    ok("chunked ones", "9112 9.3.2", 20 * post("Transfer-Encoding: chunked", body=chunked(BODY)), *20 * [201]),
    last("an error behind a call", "9112 9.3.2", request() + b"\x00\r\n\r\n", 200, 400),
    last("the last call behind a chunked one", "9112 9.6", post("Transfer-Encoding: chunked", body=chunked(BODY)) + request("GET", "/v1/models", "Connection: close"), 201, 200),
    last("an error behind a chunked call", "9112 9.3.2", post("Transfer-Encoding: chunked", body=chunked(BODY)) + b"\x00\r\n\r\n", 201, 400),
]  # fmt: skip
