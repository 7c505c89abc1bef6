"""The cluster that $KUBECONFIG names, through kubectl."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

CALL_S = 60.0
READY_S = 180
LOOK_EVERY_S = 0.5

Object = dict[str, Any]


class Failed(Exception):
    """kubectl said no, or what was waited for did not come."""


def kubectl(*words: str, stdin: str | None = None, timeout_s: float = CALL_S) -> str:
    """What it prints. Raises Failed with what it says."""
    try:
        done = subprocess.run(
            ["kubectl", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"kubectl {' '.join(words)}: no end within {timeout_s:g} s") from None
    if done.returncode:
        raise Failed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def apply(*objects: Object) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    kubectl("apply", "-f", "-", stdin=json.dumps(listed))


class Namespace:
    """One namespace of it. The calls block; call them from a thread while readers read."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *words: str, timeout_s: float = CALL_S) -> str:
        return kubectl("-n", self.name, *words, timeout_s=timeout_s)

    def get(self, *words: str) -> Object:
        return json.loads(self("get", *words, "-o", "json"))

    def listed(self, kinds: str, selector: str) -> list[Object]:
        return self.get(kinds, "-l", selector)["items"]

    def rolled_out(self, workload: str) -> None:
        """Wait until all its pods are ready and new."""
        self("rollout", "status", workload, f"--timeout={READY_S}s", timeout_s=READY_S + CALL_S)

    def delete(self) -> None:
        kubectl("delete", "namespace", self.name, "--ignore-not-found", timeout_s=READY_S)


async def until(look: Callable[[], bool], what: str, within_s: float = READY_S) -> None:
    """Look again and again, in a thread. Raises Failed."""
    give_up_at = time.monotonic() + within_s
    while not await asyncio.to_thread(look):
        if time.monotonic() > give_up_at:
            raise Failed(f"{what}: not within {within_s:g} s")
        await asyncio.sleep(LOOK_EVERY_S)


def names(objects: list[Object]) -> list[str]:
    return [f"{one['kind']}/{one['metadata']['name']}" for one in objects]
