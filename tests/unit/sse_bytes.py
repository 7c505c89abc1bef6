"""Bytes that are almost a stream of server-sent events, for those who read such streams."""

import random

BOM = "\ufeff".encode()
STARTS = [b"", BOM, BOM + BOM, BOM[:2]]
LINES = [
    *(b"data: a", b"data:  b", b"data:c", b"data", b"data:", b"Data: d", b"data : e", b" data: f"),
    *(b"data: \xc3\xa9", b"data: \xf0\x9f\x99\x82", b"data: \xe2\x80\xa8\xc2\x85\x0b", b"data: \0"),
    *(b"data: \xff", b"data: \xf0\x9f", b"data: \xed\xa0\x80", b"\xe2\x80", b"\xbf", BOM, b"\0"),
    *(b"id: 7", b"id", b"id:", b"id: 1\x002", b"event: state", b"event: end", b"event", b"event:"),
    *(b"retry: 90000", b"retry: 1.5", b"retry", b":", b": heartbeat", b" ", b"\t", b"noise: x"),
]
ENDS = [b"\n", b"\r", b"\r\n", b"\n\n", b"\n\r\n", b"\r\r", b"\r\n\r\n", b""]


def cut_up(stream: bytes, seed: int) -> list[bytes]:
    """The stream in pieces, as a network might bring them; from seed 0, byte by byte."""
    draw = random.Random(seed)
    count = draw.randrange(8)
    cuts = sorted(draw.randrange(len(stream) + 1) for _ in range(count))
    if seed == 0:
        cuts = list(range(len(stream)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
