"""StreamPolicy as the API server takes it: what is missing is filled in, what is wrong is refused.

Nothing is changed: the server is asked what it would do (``--dry-run=server``).
"""

import json
from typing import Any

import pytest

from tests.cluster.kube import Failed, Object, kubectl
from tests.cluster.release import Release
from tests.services.kube_stub import default_spec

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a stall that is no longer than a lease": (
        {"stall": {"afterSeconds": 15}, "lease": {"seconds": 15}},
        "stall.afterSeconds must be longer than lease.seconds",
    ),
    "a takeover that counts as stuck": (
        {"report": {"stuckAfterSeconds": 10}},
        "report.stuckAfterSeconds must be longer than lease.seconds",
    ),
    "pods that the operator does not watch": (
        {"generators": {"matchLabels": {"app": "mine"}}},
        "must contain app.kubernetes.io/component: generator",
    ),
    "a stall below its bound": ({"stall": {"afterSeconds": 9}}, "greater than or equal to 10"),
    "a retention below its bound": ({"retentionSeconds": 59}, "greater than or equal to 60"),
    "an action that there is not": (
        {"stall": {"action": "Drop"}},
        'supported values: "Reap", "Park"',
    ),
    "a word that there is not": ({"stal": {}}, 'unknown field "spec.stal"'),
}


def asked(release: Release, spec: dict[str, Any], name: str = "another") -> Object:
    """The policy as it would be kept. Raises Failed with the API server's words."""
    body = {"apiVersion": "lore.dev/v1alpha1", "kind": "StreamPolicy", "spec": spec}
    body["metadata"] = {"name": name, "namespace": release.namespace.name}
    words = ["apply", "--dry-run=server", "-o", "json", "-f", "-"]
    return json.loads(kubectl(*words, stdin=json.dumps(body)))


def test_what_is_not_said_is_filled_in(release: Release) -> None:
    assert asked(release, {})["spec"] == default_spec()


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_by_name(release: Release, case: str) -> None:
    spec, words = WRONG[case]
    with pytest.raises(Failed) as refused:
        asked(release, spec)
    assert words in str(refused.value)


def test_which_pods_it_is_about_cannot_be_changed(release: Release) -> None:
    (policy,) = release.namespace.get("streampolicies")["items"]
    generators, name = policy["spec"]["generators"], policy["metadata"]["name"]
    asked(release, policy["spec"] | {"retentionSeconds": 7200}, name)
    other = {"matchLabels": generators["matchLabels"] | {"one": "more"}}
    with pytest.raises(Failed, match="generators is immutable"):
        asked(release, policy["spec"] | {"generators": other}, name)
