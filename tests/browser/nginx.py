"""A real nginx in front of edges, as its package has it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_LIMIT_S = 30
STOP_LIMIT_S = 10

_CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {place}/pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {place}/body;
  proxy_temp_path {place}/proxy;
  fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi;
  scgi_temp_path {place}/scgi;
  server {{
    listen 127.0.0.1:{port};
    {locations}
  }}
}}
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def nginx(place: Path, locations: str) -> Iterator[str]:
    """Serves ``locations`` until the block ends; gives its URL. Skips where there is no nginx."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed: nothing is tried behind it")
    port = _free_port()
    config = place / "nginx.conf"
    user = "user root;" if place.owner() == "root" else ""
    config.write_text(_CONFIG.format(place=place, port=port, user=user, locations=locations))
    process = subprocess.Popen([program, "-e", "stderr", "-p", str(place), "-c", str(config)])
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(STOP_LIMIT_S)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, "nginx did not start"
            assert time.monotonic() < until, "nginx does not listen"
            time.sleep(0.02)
