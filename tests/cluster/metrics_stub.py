"""An external metric, served as prometheus-adapter would: a Python in a pod, behind the API
server's aggregation layer."""

import base64
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.kube import Object, apply, kubectl
from tests.cluster.release import Release

NAME = "metrics-stub"
GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
API_SERVICE = f"{VERSION}.{GROUP}"
VALUES_FILE = "/tmp/values.json"
OPENSSL = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=stub"
SERVER = f"""
import http.server, json, pathlib, ssl, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        values = json.loads(pathlib.Path("{VALUES_FILE}").read_text())
        body = {{"apiVersion": "{GROUP}/{VERSION}"}}
        if len(parts) < 6:
            kinds = [{{"name": name, "namespaced": True, "kind": "ExternalMetricValueList",
                      "singularName": "", "verbs": ["get"]}} for name in values]
            body |= {{"kind": "APIResourceList", "apiVersion": "v1",
                     "groupVersion": "{GROUP}/{VERSION}", "resources": kinds}}
        else:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            items = [{{"metricName": parts[5], "metricLabels": {{}}, "timestamp": now,
                      "value": str(values[parts[5]])}}]
            body |= {{"kind": "ExternalMetricValueList", "metadata": {{}}, "items": items}}
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("0.0.0.0", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


class Stub:
    def __init__(self, release: Release) -> None:
        self._namespace = release.namespace

    def set(self, values: Mapping[str, float]) -> None:
        write = f"cat > {VALUES_FILE} <<'E'\n{json.dumps(dict(values))}\nE"
        self._namespace("exec", NAME, "--", "sh", "-c", write)


def is_taken() -> bool:
    return API_SERVICE in kubectl("get", "apiservices", "-o", "name")


@contextmanager
def serving(release: Release, values: Mapping[str, float]) -> Iterator[Stub]:
    namespace = release.namespace
    image = release.pods("edge")[0]["spec"]["containers"][0]["image"]
    apply(*_objects(namespace.name, image, values))
    try:
        namespace("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=50s")
        kubectl("wait", "--for=condition=Available", f"apiservice/{API_SERVICE}", "--timeout=50s")
        yield Stub(release)
    finally:
        kubectl("delete", "apiservice", API_SERVICE)
        namespace("delete", "pod,service,secret", NAME)


def _objects(namespace: str, image: str, values: Mapping[str, float]) -> list[Object]:
    meta = {"name": NAME, "namespace": namespace, "labels": {"app": NAME}}
    first = f"echo '{json.dumps(dict(values))}' > {VALUES_FILE}"
    container = {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", f'{first}; exec python3 -c "$SERVER"'],
        "env": [{"name": "SERVER", "value": SERVER}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    }
    pod = {
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "tls", "secret": {"secretName": NAME}}],
    }
    aggregated = {
        "group": GROUP,
        "version": VERSION,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
        "service": {"name": NAME, "namespace": namespace, "port": 443},
    }
    service = {"selector": {"app": NAME}, "ports": [{"port": 443, "targetPort": 8443}]}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": _certificate()},
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": API_SERVICE},
            "spec": aggregated,
        },
    ]


def _certificate() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("tls.key", "tls.crt")}
        command = OPENSSL.split()
        outputs = ["-keyout", str(files["tls.key"]), "-out", str(files["tls.crt"])]
        subprocess.run([*command, *outputs], check=True, capture_output=True)
        return {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items()}
