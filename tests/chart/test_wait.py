"""The hook that waits for the API server to serve a kind that has just been defined."""

import datetime as dt
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.chart.rendering import containers, of_kind, render

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def write_certificate(folder: Path) -> None:
    """``ca.crt`` and ``key``, for 127.0.0.1 and an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(hours=1))
    builder = builder.not_valid_after(now + dt.timedelta(hours=1))
    here = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = builder.add_extension(here, critical=False).sign(key, hashes.SHA256())
    (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


class ApiServer(ThreadingHTTPServer):
    """Serves the kind from the third question on."""

    daemon_threads = True

    def __init__(self, account: Path) -> None:
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(account / "ca.crt", account / "key")
        self.socket = context.wrap_socket(self.socket, server_side=True)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, ApiServer)
        asked = self.server.asked
        asked.append((self.path, self.headers["Authorization"]))
        self.send_response(200 if len(asked) > 2 else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    write_certificate(tmp_path)
    (tmp_path / "token").write_text("a-token")
    server = ApiServer(tmp_path)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_job_ends_when_the_kind_is_served_and_not_before(
    api: ApiServer, tmp_path: Path
) -> None:
    (job,) = of_kind(render(), "Job")
    (container,) = containers(job["spec"]["template"])
    (script,) = container["args"]
    assert container["command"] == ["python3", "-c"]
    assert ACCOUNT in script
    done = subprocess.run(
        [sys.executable, "-c", script.replace(ACCOUNT, str(tmp_path))],
        env={
            "PATH": os.environ["PATH"],
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(api.server_address[1]),
        },
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    assert api.asked == [("/apis/lore.dev/v1alpha1", "Bearer a-token")] * 3
