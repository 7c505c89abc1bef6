"""A StreamPolicy's status: its conditions, and how many generators there are.

Ready, StoreReachable and Permitted say whether the operator does its work. StoreHasRoom,
GeneratorsReady and RequestsServed answer what a person asks first when readers wait.

``lastTransitionTime`` changes with a condition's status, and nothing is written when nothing
changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lore_operator.news import STORE_FULL
from lore_operator.pods import Pod

MAX_MESSAGE = 1000


def rfc3339(ms: int) -> str:
    """A time as Kubernetes writes it, in seconds; '' for 0."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if ms else ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a sweep found out. Empty strings mean that all is well."""

    invalid: str = ""
    """The mistakes in the spec."""
    store_away: str = ""
    denied: str = ""
    pods: Sequence[Pod] | None = None
    """None when they could not be listed."""
    store_full: bool = False
    waiting_since: str = ""
    """Since when the oldest request waits that has waited too long, in RFC 3339."""


def new_status(body: dict[str, Any], facts: Facts, now: str) -> dict[str, Any] | None:
    """The status that this StreamPolicy should have; None when it has it.

    ``now`` is in RFC 3339 with seconds, as Kubernetes writes times.
    """
    before = body.get("status", {})
    generation = body["metadata"].get("generation", 0)
    earlier = {one["type"]: one for one in before.get("conditions", ())}
    status: dict[str, Any] = {
        "observedGeneration": generation,
        "conditions": [
            _condition(one, earlier.get(one["type"], {}), generation, now)
            for one in _conditions(facts)
        ],
    }
    if facts.pods is not None:
        ready = sum(1 for pod in facts.pods if pod.ready and not pod.leaving)
        status["generators"] = {"ready": ready, "total": len(facts.pods)}
    return None if before == before | status else status


def _conditions(facts: Facts) -> list[dict[str, str]]:
    store = _of("StoreReachable", facts.store_away, "Unreachable", "Reachable", "The store answers")
    permitted = _of(
        "Permitted", facts.denied, "Forbidden", "Permitted", "The operator may do all that it needs"
    )
    wrong = [("InvalidSpec", facts.invalid)] if facts.invalid else []
    wrong += [
        (one["reason"], one["message"]) for one in (store, permitted) if one["status"] == "False"
    ]
    reason, message = wrong[0] if wrong else ("", "")
    ready = _of("Ready", message, reason, "Sweeping", "The policy is applied")
    return [ready, store, permitted, _room(facts), _generators(facts), _served(facts)]


def _room(facts: Facts) -> dict[str, str]:
    if facts.store_away:
        return _unseen("StoreHasRoom", facts.store_away)
    full = STORE_FULL if facts.store_full else ""
    return _of("StoreHasRoom", full, "Full", "HasRoom", "The store takes new requests")


def _generators(facts: Facts) -> dict[str, str]:
    kind = "GeneratorsReady"
    if facts.pods is None:
        return _unseen(kind, "The generators' pods could not be listed")
    if any(pod.ready and not pod.leaving for pod in facts.pods):
        return _of(kind, "", "", "Ready", "A generator is ready")
    if not facts.pods:
        return _of(kind, "There is no generator: requests wait until one comes", "None", "", "")
    if trouble := trouble_of(facts.pods):
        return _of(kind, trouble, "Failing", "", "")
    return _of(kind, _starting(facts.pods), "Starting", "", "")


def _starting(pods: Sequence[Pod]) -> str:
    """What only the pod's log says: whether it loads, or waits for a server that is not there."""
    loading = "Generators are starting: a model takes its time to load"
    names = [pod.name for pod in pods if not pod.leaving]
    if not names:
        return loading
    return f"{loading}, or its server to answer. kubectl logs {names[0]} says what it waits for"


def trouble_of(pods: Sequence[Pod]) -> str:
    """What keeps the generators from being ready, if none is ready and the reason is known; else
    ''.
    """
    if any(pod.ready and not pod.leaving for pod in pods):
        return ""
    return next((f"{pod.name}: {pod.trouble}" for pod in pods if pod.trouble), "")[:MAX_MESSAGE]


def _served(facts: Facts) -> dict[str, str]:
    if facts.store_away:
        return _unseen("RequestsServed", facts.store_away)
    since = facts.waiting_since
    late = f"Requests wait for a generator, the first since {since}" if since else ""
    return _of("RequestsServed", late, "Waiting", "Served", "No request waits for long")


def _unseen(kind: str, why: str) -> dict[str, str]:
    return {"type": kind, "status": "Unknown", "reason": "NotSeen", "message": why}


def _of(kind: str, wrong: str, bad: str, good: str, message: str) -> dict[str, str]:
    return {
        "type": kind,
        "status": "False" if wrong else "True",
        "reason": bad if wrong else good,
        "message": wrong or message,
    }


def _condition(
    now_is: dict[str, str], before: dict[str, Any], generation: int, now: str
) -> dict[str, Any]:
    same = before.get("status") == now_is["status"]
    return now_is | {
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if same else now,
    }
