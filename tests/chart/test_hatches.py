"""Each escape hatch in each workload: it reaches the pods, and what is rendered is still valid."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from helm_python.errors import HelmError

from tests.chart.kinds import mistakes
from tests.chart.matrix import MATRIX
from tests.chart.rendering import (
    CHART,
    ROOT,
    Object,
    chart,
    component_of,
    containers,
    of_kind,
    one_of,
    pods,
    render,
)
from tests.chart.test_values import generate

WORKLOADS: tuple[str, ...] = generate().WORKLOADS
KINDS = {"valkey.bundled": ("StatefulSet", "valkey")}


def values_at(workload: str, values: dict[str, Any]) -> dict[str, Any]:
    for name in reversed(workload.split(".")):
        values = {name: values}
    return values


def workload_of(objects: list[Object], workload: str) -> Object:
    return one_of(objects, *KINDS.get(workload, ("Deployment", workload)))


def spec_of(one: Object) -> dict[str, Any]:
    return one["spec"]["template"]["spec"]


def main_of(one: Object) -> dict[str, Any]:
    name = component_of(one)
    (main,) = [each for each in containers(one["spec"]["template"]) if each["name"] == name]
    return main


HELPER = {
    "name": "helper",
    "image": "registry.example.org/helper:1",
    "volumeMounts": [{"name": "more", "mountPath": "/more"}],
}
MORE = {"name": "more", "emptyDir": {"sizeLimit": "1Mi"}}
CLAIM = {"name": "gpu", "resourceClaimTemplateName": "one-gpu"}
CONTEXT = {"runAsUser": 4711, "supplementalGroups": [7]}
WITHOUT = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}

Found = Callable[[Object], Any]
HATCHES: dict[str, tuple[dict[str, Any], Found, Any]] = {
    "podLabels": (
        {"podLabels": {"team": "reading"}},
        lambda one: one["spec"]["template"]["metadata"]["labels"]["team"],
        "reading",
    ),
    "podAnnotations": (
        {"podAnnotations": {"example.org/note": "1"}},
        lambda one: one["spec"]["template"]["metadata"]["annotations"]["example.org/note"],
        "1",
    ),
    "env": (
        {"env": [{"name": "TZ", "value": "UTC"}]},
        lambda one: main_of(one)["env"][-1],
        {"name": "TZ", "value": "UTC"},
    ),
    "resources": (
        {"resources": {"requests": {"cpu": "7m"}}},
        lambda one: main_of(one)["resources"]["requests"]["cpu"],
        "7m",
    ),
    "extraVolumes": (
        {"extraVolumes": [MORE]},
        lambda one: spec_of(one)["volumes"][-1],
        MORE,
    ),
    "extraVolumeMounts": (
        {"extraVolumes": [MORE], "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}]},
        lambda one: main_of(one)["volumeMounts"][-1],
        {"name": "more", "mountPath": "/more"},
    ),
    "initContainers": (
        {"extraVolumes": [MORE], "initContainers": [HELPER]},
        lambda one: spec_of(one)["initContainers"],
        [HELPER],
    ),
    "sidecars": (
        {"extraVolumes": [MORE], "sidecars": [HELPER]},
        lambda one: spec_of(one)["containers"][1:],
        [HELPER],
    ),
    "serviceAccount": (
        {"serviceAccount": {"name": "ours", "annotations": {"example.org/role": "x"}}},
        lambda one: spec_of(one)["serviceAccountName"],
        "ours",
    ),
    "podSecurityContext": (
        {"podSecurityContext": CONTEXT},
        lambda one: {name: spec_of(one)["securityContext"][name] for name in CONTEXT},
        CONTEXT,
    ),
    "securityContext": (
        {"securityContext": {"readOnlyRootFilesystem": False, "runAsUser": 4711}},
        lambda one: main_of(one)["securityContext"],
        {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": False,
            "runAsUser": 4711,
        },
    ),
    "probes": (
        {"probes": {"startup": {"periodSeconds": 9}, "readiness": {"periodSeconds": 9}}},
        lambda one: [main_of(one)[f"{name}Probe"]["periodSeconds"] for name in PROBES],
        [9, 10, 9],
    ),
    "resourceClaims": (
        {"resourceClaims": [CLAIM], "resources": {"claims": [{"name": "gpu"}]}},
        lambda one: (spec_of(one)["resourceClaims"], main_of(one)["resources"]["claims"]),
        ([CLAIM], [{"name": "gpu"}]),
    ),
    "revisionHistoryLimit": (
        {"revisionHistoryLimit": 2},
        lambda one: one["spec"]["revisionHistoryLimit"],
        2,
    ),
}
PROBES = ("startup", "liveness", "readiness")


def test_the_table_has_every_hatch() -> None:
    assert list(HATCHES) == list(generate().HATCHES)


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("hatch", HATCHES)
def test_a_hatch_reaches_its_workload_alone(hatch: str, workload: str) -> None:
    values, found, expected = HATCHES[hatch]
    objects, plain = render(values_at(workload, values)), render()
    assert {one["metadata"]["name"]: mistakes(one) for one in objects if mistakes(one)} == {}
    assert found(workload_of(objects, workload)) == expected
    for other in set(WORKLOADS) - {workload}:
        assert steady(workload_of(objects, other)) == steady(workload_of(plain, other))


def steady(one: Object) -> Object:
    """Without what is random where there is no cluster."""
    one["spec"]["template"]["metadata"]["annotations"].pop("checksum/secrets")
    return one


@pytest.mark.parametrize("hatch", HATCHES)
def test_all_workloads_have_the_same_hatches_with_their_defaults(hatch: str) -> None:
    if hatch == "resources":
        return  # each asks for what it needs
    defaults = [at(chart().values, workload)[hatch] for workload in WORKLOADS]
    assert all(one == defaults[0] for one in defaults)


def at(values: Any, path: str) -> Any:
    for name in path.split("."):
        values = values[name]
    return values


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_probe_s_handler_is_replaced_and_a_probe_that_is_null_goes(workload: str) -> None:
    probes = {"startup": None, "liveness": {"grpc": {"port": 1}}}
    main = main_of(workload_of(render(values_at(workload, {"probes": probes})), workload))
    assert "startupProbe" not in main
    assert {"exec", "grpc", "httpGet", "tcpSocket"} & set(main["livenessProbe"]) == {"grpc"}
    assert "readinessProbe" in main


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_variable_of_the_user_s_replaces_the_chart_s_in_its_place(workload: str) -> None:
    mine = {"name": "VALKEY_PASSWORD", "value": "x"}
    main = main_of(workload_of(render(values_at(workload, {"env": [mine]})), workload))
    assert main["env"][0] == mine
    names = [one["name"] for one in main["env"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("workload", WORKLOADS)
def test_an_account_of_the_user_s_is_not_made_and_has_the_rights(workload: str) -> None:
    objects = render(values_at(workload, {"serviceAccount": {"create": False, "name": "ours"}}))
    assert spec_of(workload_of(objects, workload))["serviceAccountName"] == "ours"
    made = {component_of(one) for one in of_kind(objects, "ServiceAccount")}
    assert made == {"edge", "generator", "operator", "valkey"} - {workload.partition(".")[0]}
    (binding,) = of_kind(objects, "RoleBinding")
    (job,) = of_kind(objects, "Job")
    operator_s = spec_of(workload_of(objects, "operator"))["serviceAccountName"]
    assert binding["subjects"][0]["name"] == spec_of(job)["serviceAccountName"] == operator_s


def test_without_an_account_of_its_own_a_pod_runs_as_default() -> None:
    objects = render({"edge": {"serviceAccount": {"create": False}}})
    assert spec_of(workload_of(objects, "edge"))["serviceAccountName"] == "default"


def names_in(objects: list[Object], workload: str) -> set[tuple[str, str]]:
    """Each name of the chart's, with the value by which a user could give it again."""
    kind, component = KINDS.get(workload, ("Deployment", workload))
    return {
        (hatch, each["name"])
        for one in of_kind(objects, kind)
        if component_of(one) == component
        for hatch, field in (("extraVolumes", "volumes"), ("sidecars", "containers"))
        for each in spec_of(one)[field]
    }


@pytest.mark.parametrize("workload", WORKLOADS)
def test_no_name_of_the_chart_s_is_given_twice(workload: str) -> None:
    names = {name for values in MATRIX.values() for name in names_in(render(values), workload)}
    for hatch, name in names:
        mine = {"name": name, **({"image": "x"} if hatch == "sidecars" else {"emptyDir": {}})}
        with pytest.raises(HelmError, match=f"has a (volume|container) named {name},"):
            render(values_at(workload, {hatch: [mine]}))


def test_an_engine_in_the_pod_has_the_user_s_files_and_not_those_for_the_store() -> None:
    store = MATRIX["external Valkey"]
    engine = {"type": "vllm", "image": "registry.example.org/vllm:1"}
    hatches = {"extraVolumes": [MORE], "extraVolumeMounts": HELPER["volumeMounts"]}
    objects = render(store | {"generator": {"engine": engine} | hatches})
    main, server = containers(workload_of(objects, "generator")["spec"]["template"])
    mounts = [{one["name"] for one in each["volumeMounts"]} for each in (main, server)]
    assert mounts == [{"tmp", "valkey-tls", "more"}, {"engine-tmp", "more"}]


def test_an_engine_in_the_pod_needs_no_entry_for_its_user_in_its_image() -> None:
    """vLLM with a torch before 2.13 ends at the start where neither a variable nor a file says its
    user's name.
    """
    engine = {"type": "vllm", "image": "registry.example.org/vllm:1"}
    objects = render({"generator": {"engine": engine}})
    _, server = containers(workload_of(objects, "generator")["spec"]["template"])
    assert {"name": "USER", "value": "engine"} in server["env"]
    mine = {"name": "USER", "value": "me"}
    objects = render({"generator": {"engine": engine | {"env": [mine]}}})
    _, server = containers(workload_of(objects, "generator")["spec"]["template"])
    assert [one for one in server["env"] if one["name"] == "USER"] == [mine]


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_field_of_a_context_that_is_null_goes_from_one_workload_alone(workload: str) -> None:
    objects = render(values_at(workload, {"podSecurityContext": WITHOUT}))
    for one in WORKLOADS:
        fields = set(spec_of(workload_of(objects, one))["securityContext"])
        assert bool(fields & set(WITHOUT)) == (one != workload)


def test_on_openshift_no_pod_says_which_user_or_group_it_is() -> None:
    values = yaml.safe_load((ROOT / "k8s/samples/values-openshift.yaml").read_text())
    objects = render(values)
    for name, pod in pods(objects):
        whole = str(pod["spec"]["securityContext"])
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(pod["spec"]["securityContext"])
        assert "10001" not in whole, name
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    for policy in of_kind(objects, "NetworkPolicy"):
        if component_of(policy) != "valkey":
            ports = policy["spec"]["egress"][0]["ports"]
            assert {one["port"] for one in ports} == {5353}


def test_objects_of_the_user_s_come_with_the_release_as_they_are_or_as_templates() -> None:
    plain = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain"}}
    text = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n"
        '  name: {{ include "lore.fullname" . }}-text\n  namespace: {{ .Release.Namespace }}\n'
    )
    objects = of_kind(render({"extraObjects": [plain, text]}), "ConfigMap")
    assert plain in objects
    assert "lore-text" in [one["metadata"]["name"] for one in objects]


def test_the_operator_may_reach_what_it_is_told() -> None:
    rule = {"ports": [{"port": 16443}]}
    values = {"networkPolicy": {"operatorEgress": [rule]}}
    for one in of_kind(render(values), "NetworkPolicy"):
        assert (rule in one["spec"]["egress"]) == (component_of(one) == "operator")


@pytest.mark.parametrize(
    ("values", "lore", "valkey"),
    [
        ({}, "lore-edge:0.1.0", "docker.io/valkey/valkey:8.1-alpine"),
        (
            {"global": {"imageRegistry": "r.example.org/m/"}},
            "r.example.org/m/lore-edge:0.1.0",
            "r.example.org/m/valkey/valkey:8.1-alpine",
        ),
        (
            {"global": {"imageRegistry": "a"}, "image": {"registry": "b"}},
            "b/lore-edge:0.1.0",
            "a/valkey/valkey:8.1-alpine",
        ),
        (
            {
                "global": {"imageRegistry": "a"},
                "edge": {"image": {"repository": "localhost:5000/x"}},
                "valkey": {"bundled": {"image": {"repository": "docker.io/valkey/valkey"}}},
            },
            "localhost:5000/x:0.1.0",
            "docker.io/valkey/valkey:8.1-alpine",
        ),
        (
            {"valkey": {"bundled": {"image": {"registry": "r", "tag": "sha256:" + "a" * 64}}}},
            "lore-edge:0.1.0",
            "r/valkey/valkey@sha256:" + "a" * 64,
        ),
    ],
)
def test_one_registry_covers_all_images_unless_a_nearer_one_is_named(
    values: dict[str, Any], lore: str, valkey: str
) -> None:
    objects = render(values)
    assert main_of(workload_of(objects, "edge"))["image"] == lore
    assert main_of(workload_of(objects, "valkey.bundled"))["image"] == valkey


def test_what_subcharts_share_is_honoured() -> None:
    shared = {"imagePullSecrets": ["a", {"name": "b"}], "storageClass": "fast"}
    values = {"global": shared, "image": {"pullSecrets": ["a"]}}
    objects = render(values | {"generator": {"modelCache": {"enabled": True}}})
    for name, pod in pods(objects):
        assert pod["spec"]["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}], name
    (claim,) = of_kind(objects, "PersistentVolumeClaim")
    (template,) = workload_of(objects, "valkey.bundled")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == template["spec"]["storageClassName"] == "fast"


def test_without_a_cluster_only_what_is_random_differs_from_rendering_to_rendering() -> None:
    """README.md names it, and ``secrets.existing`` makes it equal."""
    one, other = render(), render()
    differing = {
        f"{first['kind']}/{component_of(first)}"
        for first, second in zip(one, other, strict=True)
        if first != second
    }
    workloads = {"Deployment/edge", "Deployment/generator", "Deployment/operator"}
    assert differing == workloads | {"StatefulSet/valkey", "Secret/secret"}
    for first, second in zip(one, other, strict=True):
        if first["kind"] in ("Deployment", "StatefulSet"):
            assert steady(first) == steady(second)
    readme = (CHART / "README.md").read_text()
    assert "checksum/secrets" in readme
    existing = {"secrets": {"existing": "mine"}}
    assert render(existing) == render(existing)
