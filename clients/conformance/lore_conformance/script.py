"""The words of a script: what an edge does on one stream, one after the other.

==================  ============================================================
``3``, ``1-4``      chunks
``4@log-b``         a chunk of another log, which forks here (P4)
``end``             the end
``half:3``          the bytes of an event up to the middle, inside a character
``unfinished:3``    an event without its blank line
``bytes:3``         an event, each byte in a piece of its own
``joined:1-8,end``  several in one piece
``beat``, ``news``  a heartbeat; an event and a field that nobody knows
``error:code``      an error event
``reaped`` …        a ``state`` event with this status or reason
``drain``           the same, and the response ends; ``store_lost`` too
``cut``, ``reset``  the connection is closed, or reset
``hold``            nothing, until the client leaves
``held``            the same for the head of the answer, and for all that follows
``wait:ack=3``      until everything up to 3 is acknowledged; ``wait:again``: once more;
                    ``wait:poll``, ``wait:stream``: until the client asks for one
``503``, ``503;1``  another answer than a stream, with ``Retry-After``
==================  ============================================================

A response whose script is over ends as HTTP ends one: without an ``end`` that is no end.
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
    """The chunks that a word means, each with the log that it names; 0 for the end."""
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
