"""Generator pods as the API server reports them, and the pod that an owner's name belongs to."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

COMPONENT_LABEL, COMPONENT = "app.kubernetes.io/component", "generator"
STORE = "valkey"
"""The component of the store that comes with the chart."""
COST = "controller.kubernetes.io/pod-deletion-cost"
INSTANCE_LABEL = "app.kubernetes.io/instance"
HOSTNAME_CHARS = 63
BACK_OFF, USUAL = "CrashLoopBackOff", ("ContainerCreating", "PodInitializing")
"""Reasons for which a container waits: after failures, and in any start."""
WHY = "why: "
"""Begins a line of a generator's last words that is a reason, and no name."""

# An owner's name is its host's, with a random part for each process; see ``generator_id`` in the
# generator's settings.
_OWNER = re.compile(r"(?P<hostname>.+)-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    uid: str
    hostname: str
    ready: bool
    leaving: bool
    """Whether it was asked to end. It hands its requests back by itself."""
    cost: int | None
    """Its deletion cost, as annotated."""
    generator: bool = True
    """Whether it is labelled as a generator of this operator's release. A policy may select other
    pods; nothing is ever written to those.
    """
    over: bool = False
    """Whether nothing of it runs, or will ever run."""
    ended: frozenset[str] = frozenset()
    """The owners' names that its ended containers have left. Every generator process leaves its
    name there (its ``termination_log.py``).
    """
    trouble: str = ""
    """Why it does not run, or why it last ended, as far as Kubernetes or its last words say."""


def pod_from(body: Mapping[str, Any], release: str = "") -> Pod:
    """``release`` is the operator's own. If it is '', any generator counts as its own."""
    meta, status = body["metadata"], body.get("status", {})
    labels = meta.get("labels", {})
    conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        hostname=(body.get("spec", {}).get("hostname") or meta["name"])[:HOSTNAME_CHARS].rstrip(
            "-."
        ),
        ready=conditions.get("Ready") == "True",
        leaving="deletionTimestamp" in meta,
        trouble=_trouble(status),
        cost=_cost(meta.get("annotations", {}).get(COST)),
        generator=labels.get(COMPONENT_LABEL) == COMPONENT
        and release in ("", labels.get(INSTANCE_LABEL)),
        over=status.get("phase") in ("Succeeded", "Failed"),
        ended=_last_words(status),
    )


def _last_words(status: Mapping[str, Any]) -> frozenset[str]:
    containers = status.get("containerStatuses", ())
    states = (one.get(state, {}) for one in containers for state in ("state", "lastState"))
    messages = (state.get("terminated", {}).get("message", "") for state in states)
    lines = (line for message in messages for line in message.splitlines())
    return frozenset(word for line in lines if not line.startswith(WHY) for word in line.split())


def _trouble(status: Mapping[str, Any]) -> str:
    for one in status.get("conditions", ()):
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return f"it has no node: {one.get('message') or one.get('reason', 'unknown')}"
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    for container in containers:
        ended = container.get("lastState", {}).get("terminated", {})
        waits = container.get("state", {}).get("waiting", {})
        # The message of a back-off counts seconds, so it would be new each time.
        reason = waits.get("reason", "")
        said = waits.get("message", "") if reason != BACK_OFF else ""
        parts = [reason if reason not in USUAL else "", said, _why(ended)]
        if told := ": ".join(part for part in parts if part):
            return told
    return ""


def _why(ended: Mapping[str, Any]) -> str:
    """Why a container ended, or ''."""
    if not ended or ended.get("exitCode") == 0:
        return ""
    lines = [line for line in ended.get("message", "").splitlines() if line.startswith(WHY)]
    reason = ended.get("reason", "Error")
    said = lines[-1].removeprefix(WHY) if lines else f"exit code {ended.get('exitCode', '?')}"
    return said if reason == "Error" and lines else f"{reason}, {said}"


def _cost(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def hostname_of(owner: str, hostnames: Iterable[str]) -> str | None:
    """The host to which an owner's name belongs; None when it is none of these."""
    if owner in hostnames:
        return owner
    called = _OWNER.fullmatch(owner)
    return called["hostname"] if called and called["hostname"] in hostnames else None
