"""The words of a script: what an edge does on one stream, in order.

==================  ============================================================
``3``, ``1-4``      chunks
``4@log-b``         a chunk of another log, which forks here (P4)
``end``             the end
``half:3``          the bytes of an event up to the middle, inside a character
``unfinished:3``    an event without its blank line
``bytes:3``         an event, each byte in its own piece
``joined:1-8,end``  several events in one piece
``beat``, ``news``  a heartbeat; an unknown event and an unknown field
``error:code``      an error event
``reaped`` …        a ``state`` event with this status or reason
``drain``           the same, before the response ends; also ``store_lost``
``cut``, ``reset``  the connection is closed, or reset
``hold``            wait until the client leaves
``held``            the same, without sending even the response's head
``wait:ack=3``      wait until chunk 3 is acknowledged; ``wait:again``: for another ack;
                    ``wait:poll``, ``wait:stream``: until the client makes such a call
``503``, ``503;1``  this status instead of a stream; with ``Retry-After: 1``
==================  ============================================================

After its script, a response ends normally in HTTP. Without an ``end`` event, the answer has not
ended.
"""

import re
from collections.abc import Iterator

STATES = {
    "open": ("generating", "open"),
    "reaped": ("reaped", "reaped"),
    "revived": ("generating", "revived"),
    "drain": ("generating", "drain"),
    "store_lost": ("generating", "store_lost"),
}
WORD = re.compile(
    r"(?:(?P<how>half|unfinished|bytes|joined):)?"
    r"(?P<what>\d+(?:-\d+)?(?:@[\w-]+)?(?:,end)?|end)"
)


def scripts(streams: str) -> list[list[str]]:
    return [script.split() for script in streams.split("|")] if streams else []


def pieces(what: str) -> Iterator[tuple[int, str]]:
    """The chunks of a word, each with its log; 0 is the end."""
    for part in what.split(","):
        numbers, _, log = part.partition("@")
        if numbers == "end":
            yield 0, ""
            continue
        first, _, last = numbers.partition("-")
        for seq in range(int(first), int(last or first) + 1):
            yield seq, log


def is_status(word: str) -> bool:
    return re.fullmatch(r"\d{3}(;\d+)?", word) is not None
