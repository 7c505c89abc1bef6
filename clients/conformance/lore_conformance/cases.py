"""The table of cases, one per line; ``script.py`` explains the scripts.

Each case is one question of a client, which runs in its own process. ``stand.py`` has the checks of
every case; ``rule`` names the rule of PROTOCOL.md that the case tests.
"""

from dataclasses import dataclass

from lore_conformance.answer import CHUNKS


@dataclass(frozen=True, slots=True)
class Case:
    rule: str
    name: str
    streams: str
    """A script for each stream that the client opens, separated by ``|``. Further streams send
    everything after the requested position."""
    creates: str = ""
    """The responses to ``POST /v1/streams``, in order; after them, requests are accepted."""
    acks: str = ""
    """The responses to acknowledgments, in order; after them, they are accepted."""
    state: str = "done"
    last_seq: int = len(CHUNKS)
    """How many chunks the client has at the end."""
    edges: int = 2
    path: str = ""
    """The path prefix of the edges."""
    silence_ms: int = 3000
    key: str = ""
    only_polls: bool = False
    """Streams are buffered forever: only polls get a response."""
    should: bool = False
    """The rule is a SHOULD."""


CASES = (
    # What a stream may look like
    Case("P1", "nothing fails", "1-8 end"),
    Case("P1", "every byte comes by itself", "bytes:1-8 bytes:end"),
    Case("P1", "all of it comes in one piece", "joined:1-8,end"),
    Case("Server-sent events", "heartbeats stand between", "beat 1-3 beat 4-8 beat end"),
    Case("Server-sent events", "events and fields that are new", "1-2 news 3-8 end"),
    Case("HTTP", "the edges stand below a path", "1-3 cut", path="/lore"),
    Case("Authentication", "the edges want a key", "1-3 cut", key="lore_key"),
    # Order
    Case("P11", "chunks come twice", "1-3 2-3 1 4-8 8 end"),
    Case("P1", "chunks change places", "1 3 2 4 6 5 8 7 end"),
    Case("P1", "a chunk is missing", "1-2 4-8 end"),
    Case("P1", "the first chunk is missing", "2-8 end"),
    Case("P1", "the end comes before the rest", "1-4 end"),
    Case("P12", "the next connection begins too early", "1-4 wait:ack=4 cut | 1-8 end"),
    Case("P12", "the next connection begins too late", "1-2 cut | 5-8 end"),
    # Connections
    Case("P12", "a connection is cut", "1-3 cut"),
    Case("P12", "a connection is reset", "1-3 wait:ack=3 reset"),
    Case("P12", "cut inside an event", "1-2 half:3 cut"),
    Case("P12", "cut inside a character", "1-4 half:5 cut | half:5 cut"),
    Case("P12", "cut between an event and its blank line", "1-2 unfinished:3 cut"),
    Case("P12", "cut inside the end", "1-8 half:end cut"),
    Case("P12", "cut again and again", "1 cut | 2 cut | 3 cut | 4 cut | 5 cut"),
    Case("P14", "a response ends without an end", "1-3"),
    Case("P12", "nothing is left to read after a cut", "1-8 wait:ack=8 cut | 204"),
    Case("Server-sent events", "an edge shuts down", "1-3 drain"),
    Case("Server-sent events", "an edge loses its store", "1-3 store_lost"),
    Case("Server-sent events", "an error that is not final", "1-3 error:internal_error"),
    Case("Server-sent events", "an edge stalls", "1-3 hold", silence_ms=400, should=True),
    Case("P1", "an edge speaks again after it was left", "1-3 wait:stream 4-8 end", silence_ms=400),
    Case("P18", "a stream is held back", "held 1-8 end", only_polls=True, should=True),
    Case("P18", "a stream speaks late", "wait:poll 1-8 end", should=True),
    # Acknowledgments
    Case("P9", "the window waits for acks", "1-4 wait:ack=4 5-6 wait:ack=6 7-8 end"),
    Case("P11", "a chunk that comes twice is acked again", "1-4 wait:ack=4 4 wait:again 5-8 end"),
    Case("P9", "acks are refused", "1-4 wait:ack=4 5-8 end", acks="503 503 503 409"),
    Case("P9", "acks are lost", "1-4 wait:ack=4 5-8 end", acks="cut cut cut"),
    # Ends
    Case("P13", "the request fails", "1-3 end", state="failed", last_seq=3),
    Case("P13", "somebody cancels the request", "1-3 end", state="cancelled", last_seq=3),
    Case("P16", "a reaped request goes on", "1-3 reaped revived 4-8 end"),
    Case("P4", "the history is lost", "1-3 error:history_lost", state="lost", last_seq=3),
    Case("P4", "the history is lost while away", "1-3 cut | 410", state="lost", last_seq=3),
    Case("P17", "the text was given up", "1-3 error:given_up", state="lost", last_seq=3),
    Case("P4", "the log forks", "1-3 4@log-b 5@log-b cut"),
    Case("HTTP", "the request is not known", "404", state="refused", last_seq=0),
    # Refusals
    Case("HTTP", "a request is malformed", "", creates="400", state="refused", last_seq=0),
    Case("Authentication", "a key is not valid", "", creates="401", state="refused", last_seq=0),
    Case("P17", "the queue is full", "1-8 end", creates="429;1", edges=1),
    Case("P17", "the store is full", "1-8 end", creates="503;1", edges=1),
    Case("HTTP", "the answer to a question is lost", "1-8 end", creates="cut"),
    Case("Server-sent events", "an edge has no store", "1-3 cut | 503 | 503"),
    Case("P17", "too many connections", "1-3 cut | 429;1", edges=1),
    Case("P17", "an edge asks for patience", "1-3 cut | 503;1", edges=1),
)
