"""A page that asks Lore, and reads the answer straight from it with the browser's EventSource.

    LORE_URL=http://localhost:8080 LORE_API_KEY=lore_… python server.py

The API key stays here. What the page gets is the address of one answer, with a token that opens
this one for some minutes, because EventSource sends no headers. Lore has to let in pages from
here: start it with LORE_CORS_ORIGINS=http://localhost:3000.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import Request, urlopen

LORE = os.environ.get("LORE_URL", "http://localhost:8080")
KEY = os.environ.get("LORE_API_KEY", "")
PAGE = Path(__file__).with_name("page.html")


def call(path: str, body: object = None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else b""
    with urlopen(Request(LORE + path, data, headers)) as answer:  # noqa: S310
        return json.load(answer)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer("text/html; charset=utf-8", PAGE.read_bytes())

    def do_POST(self) -> None:
        """The address where the answer to this question can be read."""
        question = self.rfile.read(int(self.headers["Content-Length"])).decode()
        # "socket": the edge sees from the connection what was read, and the page says nothing.
        asked = call("/v1/streams", {"question": question, "ack": "socket"})
        token = call(f"/v1/streams/{asked['request_id']}/token")["token"]
        self.answer("text/plain", f"{urljoin(LORE, asked['stream_url'])}&token={token}".encode())

    def answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "3000"))), Handler)
print(f"http://localhost:{server.server_port}", flush=True)
server.serve_forever()
