"""Generator pods as the API server shows them, and which of them an owner's name means."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

COMPONENT_LABEL, COMPONENT = "app.kubernetes.io/component", "generator"
COST = "controller.kubernetes.io/pod-deletion-cost"
HOSTNAME_CHARS = 63

# An owner is called after its host, with a part of its own for each process; see
# ``generator_id`` of the generator's settings.
_OWNER = re.compile(r"(?P<hostname>.+)-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    uid: str
    hostname: str
    ready: bool
    leaving: bool
    """It was asked to end, and hands its requests back by itself."""
    cost: int | None
    """What it would cost to delete it, as written on it."""
    generator: bool = True
    """It is labelled as one. A policy may select others; nothing is ever written on those."""
    over: bool = False
    """Nothing of it runs, or ever will."""
    ended: frozenset[str] = frozenset()
    """The last words of its containers that have ended. Every generator's process leaves the
    name there by which it owns requests (its ``last_words.py``)."""


def pod_from(body: Mapping[str, Any]) -> Pod:
    meta, status = body["metadata"], body.get("status", {})
    conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        hostname=(body.get("spec", {}).get("hostname") or meta["name"])[:HOSTNAME_CHARS].rstrip(
            "-."
        ),
        ready=conditions.get("Ready") == "True",
        leaving="deletionTimestamp" in meta,
        cost=_cost(meta.get("annotations", {}).get(COST)),
        generator=meta.get("labels", {}).get(COMPONENT_LABEL) == COMPONENT,
        over=status.get("phase") in ("Succeeded", "Failed"),
        ended=_last_words(status),
    )


def _last_words(status: Mapping[str, Any]) -> frozenset[str]:
    containers = status.get("containerStatuses", ())
    states = (one.get(state, {}) for one in containers for state in ("state", "lastState"))
    messages = (state.get("terminated", {}).get("message", "") for state in states)
    return frozenset(word for message in messages for word in message.split())


def _cost(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def hostname_of(owner: str, hostnames: Iterable[str]) -> str | None:
    """Which of these hosts the owner is called after; None when it is none of them."""
    if owner in hostnames:
        return owner
    called = _OWNER.fullmatch(owner)
    return called["hostname"] if called and called["hostname"] in hostnames else None
