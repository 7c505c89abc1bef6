# ruff: noqa: E501 (one line for each case)
"""Bodies that are no JSON, or JSON that nobody should have to hold: one line for each case.

A case is where it is sent, the bytes, the code of the 400 that comes back, and a word of its
message: what is wrong is named. 201 and 200 stand for bodies that are taken after all.
"""

from dataclasses import dataclass

STREAMS, CHAT, RESPONSES = "/v1/streams", "/v1/chat/completions", "/v1/responses"
ASKED = b'"model": "m", "messages": [{"role": "user", "content": "a"}]'


@dataclass(frozen=True)
class Body:
    name: str
    path: str
    sent: bytes
    code: str
    says: str


def lists(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def objects(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


DEPTHS = (65, 300, 600, 900, 950, 990, 2_000, 100_000)


def formats(schema: bytes) -> dict[str, bytes]:
    """Bodies that ask for an answer by this schema, by their path."""
    named = b'{"type": "json_schema", "name": "n", "schema": %b}' % schema
    nested = b'{"type": "json_schema", "json_schema": {"name": "n", "schema": %b}}' % schema
    return {
        STREAMS: b'{"question": "a", "response_format": %b}' % named,
        CHAT: b'{%b, "response_format": %b}' % (ASKED, nested),
        RESPONSES: b'{"model": "m", "input": "a", "text": {"format": %b}}' % named,
    }


SCHEMAS = [
    Body(
        f"{name}, {path}",
        path,
        sent,
        "invalid_request" if path == STREAMS else "invalid_value",
        says,
    )
    for name, schema, says in [
        (
            "a schema of 1 MB",
            b'{"enum": ["%b"]}' % (b"a" * 1_000_000),
            "a schema may have at most 65536 bytes",
        ),
        ("a schema of 33 levels", objects(33), "a schema may be nested at most 32 levels"),
    ]
    for path, sent in formats(schema).items()
]

BODIES = [
    *SCHEMAS,
    # nesting: what Python's stack can hold depends on who calls, so that each depth is tried
    *[Body(f"metadata {depth} deep", CHAT, b"{%b, " % ASKED + b'"metadata": ' + objects(depth) + b"}", "invalid_request", "64") for depth in DEPTHS],
    *[Body(f"a member {depth} deep", CHAT, b"{%b, " % ASKED + b'"other": ' + lists(depth) + b"}", "invalid_request", "64") for depth in DEPTHS],
    *[Body(f"input {depth} deep", RESPONSES, b'{"model": "m", "input": ' + lists(depth) + b"}", "invalid_request", "64") for depth in DEPTHS],
    *[Body(f"a question {depth} deep", STREAMS, b'{"question": ' + lists(depth) + b"}", "invalid_json", "recursion limit") for depth in DEPTHS[1:]],
    Body("a member 63 deep", CHAT, b"{%b, " % ASKED + b'"other": ' + lists(63) + b"}", "unknown_parameter", "other"),
    Body("many, but flat", CHAT, b"{%b, " % ASKED + b'"other": [' + b"[]," * 10_000 + b"[]]}", "unknown_parameter", "other"),
    Body("brackets in a string", CHAT, b"{%b, " % ASKED + b'"other": "' + b"[" * 1_000 + b'"}', "unknown_parameter", "other"),
    # no JSON
    *[
        Body(f"{name}, {path}", path, sent, "invalid_json", says)
        for path in (STREAMS, CHAT, RESPONSES)
        for name, sent, says in [
            ("nothing", b"", "line 1 column"),
            ("a comma too many", b'{"a": 1,}', "line 1 column"),
            ("two values", b"{}{}", "line 1 column 3"),
            ("single quotes", b"{'a': 1}", "line 1 column"),
            ("a line end in a string", b'{"a": "\n"}', "line"),
            ("NUL behind it", b"{}\x00", "line 1 column 3"),
            ("a number of 5,000 digits", b'{"a": ' + b"9" * 5_000 + b"}", "number"),
        ]
    ],
    *[
        Body(f"{name}, {path}", path, sent, "invalid_json", "")
        for path in (STREAMS, CHAT, RESPONSES)
        for name, sent in [
            ("UTF-16", '{"a": "b"}'.encode("utf-16")),
            ("UTF-32", '{"a": "b"}'.encode("utf-32")),
            ("Latin-1", b'{"a": "\xe9"}'),
            ("half a character in bytes", b'{"a": "\xed\xa0\x80"}'),
            ("an overlong one", b'{"a": "\xc0\xaf"}'),
        ]
    ],
    Body("NaN", CHAT, b"{%b, " % ASKED + b'"temperature": NaN}', "invalid_json", "number"),
    Body("Infinity", RESPONSES, b'{"model": "m", "input": "a", "top_p": -Infinity}', "invalid_json", "number"),
    Body("NaN for a temperature", STREAMS, b'{"question": "a", "temperature": NaN}', "invalid_request", "temperature"),
    # JSON that says nothing good
    *[Body(f"{value.decode()}, {path}", path, value, "invalid_request", "object") for path in (STREAMS, CHAT, RESPONSES) for value in (b"null", b"1", b'"a"', b"[]", b"true")],
    Body("half a character in an escape", STREAMS, b'{"question": "\\ud800"}', "invalid_request", "question: not valid Unicode"),
    Body("half a character deep inside", STREAMS, b'{"messages": [{"role": "user", "content": "\\udc00"}]}', "invalid_request", "messages: not valid Unicode"),
    Body("half a character in a name, native", STREAMS, b'{"question": "a", "\\ud800": 1}', "invalid_json", "line 1 column"),
    Body("half a character for a model", CHAT, b'{"model": "\\ud800", "messages": []}', "invalid_value", "model"),
    Body("half a character in a name", CHAT, b"{%b, " % ASKED + b'"\\ud800": 1}', "invalid_value", "Unicode"),
]  # fmt: skip
