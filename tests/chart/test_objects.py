"""Every object, whatever the values: valid, labelled, and pointing at things that are there."""

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from lore import apikeys, metrics
from lore.settings import CommonSettings
from lore.tracing.settings import TracingSettings
from lore_edge.settings import EdgeSettings
from lore_generator.settings import GeneratorSettings
from lore_operator.rbac import NEEDS
from lore_operator.settings import OperatorSettings
from tests.chart.kinds import mistakes
from tests.chart.matrix import MATRIX
from tests.chart.rendering import (
    NAMESPACE,
    Object,
    chart,
    component_of,
    containers,
    of_kind,
    one_of,
    pods,
    render,
)

SETTINGS: dict[str, type[CommonSettings]] = {
    "edge": EdgeSettings,
    "generator": GeneratorSettings,
    "operator": OperatorSettings,
}
LARGER: dict[str, dict[str, Any]] = {
    "edge": {"graceS": 10, "prometheusUrl": "http://x"},
    "generator": {"modelRevision": "a" * 40},
}
"""Where a setting's smallest value would not do, or not go with another one's."""
CLUSTER_WIDE = {"CustomResourceDefinition"}
LABELS = {
    f"app.kubernetes.io/{name}"
    for name in ("name", "instance", "component", "part-of", "version", "managed-by")
} | {"helm.sh/chart"}
OF_A_RELEASE = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
}


@pytest.fixture(scope="module", params=MATRIX.values(), ids=list(MATRIX))
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return render(request.param)


def test_every_object_is_valid_without_an_unknown_field(objects: list[Object]) -> None:
    wrong = {f"{one['kind']}/{one['metadata']['name']}": mistakes(one) for one in objects}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_every_object_is_named_once_labelled_and_in_the_release_s_namespace(
    objects: list[Object],
) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))
    for one in objects:
        wide = one["kind"] in CLUSTER_WIDE  # no release's
        expected = LABELS - OF_A_RELEASE if wide else LABELS
        assert set(one["metadata"]["labels"]) >= expected, one["metadata"]["name"]
        if not wide:
            assert one["metadata"]["namespace"] == NAMESPACE, one["metadata"]["name"]


def test_a_new_version_of_the_chart_restarts_no_pod_by_itself(objects: list[Object]) -> None:
    for one in of_kind(objects, "Deployment", "StatefulSet"):
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert not {"app.kubernetes.io/version", "helm.sh/chart"} & set(labels)


def test_pods_keep_to_the_restricted_profile(objects: list[Object]) -> None:
    """Pod Security Standards, *restricted*, and a root file system that cannot be written."""
    for name, pod in pods(objects):
        spec, context = pod["spec"], pod["spec"]["securityContext"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for volume in spec.get("volumes", []):
            (kind,) = set(volume) - {"name"}
            assert kind in {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "hostPort" not in str(container.get("ports", "")), name


def test_no_command_line_holds_a_secret(objects: list[Object]) -> None:
    """Everybody on a node may read command lines."""
    for name, pod in pods(objects):
        for container in containers(pod):
            words = str(container.get("command", [])) + str(container.get("args", []))
            for variable in container.get("env", []):
                if "secretKeyRef" in variable.get("valueFrom", {}):
                    assert f"$({variable['name']})" not in words, name


def test_a_service_account_s_token_is_where_it_is_needed_alone(objects: list[Object]) -> None:
    needing = {
        name for name, pod in pods(objects) if pod["spec"].get("automountServiceAccountToken", True)
    }
    assert all(re.search(r"-(operator|wait-[0-9a-f]{8})$", name) for name in needing)


def test_every_container_asks_for_cpu_and_bounds_its_memory(objects: list[Object]) -> None:
    for name, pod in pods(objects):
        for container in containers(pod):
            assert "cpu" in container["resources"]["requests"], name
            assert "memory" in container["resources"]["limits"], name


def test_selectors_find_the_pods_of_their_component_alone(objects: list[Object]) -> None:
    templates = {name: pod["metadata"]["labels"] for name, pod in pods(objects)}
    for one in objects:
        selector = selector_of(one)
        if selector is None:
            continue
        assert not any("version" in key or "chart" in key for key in selector)
        found = {name for name, labels in templates.items() if selector.items() <= labels.items()}
        assert {name.rpartition("-")[2] for name in found} == {component_of(one)}, one["kind"]


def selector_of(one: Object) -> dict[str, str] | None:
    spec = one.get("spec", {})
    match one["kind"]:
        case "Deployment" | "StatefulSet" | "PodDisruptionBudget":
            return spec["selector"]["matchLabels"]
        case "Service":
            return spec["selector"]
        case "NetworkPolicy":
            return spec["podSelector"]["matchLabels"]
        case _:
            return None


def test_ports_have_names_that_their_pods_know(objects: list[Object]) -> None:
    known = {
        component_of(one): ports_of(one["spec"]["template"])
        for one in of_kind(objects, "Deployment", "StatefulSet")
    }
    for service in of_kind(objects, "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= known[
            component_of(service)
        ]
    for policy in of_kind(objects, "NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            assert {port["port"] for port in rule["ports"]} <= known[component_of(policy)]
    for monitor in of_kind(objects, "PodMonitor"):
        (watched,) = monitor["spec"]["selector"]["matchExpressions"]
        for component in set(watched["values"]) & set(known):
            assert {one["port"] for one in monitor["spec"]["podMetricsEndpoints"]} <= known[
                component
            ]
    for name, pod in pods(objects):
        for container in containers(pod):
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                for how in ("httpGet", "tcpSocket"):
                    port = container.get(probe, {}).get(how, {}).get("port")
                    assert port is None or port in ports_of(pod), name


def ports_of(pod: Object) -> set[str]:
    return {port["name"] for one in containers(pod) for port in one.get("ports", [])}


def test_services_ports_routes_and_scalers_lead_to_something(objects: list[Object]) -> None:
    services = {
        one["metadata"]["name"]: one["spec"]["ports"] for one in of_kind(objects, "Service")
    }
    scaled = {(one["kind"], one["metadata"]["name"]) for one in of_kind(objects, "Deployment")}
    for route in of_kind(objects, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert backend["port"] in {port["port"] for port in services[backend["name"]]}
    for ingress in of_kind(objects, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                assert service["port"]["name"] in {
                    port["name"] for port in services[service["name"]]
                }
    for scaler in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (target.get("kind", "Deployment"), target["name"]) in scaled
    for url in set(urls(objects)):
        match = re.fullmatch(r"\w+://(?:[^@/]+@)?([^:/]+):(\d+)", url)
        assert match, url
        assert int(match[2]) in {one["port"] for one in services[match[1]]}, url


def urls(objects: list[Object]) -> Iterator[str]:
    for _, pod in pods(objects):
        for container in containers(pod):
            for variable in container.get("env", []):
                value = variable.get("value", "")
                if variable["name"] == "EDGE_URL" or value.startswith("valkey://:"):
                    yield value


def test_what_a_pod_mounts_reads_and_runs_as_is_there(objects: list[Object]) -> None:
    """Dangling references; what belongs to the user (matrix.py) is known by its name."""
    theirs = {"mine", "urls", "hub", "ca", "pull", "tls", "models", "high"}
    there = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    for name, pod in pods(objects):
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        kind, _, owner = name.partition("/")
        if kind == "StatefulSet":
            for claim in there[kind, owner]["spec"].get("volumeClaimTemplates", []):
                volumes[claim["metadata"]["name"]] = claim
        for container in containers(pod):
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted <= set(volumes), name
        for kind, wanted, key in references(pod):
            if wanted in theirs:
                continue
            assert (kind, wanted) in there, name
            data = there[kind, wanted].get("data", {})
            assert key is None or key in data, f"{name}: {kind} {wanted} has no {key}"


def references(pod: Object) -> Iterator[tuple[str, str, str | None]]:
    spec = pod["spec"]
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"], None
    for volume in spec.get("volumes", []):
        match volume:
            case {"secret": source}:
                for item in source["items"]:
                    yield "Secret", source["secretName"], item["key"]
            case {"configMap": source}:
                yield "ConfigMap", source["name"], None
            case {"persistentVolumeClaim": source}:
                yield "PersistentVolumeClaim", source["claimName"], None
            case _:
                pass
    for container in containers(pod):
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {}).get("secretKeyRef")
            if source:
                yield "Secret", source["name"], source["key"]


def test_every_variable_is_a_setting_of_its_service_and_set_once(objects: list[Object]) -> None:
    for one in of_kind(objects, "Deployment"):
        kind = SETTINGS[component_of(one)]
        for container in containers(one["spec"]["template"]):
            names = [variable["name"] for variable in container["env"]]
            assert len(names) == len(set(names))
            ours = {
                name.removeprefix("LORE_").lower() for name in names if name.startswith("LORE_")
            }
            assert ours <= set(kind.model_fields)


@pytest.mark.parametrize("component", SETTINGS)
def test_every_setting_can_be_set_by_its_name(component: str) -> None:
    """camelCase in the values becomes the very name that the service reads."""
    schema = setting_schema(component)
    settings = {name: sample(one) for name, one in schema.items()} | LARGER.get(component, {})
    env = set[str]()
    for names in (
        set(schema) - {"tpPlan"},
        set(schema) - {"deviceMap"},
    ):  # only one
        values: dict[str, Any] = {"settings": {name: settings[name] for name in names}}
        if component == "generator":
            values["command"] = ["torchrun"]
        objects = render({component: values})
        (container,) = containers(one_of(objects, "Deployment", component)["spec"]["template"])
        env |= {variable["name"] for variable in container["env"]}
    fields = {to_camel(name): f"LORE_{name.upper()}" for name in SETTINGS[component].model_fields}
    assert {fields[name] for name in schema} <= env


def setting_schema(component: str) -> dict[str, Any]:
    schema = chart().schema
    assert schema
    return schema["definitions"][f"{component}Settings"]["properties"]


def sample(schema: dict[str, Any]) -> Any:
    """A value that the schema takes, and that breaks no rule between values."""
    match schema:
        case {"enum": [first, *_]} | {"const": first}:
            return first
        case {"type": "string"}:
            return "x"
        case {"type": "boolean"}:
            return True
        case _:
            return max(1, schema.get("minimum", 0))


def test_the_operator_may_do_what_it_needs_and_no_more() -> None:
    (role,) = of_kind(render(), "Role")
    granted = {
        (verb, group, resource, bool(rule.get("resourceNames")))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {(need.verb, need.group, need.resource, need.named) for need in NEEDS}


def test_the_operator_follows_the_policy_that_the_chart_makes() -> None:
    objects = render()
    (policy,) = of_kind(objects, "StreamPolicy")
    (role,) = of_kind(objects, "Role")
    operator = one_of(objects, "Deployment", "operator")
    env = {
        one["name"]: one.get("value") for one in containers(operator["spec"]["template"])[0]["env"]
    }
    assert (env["LORE_POLICY"], env["LORE_NAMESPACE"]) == (policy["metadata"]["name"], NAMESPACE)
    names = {name for rule in role["rules"] for name in rule.get("resourceNames", [])}
    assert names == {policy["metadata"]["name"]}
    pods_of = one_of(objects, "Deployment", "generator")["spec"]["selector"]["matchLabels"]
    assert policy["spec"]["generators"]["matchLabels"] == pods_of


def test_the_policy_takes_lease_and_retention_from_the_settings_of_those_who_keep_them() -> None:
    values = {"generator": {"settings": {"leaseS": 2.5}}, "settings": {"retentionS": 60}}
    (policy,) = of_kind(render(values), "StreamPolicy")
    assert (policy["spec"]["lease"]["seconds"], policy["spec"]["retentionSeconds"]) == (3, 60)


@pytest.mark.parametrize("scaler", ["hpa", "keda"])
@pytest.mark.parametrize("tier", ["edge", "generator"])
def test_a_scaler_owns_the_number_of_pods_alone(scaler: str, tier: str) -> None:
    other = {"edge": "generator", "generator": "edge"}[tier]
    objects = render({"scaling": {"type": scaler, other: {"enabled": False}}})
    kind = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}[scaler]
    scalers = of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")
    assert [(one["kind"], component_of(one)) for one in scalers] == [(kind, tier)]
    assert "replicas" not in one_of(objects, "Deployment", tier)["spec"]
    assert "replicas" in one_of(objects, "Deployment", other)["spec"]


def test_scalers_ask_for_metrics_that_lore_exports() -> None:
    exported = {row.name for _, row in metrics.rows()}
    computed = {"lore_generator_slots_used_ratio"}  # by a rule of prometheus-adapter
    scalers = [
        scaler
        for kind in ("hpa", "keda")
        for scaler in of_kind(
            render({"scaling": {"type": kind}}), "HorizontalPodAutoscaler", "ScaledObject"
        )
    ]
    asked = set(re.findall(r"\blore_\w+", str(scalers)))
    assert asked - computed <= exported
    assert len(asked) > 4


def test_a_signal_that_vanishes_is_an_error_and_not_a_reason_to_scale_down() -> None:
    triggers = [
        trigger
        for one in of_kind(render({"scaling": {"type": "keda"}}), "ScaledObject")
        for trigger in one["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    ]
    assert triggers
    for trigger in triggers:
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert re.match(r"(sum|max)\(", trigger["metadata"]["query"])


def test_an_hpa_that_goes_to_zero_has_a_signal_that_is_there_without_pods() -> None:
    """Kubernetes takes ``minReplicas: 0`` with an Object or External metric alone."""
    scaler = one_of(render(MATRIX["HPA to zero"]), "HorizontalPodAutoscaler", "generator")
    assert scaler["spec"]["minReplicas"] == 0
    assert "External" in [metric["type"] for metric in scaler["spec"]["metrics"]]


def test_without_generators_their_silence_is_no_error() -> None:
    values = {"scaling": {"type": "keda", "generator": {"minReplicas": 0}}}
    scaled = one_of(render(values), "ScaledObject", "generator")
    slots, kv, queue = [one["metadata"]["query"] for one in scaled["spec"]["triggers"]]
    assert slots.endswith("or vector(0)")
    assert kv.endswith("or vector(0)")
    assert "vector" not in queue


def test_the_definition_outlives_the_release_only_if_it_is_to_be_kept() -> None:
    keep = {"helm.sh/resource-policy": "keep"}
    for kept in (True, False):
        (crd,) = of_kind(render({"crds": {"keep": kept}}), "CustomResourceDefinition")
        assert crd["metadata"].get("annotations", {}) == (keep if kept else {})


def test_streams_may_be_silent_for_longer_than_the_heartbeat_at_every_way_in() -> None:
    heartbeat_s = EdgeSettings.model_fields["heartbeat_s"].default
    ingress = one_of(render({"exposure": {"type": "ingress"}}), "Ingress", "edge")
    nginx = "nginx.ingress.kubernetes.io/"
    assert int(ingress["metadata"]["annotations"][nginx + "proxy-read-timeout"]) > 10 * heartbeat_s
    assert ingress["metadata"]["annotations"][nginx + "proxy-buffering"] == "off"
    (rule,) = one_of(render(MATRIX["Gateway API"]), "HTTPRoute", "edge")["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}


def test_the_first_key_opens_the_edge() -> None:
    (secret,) = of_kind(render(), "Secret")
    data = {name: b64decode(value).decode() for name, value in secret["data"].items()}
    assert apikeys.KEY.fullmatch(data["api-key"])
    assert apikeys.parse(data["api-keys"]) == {
        apikeys.digest(data["api-key"]): apikeys.KeyOwner("first-user")
    }
    assert len(data["secret"]) >= 32


def test_policies_of_a_tier_let_only_its_neighbours_reach_the_store() -> None:
    valkey = one_of(render(), "NetworkPolicy", "valkey")["spec"]
    (rule,) = valkey["ingress"]
    admitted = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]
    }
    assert admitted == {"edge", "generator", "operator"}
    assert valkey["egress"] == []


@pytest.mark.parametrize(
    ("model", "open_to"), [("", False), ("/models/mine", False), ("Qwen/Qwen3-8B", True)]
)
def test_a_generator_reaches_the_hub_only_for_a_model_that_is_there(
    model: str, open_to: bool
) -> None:
    settings = {"model": model} if model else {}
    policy = one_of(render({"generator": {"settings": settings}}), "NetworkPolicy", "generator")
    assert ({"ports": [{"port": 443}]} in policy["spec"]["egress"]) == open_to


OURS = ("edge", "generator", "operator")


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector.monitoring:4318", 4318),
        ("https://collector.example.org", 443),
        ("http://collector.example.org/path", 80),
    ],
)
def test_each_service_is_told_of_the_collector_and_reaches_it(
    endpoint: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render({"tracing": {"endpoint": endpoint, "ratio": 0.25}})
    for name in OURS:
        (container,) = containers(one_of(objects, "Deployment", name)["spec"]["template"])
        told = {e["name"]: e["value"] for e in container["env"] if e["name"].startswith("OTEL_")}
        for variable, value in told.items():
            monkeypatch.setenv(variable, value)
        settings = TracingSettings()
        assert (settings.endpoint, settings.traces_sampler_arg) == (endpoint, 0.25)
        assert settings.is_on
        assert settings.traces_sampler == "parentbased_traceidratio"
        policy = one_of(objects, "NetworkPolicy", name)
        assert {"ports": [{"port": port}]} in policy["spec"]["egress"]


def test_without_a_collector_nothing_is_said_of_traces() -> None:
    objects = render()
    for name in OURS:
        (container,) = containers(one_of(objects, "Deployment", name)["spec"]["template"])
        assert not [e for e in container["env"] if e["name"].startswith("OTEL_")]


@pytest.mark.parametrize("name", OURS)
def test_metrics_are_for_the_namespace_of_prometheus_unless_said_otherwise(name: str) -> None:
    def admitted(**values: Any) -> list[Any]:
        rules = one_of(render({"networkPolicy": values}), "NetworkPolicy", name)["spec"]["ingress"]
        return [rule for rule in rules if rule["ports"] == [{"port": "health"}]]

    selector = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    (rule,) = admitted()
    assert rule["from"] == [{"namespaceSelector": selector}]
    (rule,) = admitted(metricsFrom=[])
    assert "from" not in rule
