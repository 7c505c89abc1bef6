"""Health and metrics on a port and a thread of their own.

A busy event loop must not turn load into restarts. Liveness says that the process can still answer,
readiness what the service reports about itself. Neither waits for the loop.

Connections are few and short. One that takes too long is closed. If there are too many, the oldest
is closed, because a probe is the newest and takes a moment.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

MAX_CONNECTIONS = 16
DEADLINE_S = 5.0  # the longest that a connection may last
BACKLOG = 64
ACCEPT_RETRY_S = 0.1

Check = Callable[[], str | None]
"""Returns None when all is well, else a short reason."""


class _Server(ThreadingHTTPServer):
    """Closes connections that are silent, slow or too many."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._began: dict[socket.socket, float] = {}  # oldest first
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            time.sleep(ACCEPT_RETRY_S)  # no file descriptors: the listener stays readable, so pause
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            while len(self._began) >= MAX_CONNECTIONS:
                self._end(next(iter(self._began)))
            self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Called twice a second."""
        late = time.monotonic() - DEADLINE_S
        with self._lock:
            for request in [one for one, began in self._began.items() if began <= late]:
                self._end(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._began.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of peers that were closed or have left."""

    def _end(self, request: socket.socket) -> None:
        """Shut it down: its thread wakes at once and closes it."""
        del self._began[request]
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


class HealthServer:
    """Serves ``/livez``, ``/readyz``, ``/metrics`` of ``registry``, and ``/startupz`` for a service
    that starts slowly. All checks are called in its thread.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        live: Check,
        ready: Check,
        started: Check | None = None,
        registry: CollectorRegistry,
    ) -> None:
        """Bind at once. Raises OSError when the port is taken."""
        checks = {"/livez": live, "/readyz": ready}
        if started is not None:
            checks["/startupz"] = started

        class Handler(BaseHTTPRequestHandler):
            default_request_version = "HTTP/1.0"  # so that an error always has a status line
            error_content_type = "text/plain"
            error_message_format = "%(message)s\n"

            def do_HEAD(self) -> None:
                """Some load balancers probe with HEAD."""
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    encode, kind = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, encode(registry), kind)
                elif path in checks:
                    reason = checks[path]()
                    self._answer(503 if reason else 200, (reason or "ok").encode() + b"\n")
                else:
                    self._answer(404, b"not found\n")

            def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                with contextlib.suppress(ConnectionError):  # the prober has given up
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing: a line per probe would drown everything else."""

        self._server = _Server((host, port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
