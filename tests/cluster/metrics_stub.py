"""Metrics for HorizontalPodAutoscalers, served as prometheus-adapter would: a Python in a pod,
behind the API server's aggregation layer."""

import base64
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.kube import Object, apply, kubectl
from tests.cluster.release import Release

NAME = "metrics-stub"
VERSION = "v1beta1"
EXTERNAL, OF_PODS = "external.metrics.k8s.io", "custom.metrics.k8s.io"
VALUES_FILE = "/tmp/values.json"
OPENSSL = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=stub"
SERVER = f"""
import http.server, json, pathlib, ssl, time

KINDS = {{"{EXTERNAL}": ("ExternalMetricValueList", ""), "{OF_PODS}": ("MetricValueList", "pods/")}}

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if not self.path.startswith("/apis/"):
            self.send_error(404)
            return
        _, group, version, *rest = self.path.partition("?")[0].strip("/").split("/")
        served = json.loads(pathlib.Path("{VALUES_FILE}").read_text())[group]
        body = {{"apiVersion": f"{{group}}/{{version}}"}}
        if not rest:
            kind, prefix = KINDS[group]
            found = [{{"name": prefix + name, "namespaced": True, "kind": kind,
                      "singularName": "", "verbs": ["get"]}} for name in served]
            body |= {{"kind": "APIResourceList", "apiVersion": "v1",
                     "groupVersion": f"{{group}}/{{version}}", "resources": found}}
        else:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            name, values = rest[-1], served[rest[-1]]
            one = {{"metricName": name, "metricLabels": {{}}, "timestamp": now}}
            if group == "{OF_PODS}":
                pod = {{"apiVersion": "/v1", "kind": "Pod", "namespace": rest[1]}}
                items = [
                    one | {{"value": f"{{value:.3f}}", "describedObject": pod | {{"name": name}}}}
                    for name, value in values.items()
                ]
            else:
                items = [one | {{"value": f"{{values:.3f}}"}}]
            body |= {{"kind": KINDS[group][0], "metadata": {{}}, "items": items}}
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

    def set(
        self,
        external: Mapping[str, float],
        of_pods: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """``of_pods``: values by pod, by metric."""
        values = json.dumps({EXTERNAL: dict(external), OF_PODS: dict(of_pods or {})})
        # In one go: somebody may be reading it.
        write = f"cat > {VALUES_FILE}.new <<'E' && mv {VALUES_FILE}.new {VALUES_FILE}\n{values}\nE"
        self._namespace("exec", NAME, "--", "sh", "-c", write)


def is_taken() -> bool:
    there = kubectl("get", "apiservices", "-o", "name")
    return EXTERNAL in there or OF_PODS in there


@contextmanager
def serving(release: Release, *groups: str) -> Iterator[Stub]:
    """The groups of metrics, which are EXTERNAL and OF_PODS. They are served once they are set."""
    namespace = release.namespace
    names = [f"apiservice/{VERSION}.{group}" for group in groups]
    image = release.pods("edge")[0]["spec"]["containers"][0]["image"]
    apply(*_objects(namespace.name, image, groups))
    try:
        namespace("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=50s")
        for name in names:
            kubectl("wait", "--for=condition=Available", name, "--timeout=50s")
        yield Stub(release)
    finally:
        kubectl("delete", *names)
        namespace("delete", "pod,service,secret", NAME)


def _objects(namespace: str, image: str, groups: Sequence[str]) -> list[Object]:
    meta = {"name": NAME, "namespace": namespace, "labels": {"app": NAME}}
    first = f"echo '{json.dumps({group: {} for group in groups})}' > {VALUES_FILE}"
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
    aggregated: Object = {
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
        *(
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"{VERSION}.{group}"},
                "spec": aggregated | {"group": group},
            }
            for group in groups
        ),
    ]


def _certificate() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("tls.key", "tls.crt")}
        command = OPENSSL.split()
        outputs = ["-keyout", str(files["tls.key"]), "-out", str(files["tls.crt"])]
        subprocess.run([*command, *outputs], check=True, capture_output=True)
        return {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items()}
