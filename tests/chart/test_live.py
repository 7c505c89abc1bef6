"""What the chart does about what a cluster already has: secrets kept, definitions and policies."""

import copy
import re
from base64 import b64encode
from typing import Any

import pytest
from helm_python.errors import HelmError

from tests.chart import live, rendering
from tests.chart.rendering import NAMESPACE, RELEASE, Object, chart, of_kind, one_of

OWNED = {
    "meta.helm.sh/release-name": RELEASE,
    "meta.helm.sh/release-namespace": NAMESPACE,
}
WORKLOADS = {
    "edge": "Deployment",
    "generator": "Deployment",
    "operator": "Deployment",
    "valkey": "StatefulSet",
}


def secret(**changed: str) -> Object:
    (made,) = of_kind(rendering.render(), "Secret")
    made["metadata"]["uid"] = "a-uid"
    made["data"] |= {name: b64encode(value.encode()).decode() for name, value in changed.items()}
    return made


def definition(**annotations: str) -> Object:
    (made,) = of_kind(rendering.render(), "CustomResourceDefinition")
    made["metadata"]["annotations"] = annotations
    return made


def policy(**annotations: str) -> Object:
    (made,) = of_kind(rendering.render(), "StreamPolicy")
    made["metadata"]["annotations"] = annotations
    return made


def checksums(objects: list[Object]) -> dict[str, str | None]:
    return {
        name: one_of(objects, kind, name)["spec"]["template"]["metadata"]
        .get("annotations", {})
        .get("checksum/secrets")
        for name, kind in WORKLOADS.items()
    }


def test_the_notes_name_the_secrets_and_keys_that_pods_wait_for() -> None:
    values = {
        "secrets": {"existing": "mine"},
        "generator": {"engine": {"type": "vllm", "url": "https://x", "existingSecret": "theirs"}},
    }

    def noted(*objects: Object) -> str:
        with live.cluster(*objects) as config:
            rendered = config.render(chart(), values, name=RELEASE, namespace=NAMESPACE)
        return rendered["lore/templates/NOTES.txt"]

    there = secret()
    there["metadata"]["name"] = "mine"
    key: Object = {"apiVersion": "v1", "kind": "Secret", "data": {"key": "eA=="}}
    key["metadata"] = {"name": "theirs", "namespace": NAMESPACE}
    assert "mine, with api-keys, secret, valkey-password\n    theirs, with key\n" in noted()
    assert "did not find" not in noted(there, key)
    del there["data"]["api-keys"]
    notes = noted(there, key)
    assert "    mine, with api-keys\n" in notes
    assert "theirs" not in notes


def test_a_new_store_is_replaced_even_if_it_never_became_ready() -> None:
    """Nor does the chart change what Kubernetes lets nobody change in a set that is there."""
    made = one_of(rendering.render(), "StatefulSet", "valkey")
    assert made["spec"]["podManagementPolicy"] == "Parallel"
    made["spec"]["podManagementPolicy"] = "OrderedReady"
    with live.cluster(made) as config:
        kept = one_of(live.render(config), "StatefulSet", "valkey")
    assert kept["spec"]["podManagementPolicy"] == "OrderedReady"


def test_an_upgrade_keeps_the_secret_and_restarts_nobody() -> None:
    there = secret()
    with live.cluster(there) as config:
        one, other = live.render(config), live.render(config)
    (kept,) = of_kind(one, "Secret")
    assert kept["data"] == there["data"]
    assert one == other


@pytest.mark.parametrize(
    ("key", "restarted"),
    [
        ("secret", {"edge"}),
        ("valkey-password", set(WORKLOADS)),
        ("api-keys", set[str]()),
        ("api-key", set[str]()),
    ],
)
@pytest.mark.parametrize("existing", [False, True])
def test_a_changed_secret_restarts_those_who_read_it_once(
    key: str, restarted: set[str], existing: bool
) -> None:
    before = secret()
    after = copy.deepcopy(before)
    after["data"][key] = b64encode(b"another").decode()
    values = {"secrets": {"existing": before["metadata"]["name"]}} if existing else {}
    found: list[dict[str, str | None]] = []
    for there in (before, after):
        with live.cluster(there) as config:
            found.append(checksums(live.render(config, values)))
    first, second = found
    assert None not in first.values()
    assert {name for name in WORKLOADS if first[name] != second[name]} == restarted


def test_a_changed_url_restarts_its_component() -> None:
    external = {
        "existingSecret": "urls",
        "keys": {"edge": "e", "generator": "g", "operator": "o"},
    }
    values: dict[str, Any] = {
        "secrets": {"existing": "mine"},
        "valkey": {"bundled": {"enabled": False}, "external": external},
    }
    found: list[dict[str, str]] = []
    for password in ("a", "b"):
        data = {"e": "same", "g": password, "o": "same"}
        urls = {"name": "urls", "namespace": NAMESPACE, "uid": "u"}
        with live.cluster(
            {"apiVersion": "v1", "kind": "Secret", "metadata": urls, "data": data}
        ) as config:
            objects = live.render(config, values)
        pods = {
            name: one_of(objects, "Deployment", name)["spec"]["template"]["metadata"]
            for name in ("edge", "generator", "operator")
        }
        found.append({name: one["annotations"]["checksum/secrets"] for name, one in pods.items()})
    first, second = found
    assert {name for name in first if first[name] != second[name]} == {"generator"}


OWN: dict[str, Any] = {"valkey": {"bundled": {"enabled": False}, "external": {"url": "valkey://a"}}}
CACHE = {"modelCache": {"enabled": True, "accessMode": "ReadWriteMany"}}


def store(**persistence: Any) -> dict[str, Any]:
    return {"valkey": {"bundled": {"persistence": persistence}}}


def cache(**changed: Any) -> dict[str, Any]:
    return {"generator": {"modelCache": CACHE["modelCache"] | changed}}


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ({}, {}, None),
        ({}, store(size="8Gi"), "valkey.bundled.persistence.size is 8Gi, and lore-valkey has 4Gi"),
        ({}, store(size="4096Mi"), None),
        ({}, store(enabled=False), "persistence.enabled is false, and lore-valkey runs with a"),
        (store(enabled=False), {}, "persistence.enabled is true, and lore-valkey runs without a"),
        ({}, store(storageClass="fast"), 'storageClass (or global.storageClass) is "fast"'),
        ({}, {"global": {"storageClass": "fast"}}, 'is "fast", and lore-valkey has ""'),
        (store(storageClass="fast"), {"global": {"storageClass": "fast"}}, None),
        ({}, store(whenDeleted="Retain"), None),
        (store(size="1Gi"), OWN, None),
        (cache(), cache(), None),
        (cache(), cache(accessMode="ReadWriteOnce"), "and the claim lore-models has ReadWriteMany"),
        (cache(), cache(storageClass="fast"), "generator.modelCache.storageClass"),
        (cache(storageClass="fast"), cache(), None),
        (cache(), cache(size="0.05Ti"), None),
        (cache(), cache(size="49.5Gi"), "generator.modelCache.size is 49.5Gi"),
        (cache(), cache(enabled=False), None),
        (cache(), cache(existingClaim="x", size="1Gi"), None),
        ({}, {"nameOverride": "x", "fullnameOverride": "lore"}, "nameOverride changes the pods'"),
    ],
)
def test_what_kubernetes_would_not_change_is_refused_with_its_name(
    before: dict[str, Any], after: dict[str, Any], refused: str | None
) -> None:
    kinds = "StatefulSet", "PersistentVolumeClaim", "Deployment"
    there = of_kind(rendering.render(before), *kinds)
    with live.cluster(*there) as config:
        if refused is None:
            live.render(config, after)
            return
        with pytest.raises(HelmError, match=re.escape(refused)) as error:
            live.render(config, after)
    assert "docs/operations.md" in str(error.value) or "cannot shrink" in str(error.value)


def is_hook(one: Object) -> bool:
    return "helm.sh/hook" in one["metadata"]["annotations"]


def test_the_policy_is_a_hook_only_where_its_definition_comes_with_the_release() -> None:
    """A hook is deleted before it is made anew; anything else is changed in place. Either way it
    stays when the release goes, for as long as its definition."""
    owned = definition(**OWNED)
    for there, hook in (
        ([], True),
        ([owned], False),
        ([owned, policy(**OWNED)], False),
        ([owned, policy()], True),  # as a chart left it that knew hooks alone
        ([owned, policy(**OWNED | {"meta.helm.sh/release-name": "gone"})], True),
    ):
        with live.cluster(*there) as config:
            objects = live.render(config)
        (made,) = of_kind(objects, "StreamPolicy")
        assert is_hook(made) == hook
        assert made["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert bool(of_kind(objects, "Job")) == hook, "there is nothing to wait for"
        if hook:
            assert made["metadata"]["annotations"].items() >= OWNED.items()


@pytest.mark.parametrize(
    ("owner", "brought"),
    [
        (OWNED, True),
        ({}, True),
        (OWNED | {"meta.helm.sh/release-name": "other"}, False),
        (OWNED | {"meta.helm.sh/release-namespace": "other"}, False),
    ],
)
def test_a_definition_that_another_release_owns_is_left_to_it(
    owner: dict[str, str], brought: bool
) -> None:
    with live.cluster(definition(**owner)) as config:
        objects = live.render(config)
    assert bool(of_kind(objects, "CustomResourceDefinition")) == brought
    (made,) = of_kind(objects, "StreamPolicy")
    assert not is_hook(made)


def test_without_a_cluster_no_release_claims_the_definition() -> None:
    """Two that render it render the same, byte for byte."""
    path = "lore/templates/operator/crd.yaml"
    one, other = rendering.texts(name="one")[path], rendering.texts(name="other")[path]
    assert one == other
    assert "one" not in rendering.load_all(one)[0]["metadata"]["labels"].values()


def test_a_definition_that_is_brought_otherwise_needs_no_hook() -> None:
    """``crds.install: false``, for Argo CD and several releases."""
    objects = rendering.render({"crds": {"install": False}})
    (made,) = of_kind(objects, "StreamPolicy")
    assert not is_hook(made)
    assert of_kind(objects, "Job") == []


def test_another_template_of_the_job_is_another_job() -> None:
    """Kubernetes changes no Job's template."""
    names = [
        of_kind(rendering.render(values), "Job")[0]["metadata"]["name"]
        for values in ({}, {}, {"image": {"tag": "2"}}, {"podSecurityContext": {"runAsUser": 7}})
    ]
    assert len(set(names)) == 3
    assert names[0] == names[1]
