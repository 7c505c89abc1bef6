"""Our parser of server-sent events reads what Chromium's own EventSource reads."""

import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Page

from lore_client.sse import SseParser
from tests.unit.sse_bytes import BOM, ENDS, LINES, STARTS, cut_up

STREAMS = 120
SEED = int(os.environ.get("LORE_SEED", "0"))
NAMES = ("message", "state", "end")

READ_ALL = """
async ([count, names]) => {
  const readOne = (n) => new Promise((done) => {
    const events = [];
    const source = new EventSource(`/${n}`);
    for (const name of names) source.addEventListener(name, (event) => {
      events.push([event.type, event.data, event.lastEventId]);
    });
    source.onerror = () => { source.close(); done(events); };
  });
  const found = [];
  for (let n = 0; n < count; n += 1) found.push(await readOne(n));
  return found;
}
"""


def stream(n: int) -> bytes:
    draw = random.Random(f"{SEED}:{n}")
    lines = [draw.choice(LINES) + draw.choice(ENDS) for _ in range(draw.randrange(40))]
    found = draw.choice(STARTS) + b"".join(lines)
    # A line end right after the byte order mark is text to Chromium, against the standard.
    return re.sub(rb"^\xef\xbb\xbf(?=[\r\n])", BOM + b":", found)


class Streams(BaseHTTPRequestHandler):
    """``/n`` is the n-th stream, in pieces; ``/page`` an empty page to read them from."""

    def do_GET(self) -> None:
        page = self.path == "/page"
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if page else "text/event-stream")
        self.end_headers()
        if not page and (n := self.path[1:]).isdecimal():
            for piece in cut_up(stream(int(n)), int(n) % 4):
                self.wfile.write(piece)
                self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Streams)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.browser
def test_any_bytes_are_read_as_the_browser_reads_them(
    address: str, new_page: Callable[..., Page]
) -> None:
    """Run other streams with LORE_SEED=n."""
    page = new_page()
    page.goto(f"{address}/page")
    for n, events in enumerate(page.evaluate(READ_ALL, [STREAMS, NAMES])):
        ours = [
            [event.event, event.data, event.last_event_id]
            for event in SseParser().feed(stream(n))
            if event.event in NAMES  # a page hears of no others
        ]
        assert ours == events, f"LORE_SEED={SEED}, stream {n}: {stream(n)!r}"
