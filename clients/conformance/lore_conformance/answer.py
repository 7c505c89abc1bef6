"""The answer of every case, and its encoding (PROTOCOL.md, Server-sent events)."""

import json
from dataclasses import dataclass

REQUEST_ID = "conformance-request-00"
FIRST_LOG = "log-a"
QUESTION = "What is a stream?"
WINDOW = 8
TOKENS_PER_CHUNK = 2

CHUNKS = (
    *("A stream: ", "größer ", "als 1 < 2; ", "日本語, "),
    *("👩🏽‍💻 and ", "\u2028\n\n", '"quotes" ', "end."),
)
"""Characters of one to four bytes, false line ends, and characters that JSON escapes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The first ``last_seq`` chunks, and the status of their end."""

    last_seq: int = len(CHUNKS)
    status: str = "done"

    def text(self, after: int = 0) -> str:
        return "".join(CHUNKS[after : self.last_seq])

    def end(self) -> dict[str, object]:
        return {
            "status": self.status,
            "finish_reason": "stop" if self.status == "done" else None,
            "error": "the model failed" if self.status == "failed" else None,
            "last_seq": self.last_seq,
            "usage": {
                "prompt_tokens": 5,
                "completion_tokens": tokens(self.last_seq),
                "total_tokens": 5 + tokens(self.last_seq),
            },
        }

    def view(self, log: str, status: str | None = None) -> dict[str, object]:
        return {
            "request_id": REQUEST_ID,
            "status": status or self.status,
            "text": self.text(),
            "log_id": log,
            "next_seq": self.last_seq + 1,
            "acked_seq": 0,
            "generated_tokens": tokens(self.last_seq),
            "acked_tokens": 0,
            "window": WINDOW,
            "prompt_tokens": 5,
            "finish_reason": self.end()["finish_reason"],
            "error": self.end()["error"],
        }


def tokens(seq: int) -> int:
    return TOKENS_PER_CHUNK * seq


def chunk(seq: int, log: str = "") -> bytes:
    """The event of a chunk. ``log``: named once the log has forked (P4)."""
    data = {"seq": seq, "text": CHUNKS[seq - 1], "tokens": tokens(seq)}
    name = f"{seq}:{log}" if log else str(seq)
    return b"id: " + name.encode() + b"\ndata: " + _line(data) + b"\n\n"


def event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + _line(data) + b"\n\n"


def _line(data: object) -> bytes:
    text = json.dumps(data, ensure_ascii=False)
    for char in "\u0085\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()


def half(data: bytes) -> int:
    """Where to cut an event: inside a multi-byte character if it has one, else in the middle."""
    inside = [at for at, byte in enumerate(data) if byte & 0xC0 == 0x80]
    return inside[0] if inside else len(data) // 2
