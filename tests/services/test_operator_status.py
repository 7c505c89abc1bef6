"""What people are told of the fleet: the conditions that they ask for first, with reasons."""

from typing import Any

import pytest
import yaml

from lore.sweep import Finding
from lore_operator.news import AGAIN_MS, PolicyEvents
from lore_operator.plan import Tell, waiting_since_ms
from lore_operator.pods import Pod, pod_from
from lore_operator.status import Facts, new_status, rfc3339, trouble_of
from tests.chart.rendering import CHART
from tests.services import kube_stub

NOW, LATER = "2026-11-29T20:00:00Z", "2026-11-29T20:01:00Z"
NOW_MS = 1_764_446_400_000
READY = Pod("gen-1", "u", "gen-1", ready=True, leaving=False, cost=None)
STARTING = Pod("gen-2", "v", "gen-2", ready=False, leaving=False, cost=None)
LEAVING = Pod("gen-3", "w", "gen-3", ready=True, leaving=True, cost=None)
FAILING = Pod("gen-4", "x", "gen-4", ready=False, leaving=False, cost=None, trouble="no model")


def told(facts: Facts) -> dict[str, tuple[str, str, str]]:
    """(status, reason, message) by type."""
    status = new_status({"metadata": {"generation": 1}}, facts, NOW)
    assert status is not None
    return {
        one["type"]: (one["status"], one["reason"], one["message"]) for one in status["conditions"]
    }


@pytest.mark.parametrize(
    ("pods", "status", "reason", "words"),
    [
        (None, "Unknown", "NotSeen", "could not be listed"),
        ([], "False", "None", "no generator"),
        ([LEAVING, STARTING], "False", "Starting", "kubectl logs gen-2 says what it waits for"),
        ([LEAVING], "False", "Starting", "takes its time to load"),
        ([STARTING, FAILING], "False", "Failing", "gen-4: no model"),
        ([FAILING, READY], "True", "Ready", ""),
    ],
)
def test_it_is_said_whether_a_generator_is_ready_and_why_none_is(
    pods: list[Pod] | None, status: str, reason: str, words: str
) -> None:
    found = told(Facts(pods=pods))["GeneratorsReady"]
    assert found[:2] == (status, reason)
    assert words in found[2]


@pytest.mark.parametrize(
    ("facts", "kind", "status", "words"),
    [
        (Facts(), "StoreHasRoom", "True", ""),
        (Facts(store_full=True), "StoreHasRoom", "False", "memory is full"),
        (Facts(store_away="it is away"), "StoreHasRoom", "Unknown", "it is away"),
        (Facts(), "RequestsServed", "True", ""),
        (Facts(waiting_since=NOW), "RequestsServed", "False", f"the first since {NOW}"),
        (Facts(store_away="it is away"), "RequestsServed", "Unknown", "it is away"),
    ],
)
def test_it_is_said_whether_the_store_has_room_and_who_waits_since_when(
    facts: Facts, kind: str, status: str, words: str
) -> None:
    found = told(facts)[kind]
    assert found[0] == status
    assert words in found[2]


def test_a_wait_that_goes_on_is_not_written_again_and_again() -> None:
    """Its beginning is told, and not how long it has lasted."""
    found = [Tell(Finding.WAITING, 3, 90_000), Tell(Finding.STUCK, 1, 999_000)]
    since = rfc3339(waiting_since_ms([*found], NOW_MS))
    later = [Tell(Finding.WAITING, 9, 95_000)]
    assert rfc3339(waiting_since_ms([*later], NOW_MS + 5000)) == since
    body: dict[str, Any] = {"metadata": {"generation": 1}}
    status = new_status(body, Facts(pods=[], waiting_since=since), NOW)
    assert status is not None
    assert new_status(body | {"status": status}, Facts(pods=[], waiting_since=since), LATER) is None
    assert waiting_since_ms([], NOW_MS) == 0
    assert rfc3339(0) == ""


def test_the_definition_knows_every_condition_and_what_its_parts_may_be() -> None:
    crd = yaml.safe_load((CHART / "files/streampolicy-crd.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    kinds = schema["properties"]["conditions"]["items"]["properties"]["type"]["enum"]
    assert list(told(Facts())) == kinds


def test_trouble_is_an_event_once_while_it_lasts() -> None:
    news = PolicyEvents()

    def reasons(now_ms: int, failing: str) -> list[str]:
        return [one.reason for one in news.take((), "", "", now_ms, failing=failing)]

    assert reasons(0, trouble_of([STARTING, FAILING])) == ["NoGenerator"]
    assert reasons(1, trouble_of([STARTING, FAILING])) == []
    assert reasons(AGAIN_MS, trouble_of([FAILING])) == ["NoGenerator"]
    assert reasons(AGAIN_MS + 1, trouble_of([FAILING, READY])) == []


# what a pod says of itself


def shown(**container: Any) -> str:
    body = kube_stub.pod(ready=False)
    body["metadata"]["uid"] = "u"
    body["status"]["containerStatuses"] = [{"name": "generator", "state": {}} | container]
    return pod_from(body).trouble


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


@pytest.mark.parametrize(
    ("container", "trouble"),
    [
        ({"state": {"running": {}}}, ""),
        ({"state": waiting("ContainerCreating")}, ""),
        (
            {"state": waiting("ImagePullBackOff", "Back-off pulling image x")},
            "ImagePullBackOff: Back-off pulling image x",
        ),
        (
            {"state": waiting("CreateContainerConfigError", 'secret "hub" not found')},
            'CreateContainerConfigError: secret "hub" not found',
        ),
        (
            {
                "state": waiting("CrashLoopBackOff", "back-off 40s restarting"),
                "lastState": ended(1, "gen-1-0000000a\nwhy: no model x: not on the hub\n"),
            },
            "CrashLoopBackOff: no model x: not on the hub",
        ),
        (
            {"state": {"running": {}}, "lastState": ended(137, "gen-1-0000000a\n", "OOMKilled")},
            "OOMKilled, exit code 137",
        ),
        ({"state": {"running": {}}, "lastState": ended(1)}, "Error, exit code 1"),
        ({"state": {"running": {}}, "lastState": ended(0)}, ""),
    ],
)
def test_a_pod_s_trouble_is_named(container: dict[str, Any], trouble: str) -> None:
    assert shown(**container) == trouble


def test_a_pod_without_a_node_says_so() -> None:
    body = kube_stub.pod(ready=False)
    body["metadata"]["uid"] = "u"
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    body["status"]["conditions"].append(
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    )
    assert pod_from(body).trouble == f"it has no node: {message}"


def test_a_reason_among_the_last_words_is_no_owner_s_name() -> None:
    body = kube_stub.pod(last_words="gen-1-0000000a\nwhy: gen-2-0000000b took it\n")
    body["metadata"]["uid"] = "u"
    assert pod_from(body).ended == {"gen-1-0000000a"}


@pytest.mark.parametrize(
    ("release", "instance", "ours"),
    [
        ("", "lore", True),
        ("", None, True),
        ("lore", "lore", True),
        ("lore", "other", False),
        ("lore", None, False),
    ],
)
def test_only_pods_of_its_own_release_are_written_on(
    release: str, instance: str | None, ours: bool
) -> None:
    body = kube_stub.pod()
    body["metadata"]["uid"] = "u"
    if instance is not None:
        body["metadata"]["labels"]["app.kubernetes.io/instance"] = instance
    assert pod_from(body, release).generator is ours
