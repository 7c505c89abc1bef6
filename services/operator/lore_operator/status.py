"""A StreamPolicy's status: three conditions and how many generators there are.

``lastTransitionTime`` moves when a condition's status does, and nothing is written when
nothing changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lore_operator.pods import Pod


@dataclass(frozen=True, slots=True)
class Facts:
    """What a sweep learned. Empty words: all is well."""

    invalid: str = ""
    """What is wrong with the spec."""
    store_away: str = ""
    denied: str = ""
    pods: Sequence[Pod] | None = None
    """None when they could not be listed."""
    store_full: bool = False


def new_status(body: dict[str, Any], facts: Facts, now: str) -> dict[str, Any] | None:
    """The status that this StreamPolicy should have, or None when it has it.

    ``now`` as Kubernetes writes times (RFC 3339, seconds).
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
    return [ready, store, permitted]


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
