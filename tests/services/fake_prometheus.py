"""A Prometheus as far as an edge asks one: every line has the value that the test says."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class FakePrometheus:
    url: str = ""
    value: str = "0.5"
    firing: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])
    """Every expression."""

    def answer(self, target: str) -> Any:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        self.asked.append(query["query"][0])
        if path.endswith("/query_range"):
            begin, end, step = (int(query[name][0]) for name in ("start", "end", "step"))
            # Nothing is known of the first half.
            times = range(begin + (end - begin) // 2 // step * step, end + 1, step)
            return [{"metric": {}, "values": [[at, self.value] for at in times]}]
        return [{"metric": {"alertname": name}, "value": [0, "1"]} for name in self.firing]


@contextmanager
def fake_prometheus() -> Iterator[FakePrometheus]:
    fake = FakePrometheus()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "success", "data": {"result": fake.answer(self.path)}})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
