"""What no API does to a pod: kills it as the kernel does when memory is out, freezes it, drops its
packets.

Only the node can, so a privileged pod on it does. Its image is the edge's, which has a Python.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.cluster.kube import Failed, Namespace, Object, apply

NAME = "killer"
FIND = """
import contextlib, os, pathlib, subprocess, sys
def processes(id):
    names = id, id.replace("-", "_")
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            inside = any(name in (folder / "cgroup").read_text() for name in names)
            if inside and (folder / "comm").read_text() != "pause\\n":
                yield int(folder.name)
"""
SEND = f"""{FIND}
for process in processes(sys.argv[1]):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, int(sys.argv[2]))
"""
IN_ITS_NETWORK = f"""{FIND}
network = f"--net=/proc/{{next(processes(sys.argv[1]))}}/ns/net"
for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
    with contextlib.suppress(OSError):
        if comm.read_text() == "kubelet\\n":
            kubelet = comm.parent.name
# With the node's files, among which iptables is.
command = ["nsenter", "--target", kubelet, "--mount", network, "--", "sh", "-c", sys.argv[2]]
path = dict(PATH="/usr/sbin:/sbin:/usr/bin:/bin")
sys.exit(subprocess.run(command, env=path).returncode)
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


async def kill(namespace: Namespace, pod: Object, container: str | None = None) -> None:
    """All of the pod, or one container of it."""
    await _send(namespace, _id(pod, container), signal.SIGKILL)


@asynccontextmanager
async def frozen(namespace: Namespace, pod: Object) -> AsyncIterator[None]:
    """Its processes stand still and its connections stay open."""
    await _send(namespace, _id(pod), signal.SIGSTOP)
    try:
        yield
    finally:
        await _send(namespace, _id(pod), signal.SIGCONT)


@asynccontextmanager
async def cut_off(namespace: Namespace, pod: Object, port: int) -> AsyncIterator[None]:
    """No packet goes to or from this port, its own or that of others, and nobody is told."""
    rules = [
        f"{chain} --protocol tcp {side} {port} --jump DROP"
        for chain in ("INPUT", "OUTPUT")
        for side in ("--sport", "--dport")
    ]
    begin = " && ".join(f"iptables --insert {rule}" for rule in rules)
    end = "; ".join(f"iptables --delete {rule}" for rule in rules)
    try:
        await _in_its_network(namespace, pod, begin)
        yield
    finally:
        await _in_its_network(namespace, pod, end)


async def has_iptables(namespace: Namespace, pod: Object) -> bool:
    try:
        await _in_its_network(namespace, pod, "iptables --list-rules")
    except Failed:
        return False
    return True


def _id(pod: Object, container: str | None = None) -> str:
    """What the node's groups of processes are named after."""
    if container is None:
        return pod["metadata"]["uid"]
    (status,) = [one for one in pod["status"]["containerStatuses"] if one["name"] == container]
    return status["containerID"].rpartition("/")[2]


async def _send(namespace: Namespace, of: str, number: signal.Signals) -> None:
    await _run(namespace, SEND, of, str(int(number)))


async def _in_its_network(namespace: Namespace, pod: Object, script: str) -> None:
    await _run(namespace, IN_ITS_NETWORK, _id(pod), script)


async def _run(namespace: Namespace, program: str, *words: str) -> None:
    await asyncio.to_thread(namespace, "exec", NAME, "--", "python3", "-c", program, *words)
