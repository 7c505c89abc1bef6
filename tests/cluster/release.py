"""The chart as a release in a namespace of its own."""

import base64
import copy
import gzip
import json
import re
import time
from typing import Any

from helm_python.config import Config

from lore_operator.pods import COST
from tests.chart.rendering import CHART
from tests.cluster.kube import Namespace, Object, kubectl

TIMEOUT_S = 420
WORKLOADS = {
    "edge": "deployment",
    "generator": "deployment",
    "operator": "deployment",
    "valkey": "statefulset",
}
LEASE_S = 200
"""Longer than a reader of the tests waits: a request goes on after its generator was killed
because the operator takes it from there, and not because its lease ended."""
SMALL: dict[str, Any] = {"requests": {"cpu": "20m", "memory": "64Mi"}}
VALUES: dict[str, Any] = {
    "service": {"type": "NodePort"},
    "edge": {"settings": {"heartbeatS": 1}, "resources": SMALL},
    "generator": {
        "replicas": 2,
        "settings": {"engine": "synthetic", "leaseS": LEASE_S},
        "resources": SMALL,
    },
    "operator": {"resources": SMALL},
    "valkey": {"bundled": {"resources": SMALL, "persistence": {"size": "1Gi"}}},
}


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """``values`` with what ``more`` says otherwise."""
    result = copy.deepcopy(values)
    for key, value in more.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = merged(old, value)
        result[key] = value
    return result


class Release:
    """The calls block."""

    def __init__(
        self,
        name: str,
        namespace: str,
        *,
        brings_kind: bool = True,
        values: dict[str, Any] = VALUES,
    ) -> None:
        """Without ``brings_kind`` the StreamPolicy's definition is there and stays another's."""
        self.name = name
        self.brings_kind = brings_kind
        self.chart = CHART
        self._values = merged(values, {"crds": {"install": brings_kind}})
        self.namespace = Namespace(namespace)
        self._helm = Config(namespace=namespace)

    def install(self, wait: str = "watcher", **more: Any) -> None:
        """Returns when every pod is ready."""
        self._helm.install(
            str(self.chart),
            self.name,
            merged(self._values, more),
            create_namespace=True,
            wait=wait,
            timeout=TIMEOUT_S,
        )

    def upgrade(self, **more: Any) -> None:
        """To the values of the tests and these. Returns when every pod is new and ready."""
        values = merged(self._values, more)
        self._helm.upgrade(str(self.chart), self.name, values, wait="watcher", timeout=TIMEOUT_S)

    def test(self) -> str:
        """What ``helm test`` has to say."""
        return self._helm.test(self.name, timeout=TIMEOUT_S, logs=True)["logs"]

    def uninstall(self) -> None:
        self._helm.uninstall(self.name, timeout=TIMEOUT_S, wait="watcher", ignore_not_found=True)

    def notes(self) -> str:
        """What Helm printed, as it keeps it with the last revision."""
        mine = f"owner=helm,name={self.name}"
        *_, kept = sorted(
            self.namespace.listed("secrets", mine),
            key=lambda one: int(one["metadata"]["labels"]["version"]),
        )
        packed = base64.b64decode(base64.b64decode(kept["data"]["release"]))
        return json.loads(gzip.decompress(packed))["info"]["notes"]

    def component(self, component: str) -> str:
        return f"{self.name}-{component}"

    def workload(self, component: str) -> str:
        return f"{WORKLOADS[component]}/{self.component(component)}"

    def pods(self, component: str) -> list[Object]:
        mine = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"
        return self.namespace.listed("pods", mine)

    def busiest(self) -> Object | None:
        """The generator pod that it would cost most to delete, as the operator sees it."""
        costs = {pod["metadata"]["name"]: _cost(pod) for pod in self.pods("generator")}
        name = max(costs, key=lambda name: costs[name])
        return self.namespace.get("pod", name) if costs[name] else None

    def ready(self, component: str) -> list[Object]:
        return [
            pod
            for pod in self.pods(component)
            if "deletionTimestamp" not in pod["metadata"]
            and any(
                one["type"] == "Ready" and one["status"] == "True"
                for one in pod["status"].get("conditions", ())
            )
        ]

    def scale(self, component: str, pods: int) -> None:
        """Returns when so many are ready and the others have ended."""
        self.namespace("scale", self.workload(component), f"--replicas={pods}")
        self.namespace.rolled_out(self.workload(component))
        while len(self.pods(component)) != pods:
            time.sleep(1)

    def settled(self) -> None:
        """Wait until every workload has all its pods."""
        for component in WORKLOADS:
            self.namespace.rolled_out(self.workload(component))

    @property
    def url(self) -> str:
        """Of the edge's Service, on a node."""
        service = self.namespace.get("service", self.component("edge"))
        (node, *_) = self.namespace.get("nodes")["items"]
        (address,) = [
            one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"
        ]
        return f"http://{address}:{service['spec']['ports'][0]['nodePort']}"

    @property
    def api_key(self) -> str:
        secret = self.namespace.get("secret", self.name)
        return base64.b64decode(secret["data"]["api-key"]).decode()

    def left(self) -> list[Object]:
        """Every object in the namespace that bears the release's label."""
        kinds = kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
        plain = [kind for kind in kinds if not re.match(r"events|.*\.metrics\.k8s\.io", kind)]
        selector = f"app.kubernetes.io/instance={self.name}"
        return self.namespace.listed(",".join(plain), selector)


def _cost(pod: Object) -> int:
    return int(pod["metadata"].get("annotations", {}).get(COST, 0))
