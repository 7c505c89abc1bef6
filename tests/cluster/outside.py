"""A Valkey that is not the chart's, beside it: it follows the bundled one, and takes its place."""

import json
import time

from tests.cluster.kube import Object, apply
from tests.cluster.release import Release

NAME = "outside"
PORT = 6379
WAIT_S = 120.0
IN_STEP = "master_link_status:up"
START = """exec valkey-server --requirepass "$VALKEY_PASSWORD" --primaryauth "$VALKEY_PASSWORD" \\
  --appendonly yes --dir /tmp --maxmemory-policy noeviction --protected-mode no"""


class Outside:
    """The calls block."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._namespace = release.namespace
        self._bundled = f"{release.component('valkey')}-0"
        self._service = release.component("valkey")

    def start(self) -> None:
        """With the bundled one's image and password."""
        (bundled,) = self._release.pods("valkey")
        (container,) = bundled["spec"]["containers"]
        metadata = {"name": NAME, "namespace": self._namespace.name, "labels": {"app": NAME}}
        ours = {
            "name": NAME,
            "image": container["image"],
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", START],
            "env": container["env"],
        }
        port = {"name": "valkey", "port": PORT}
        apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": metadata,
                "spec": {"containers": [ours]},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"selector": {"app": NAME}, "ports": [port]},
            },
        )
        self._namespace("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=50s")
        self.bring_secret()

    def bring_secret(self) -> None:
        """With the whole URL, as the values name it."""
        password = self.ask(NAME, "CONFIG", "GET", "requirepass").split()[-1]
        apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": NAME, "namespace": self._namespace.name},
                "stringData": {"url": f"valkey://:{password}@{NAME}:{PORT}"},
            }
        )

    def ask(self, pod: str, *words: str) -> str:
        return self._namespace("exec", pod, "--", "valkey-cli", *words)

    def follow(self) -> None:
        self.ask(NAME, "REPLICAOF", self._service, str(PORT))
        self._until(NAME, "replication", IN_STEP)

    def take_over(self) -> None:
        """No write is lost: the bundled one takes none until this one has all."""
        password = self.ask(NAME, "CONFIG", "GET", "requirepass").split()[-1]
        self.ask(self._bundled, "CONFIG", "SET", "primaryauth", password)
        self.ask(self._bundled, "FAILOVER")
        self._until(NAME, "replication", "role:master")
        self._lead_here()
        self._namespace("scale", self._release.workload("valkey"), "--replicas=0")

    def _until(self, pod: str, section: str, words: str) -> None:
        give_up_s = time.monotonic() + WAIT_S
        while words not in self.ask(pod, "INFO", section):
            assert time.monotonic() < give_up_s, f"{pod} does not come to say {words}"
            time.sleep(0.2)  # a server tells nobody how its replication goes

    def _lead_here(self) -> None:
        """The bundled one's Service leads to this one."""
        nobody = json.dumps({"spec": {"selector": {"app.kubernetes.io/component": "moved"}}})
        self._namespace("patch", "service", self._service, "-p", nobody)
        pod: Object = self._namespace.get("pod", NAME)
        apply(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": NAME,
                    "namespace": self._namespace.name,
                    "labels": {"kubernetes.io/service-name": self._service},
                },
                "addressType": "IPv4",
                "ports": [{"name": "valkey", "port": PORT}],
                "endpoints": [{"addresses": [pod["status"]["podIP"]]}],
            }
        )
