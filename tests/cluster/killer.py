"""Kills what runs in a pod, as the kernel does when memory is out: no signal comes before.

Only the node can, so a privileged pod on it does. Its image is the edge's, which has a Python.
"""

import asyncio

from tests.cluster.kube import Namespace, Object, apply

NAME = "killer"
KILL = """
import os, pathlib, signal, sys
names = sys.argv[1], sys.argv[1].replace("-", "_")
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        inside = any(name in (folder / "cgroup").read_text() for name in names)
        if inside and (folder / "comm").read_text() != "pause\\n":
            os.kill(int(folder.name), signal.SIGKILL)
    except FileNotFoundError:
        pass
"""


def start_killer(namespace: Namespace, image: str) -> None:
    container = {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "securityContext": {"privileged": True, "runAsUser": 0},
    }
    apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": NAME, "namespace": namespace.name},
            "spec": {
                "hostPID": True,
                "terminationGracePeriodSeconds": 0,
                "containers": [container],
            },
        }
    )
    namespace("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=50s")


async def kill(namespace: Namespace, pod: Object) -> None:
    uid = pod["metadata"]["uid"]
    await asyncio.to_thread(namespace, "exec", NAME, "--", "python3", "-c", KILL, uid)
