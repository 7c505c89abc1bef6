"""The chart rendered with a cluster at hand: a stand-in for the API server that Helm asks.

It only knows what it is given, and takes nothing.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml
from helm_python.config import Config

from tests.chart.rendering import NAMESPACE, RELEASE, Object, chart, load_all

KINDS = {
    "v1": [
        ("secrets", "Secret", True),
        ("persistentvolumeclaims", "PersistentVolumeClaim", True),
    ],
    "apps/v1": [("deployments", "Deployment", True), ("statefulsets", "StatefulSet", True)],
    "apiextensions.k8s.io/v1": [
        ("customresourcedefinitions", "CustomResourceDefinition", False),
    ],
    "lore.dev/v1alpha1": [("streampolicies", "StreamPolicy", True)],
}
PLURALS = {kind: name for kinds in KINDS.values() for name, kind, _ in kinds}


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _address(one: Object) -> str:
    meta = one["metadata"]
    within = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    return f"{_root(one['apiVersion'])}{within}/{PLURALS[one['kind']]}/{meta['name']}"


def _discovery(served: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "/version", {"major": "1", "minor": "36", "gitVersion": "v1.36.2"}
    yield "/api", {"kind": "APIVersions", "versions": ["v1"]}
    groups = [version.split("/") for version in served if "/" in version]
    named = [
        (group, {"groupVersion": f"{group}/{version}", "version": version})
        for group, version in groups
    ]
    yield (
        "/apis",
        {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {"name": group, "versions": [version], "preferredVersion": version}
                for group, version in named
            ],
        },
    )
    for version, kinds in served.items():
        resources = [
            {"name": name, "singularName": "", "kind": kind, "namespaced": inside, "verbs": ["get"]}
            for name, kind, inside in kinds
        ]
        yield (
            _root(version),
            {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": version,
                "resources": resources,
            },
        )


@contextmanager
def cluster(*objects: Object) -> Iterator[Config]:
    """One that has these. It serves StreamPolicies if their definition is among them."""
    defined = any(one["kind"] == "CustomResourceDefinition" for one in objects)
    served = {name: kinds for name, kinds in KINDS.items() if defined or "lore.dev" not in name}
    known = dict(_discovery(served)) | {_address(one): one for one in objects}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
            body = known.get(self.path.partition("?")[0])
            data = json.dumps(missing if body is None else body).encode()
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    context = {
        "clusters": [{"name": "a", "cluster": {"server": address}}],
        "users": [{"name": "a", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    content = yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **context})
    try:
        with Config(kubeconfig_content=content, namespace=NAMESPACE) as config:
            yield config
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def render(
    config: Config, values: Mapping[str, Any] | None = None, name: str = RELEASE
) -> list[Object]:
    """As an upgrade would."""
    rendered = config.render(
        chart(), dict(values or {}), name=name, namespace=NAMESPACE, is_upgrade=True
    )
    return [
        one for path, text in rendered.items() if path.endswith(".yaml") for one in load_all(text)
    ]
