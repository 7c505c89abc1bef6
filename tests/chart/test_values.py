"""values.yaml, its schema, the README and the checks say the same, and mistakes are named."""

import importlib.util
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from helm_python.chart import lint
from helm_python.errors import HelmError

from tests.chart.matrix import MATRIX
from tests.chart.rendering import CHART, chart, containers, of_kind, one_of, render, texts

Schema = dict[str, Any]


def schema() -> Schema:
    found = chart().schema
    assert found
    return found


def resolved(part: Schema) -> Schema:
    if "$ref" in part:
        return schema()["definitions"][part["$ref"].rpartition("/")[2]]
    if "allOf" in part:
        return resolved(part["allOf"][0])
    return part


def values_paths(values: Any, path: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield f"{path}{name}"
        if isinstance(value, dict):
            yield from values_paths(value, f"{path}{name}.")


def schema_paths(part: Schema, path: str = "") -> Iterator[str]:
    for name, inner in part.get("properties", {}).items():
        yield f"{path}{name}"
        yield from schema_paths(resolved(inner), f"{path}{name}.")


FREE = re.compile(
    r"(.+\.settings\..+|settings\..+|.+\.resources(\..+)?|.+\.report\..+|.+\[\].*"
    r"|(.+\.)?(podS|s)ecurityContext\..+|.+\.probes\..+\..+)"
)
"""Known to the schema, and without a default in values.yaml."""


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    known, given = set(schema_paths(schema())), set(values_paths(chart().values))
    assert {path for path in given - known if ".resources." not in path} == set()
    assert {path for path in known - given if not FREE.fullmatch(path)} == set()


def test_every_object_of_the_schema_is_closed() -> None:
    """A misspelt value must not be ignored."""
    open_on_purpose = {"affinity", "global"}  # and parts of lists, which Kubernetes knows
    for path, part in objects_of(schema(), ""):
        if path.rpartition(".")[2] not in open_on_purpose:
            assert "additionalProperties" in part, path


def objects_of(part: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    if part.get("type") == "object":
        yield path, part
    for name, inner in part.get("properties", {}).items():
        yield from objects_of(inner, f"{path}.{name}")
    for name, inner in part.get("definitions", {}).items():
        yield from objects_of(inner, f"definitions.{name}")


def test_every_value_has_a_comment() -> None:
    """A whole without commented parts, such as resources, has one for all of them."""
    commented = {key for key, _ in generate().described((CHART / "values.yaml").read_text())}
    wholes = {key for key in commented if not any(one.startswith(f"{key}.") for one in commented)}
    for path in values_paths(chart().values):
        parts = any(key.startswith(f"{path}.") for key in commented)
        assert path in commented or parts or any(path.startswith(f"{key}.") for key in wholes), path


def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", CHART / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["README.md", "values.schema.json"])
def test_what_is_derived_is_current(name: str) -> None:
    text = (CHART / name).read_text()
    assert generate().FILES[name](text) == text, "run: make chart"


def test_helm_s_linter_finds_nothing() -> None:
    for values in MATRIX.values():
        report = lint(CHART, values, strict=True)
        said = [one["error"] for one in report["messages"]]
        assert (said, report["errors"]) == ([], [])


@pytest.mark.parametrize("values", MATRIX.values(), ids=list(MATRIX))
def test_what_is_rendered_reads_well(values: dict[str, Any]) -> None:
    for path, text in texts(values).items():
        if path.endswith(".yaml"):
            untidy = [line for line in text.splitlines() if line != line.rstrip() and line.strip()]
            assert untidy == [], path


def own(url: str, **others: Any) -> dict[str, Any]:
    return {"valkey": {"bundled": {"enabled": False}, "external": {"url": url, **others}}}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt value": ({"egde": {}}, "egde"),
    "a misspelt setting": ({"edge": {"settings": {"queueLimt": 1}}}, "queueLimt"),
    "a setting of another service": ({"edge": {"settings": {"slots": 1}}}, "slots"),
    "a number in words": ({"edge": {"replicas": "two"}}, "replicas"),
    "an unknown level": ({"settings": {"logLevel": "loud"}}, "logLevel"),
    "an unknown scaler": ({"scaling": {"type": "vpa"}}, "/scaling/type"),
    "a share above all": ({"scaling": {"generator": {"slotsInUse": 1.5}}}, "slotsInUse"),
    "a store of another kind": (
        {"valkey": {"bundled": {"enabled": False}, "external": {"url": "http://x"}}},
        "/valkey/external/url",
    ),
    "no store": ({"valkey": {"bundled": {"enabled": False}}}, "valkey.external.url"),
    "two stores": ({"valkey": {"external": {"url": "valkey://x"}}}, "valkey.bundled.enabled"),
    "two places of one store": (
        {
            "valkey": {
                "bundled": {"enabled": False},
                "external": {"url": "valkey://x", "existingSecret": "y"},
            }
        },
        "exclude each other",
    ),
    "files for a store that comes with the chart": (
        {"valkey": {"external": {"tls": {"existingSecret": "x"}}}},
        "valkey.external.tls.existingSecret is for a Valkey of your own",
    ),
    "a password for all to read": (own("valkey://me:secret@x"), "valkey.external.url has a pass"),
    "the sentinels' for all to read": (
        own("valkey+sentinel://x/mine?sentinel_password=secret"),
        "valkey.external.url has a password",
    ),
    "servers that are no cluster": (own("valkey://a,b:6379"), "names several servers"),
    "sentinels of nothing": (
        own("valkey+sentinel://a,b", ports=[6379, 26379]),
        "valkey.external.url must end with the name of the service",
    ),
    "a service where there are no sentinels": (
        own("valkey://a/mine"),
        "valkey.external.url may only end with the number of a database",
    ),
    "a database of a cluster": (own("valkey+cluster://a,b/1"), "a cluster has only database 0"),
    "TLS that is not spoken": (
        own("valkey+cluster://a,b", tls={"existingSecret": "x"}),
        "valkey.external.url begins with valkey+cluster://",
    ),
    "a certificate from nowhere": (
        own("valkeys://a", tls={"clientCertificate": True}),
        "set valkey.external.tls.existingSecret to the Secret that has tls.crt and tls.key",
    ),
    "an authority twice": (
        own("valkeys://a?ssl_ca_certs=/my/ca", tls={"existingSecret": "x"}),
        "valkey.external.url has ssl_ca_certs",
    ),
    "a port that is shut": (
        own("valkey+cluster://a:7000,[::1]:7001", ports=[7000]),
        "leads to port 7001, which is not in valkey.external.ports [7000]",
    ),
    "a usual port that is shut": (
        own("valkey+sentinel://a/mine"),
        "leads to port 26379, which is not in valkey.external.ports [6379]",
    ),
    "sentinels without their servers": (
        own("valkey+sentinel://a/mine", ports=[26379]),
        "valkey.external.ports [26379] has only the sentinels' ports",
    ),
    "no port": (own("valkey://a", ports=[]), "/valkey/external/ports"),
    "another way to find servers": (own("valkey+dns://a"), "/valkey/external/url"),
    "a drain longer than the grace": (
        {"edge": {"settings": {"drainDelayS": 29}}},
        "the sum must be less than edge.settings.graceS (30)",
    ),
    "an edge that is killed while it drains": (
        {"edge": {"settings": {"graceS": 60}}},
        "edge.terminationGracePeriodSeconds (45) must be at least",
    ),
    "a sleep that eats the grace": (
        {"edge": {"preStopSleepSeconds": 15}},
        "edge.terminationGracePeriodSeconds (45) must be at least",
    ),
    "a generator that is killed while it hands back": (
        {"generator": {"settings": {"drainS": 56}}},
        "generator.terminationGracePeriodSeconds (60) must be at least",
    ),
    "a rollout that cannot begin": (
        {"generator": {"maxUnavailable": 0}},
        "generator.maxSurge and generator.maxUnavailable are both 0",
    ),
    "fewer than none": (
        {"scaling": {"type": "hpa", "generator": {"minReplicas": 0}}},
        "scaling.generator.minReplicas is 0",
    ),
    "more than the most": (
        {"scaling": {"edge": {"minReplicas": 11}}},
        "scaling.edge.minReplicas (11) is greater than",
    ),
    "a scaler without its signal": (
        {"scaling": {"type": "keda"}, "operator": {"enabled": False}},
        "operator.enabled is false",
    ),
    "a last generator that is called back": (
        {
            "scaling": {
                "type": "keda",
                "generator": {"minReplicas": 0},
                "keda": {"cooldownPeriod": 60},
            }
        },
        "scaling.keda.cooldownPeriod (60)",
    ),
    "a label of the chart's": (
        {"edge": {"podLabels": {"app.kubernetes.io/name": "x"}}},
        "edge.podLabels has app.kubernetes.io/name",
    ),
    "a label of the chart's for all": (
        {"labels": {"app.kubernetes.io/component": "x"}},
        "labels has app.kubernetes.io/component",
    ),
    "a volume of the chart's": (
        {"generator": {"extraVolumes": [{"name": "tmp", "emptyDir": {}}]}},
        "generator.extraVolumes has a volume named tmp",
    ),
    "a mount of nothing": (
        {"valkey": {"bundled": {"extraVolumeMounts": [{"name": "x", "mountPath": "/x"}]}}},
        "valkey.bundled.extraVolumeMounts mounts x",
    ),
    "a container of the chart's": (
        {"valkey": {"bundled": {"sidecars": [{"name": "valkey", "image": "x"}]}}},
        "valkey.bundled.initContainers or sidecars has a container named valkey",
    ),
    "a claim of nothing": (
        {"generator": {"resources": {"claims": [{"name": "gpu"}]}}},
        "generator.resources.claims uses gpu",
    ),
    "rights for everybody": (
        {"operator": {"serviceAccount": {"create": False}}},
        "operator.serviceAccount.create is false",
    ),
    "a misspelt context": ({"podSecurityContext": {"runAsuser": 1}}, "runAsuser"),
    "a misspelt probe": ({"edge": {"probes": {"liveness": {"period": 1}}}}, "period"),
    "a commit of a folder": (
        {"generator": {"settings": {"model": "/weights/x", "modelRevision": "a" * 40}}},
        "generator.settings.modelRevision is for a model from a hub",
    ),
    "two ways over GPUs": (
        {"generator": {"settings": {"tpPlan": "auto", "deviceMap": "auto"}}},
        "generator.settings.tpPlan and generator.settings.deviceMap exclude each other",
    ),
    "ranks with two batches in flight": (
        {"generator": {"settings": {"tpPlan": "auto", "asyncBatching": "on"}}},
        "generator.settings.tpPlan excludes asyncBatching: on and cudaGraphs: on",
    ),
    "an engine that the node's probes do not reach": (
        {
            "generator": {
                "engine": {"type": "vllm", "image": "vllm:1", "args": ["--host", "127.0.0.1"]}
            }
        },
        'generator.engine.args has "127.0.0.1"',
    ),
    "ranks that nobody starts": (
        {"generator": {"settings": {"tpPlan": "auto"}}},
        "generator.settings.tpPlan needs several ranks",
    ),
    "one node's volume for several generators": (
        {"generator": {"replicas": 2, "modelCache": {"enabled": True}}},
        "generator.modelCache.accessMode is ReadWriteOnce, and generator.replicas is 2",
    ),
    "one pod's volume for a scaler": (
        {
            "scaling": {"type": "hpa"},
            "generator": {"modelCache": {"enabled": True, "accessMode": "ReadWriteOncePod"}},
        },
        "and scaling.generator.maxReplicas is 4",
    ),
    "a volume that nobody fills": (
        {"generator": {"modelCache": {"enabled": True, "accessMode": "ReadOnlyMany"}}},
        "generator.modelCache.accessMode is ReadOnlyMany",
    ),
    "a part of a JWT's settings": (
        {"edge": {"settings": {"jwtJwks": "https://x/jwks"}}},
        "go together: set jwtIssuer and jwtAudience",
    ),
    "more tokens than the most": (
        {"edge": {"settings": {"maxTokens": 100}}},
        "edge.settings.defaultMaxTokens (512) is greater than edge.settings.maxTokens (100)",
    ),
    "a window that begins too wide": (
        {"generator": {"settings": {"windowMaximum": 16}}},
        "generator.settings.windowInitial (32) is greater than",
    ),
    "a lead of less than two steps": (
        {"generator": {"settings": {"paceStep": 40}}},
        "generator.settings.paceLead (64) is less than twice generator.settings.paceStep (40)",
    ),
    "root that must not be": (
        {"generator": {"securityContext": {"runAsUser": 0}}},
        "set generator.podSecurityContext.runAsNonRoot to false",
    ),
    "a store larger than its container": (
        {"valkey": {"bundled": {"maxMemory": "2gb"}}},
        "valkey.bundled.maxMemory (2gb) leaves no room",
    ),
    "a store that is too old": (
        {"valkey": {"bundled": {"image": {"tag": "7.2-alpine"}}}},
        "valkey.bundled.image.tag is 7.2-alpine",
    ),
    "a name that is no revision": (
        {"generator": {"settings": {"model": "a/b", "modelRevision": "main"}}},
        "/generator/settings/modelRevision",
    ),
    "a registry with a scheme": ({"image": {"registry": "https://r"}}, "/image/registry"),
    "a mirror with a scheme": ({"global": {"imageRegistry": "https://r"}}, "imageRegistry"),
    "a host with a scheme": ({"exposure": {"hosts": ["https://x"]}}, "/exposure/hosts/0"),
    "a label that is none": ({"labels": {"team": "of readers"}}, "/labels/team"),
    "a label's name that is none": ({"edge": {"podLabels": {"my team": "x"}}}, "my team"),
    "a name that no object may have": ({"fullnameOverride": "Lore_1"}, "/fullnameOverride"),
    "a route to nowhere": ({"exposure": {"type": "httproute"}}, "exposure.httpRoute.parentRefs"),
}


@pytest.mark.parametrize(("values", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_refused_by_a_message_that_names_it(
    values: dict[str, Any], named: str
) -> None:
    with pytest.raises(HelmError, match=re.escape(named)) as refused:
        texts(values)
    assert "secret@" not in str(refused.value)
    assert "=secret" not in str(refused.value)


def test_values_at_the_border_of_what_is_refused_are_taken() -> None:
    limit = {"limits": {"memory": "2049Mi"}}
    texts(
        {
            "exposure": {"type": "ingress", "hosts": ["*.example.org"]},
            "global": {"imageRegistry": "localhost:5000/mirror/"},
            "labels": {"example.org/team": "a.b_c-d", "empty": ""},
            "podSecurityContext": {"runAsNonRoot": False, "runAsUser": 0},
            "valkey": {"bundled": {"maxMemory": "2gb", "resources": limit}},
        }
    )


@pytest.mark.parametrize("release", ["a.lore", "1-lore"])
def test_a_release_whose_services_kubernetes_refuses_is_told_the_way_out(release: str) -> None:
    with pytest.raises(HelmError, match="set fullnameOverride"):
        texts(name=release)
    assert (
        "name: lore-edge\n"
        in texts({"fullnameOverride": "lore"}, release)["lore/templates/edge/service.yaml"]
    )


@pytest.mark.parametrize(
    ("release", "values", "expected"),
    [
        ("lore", {}, "lore-edge"),
        ("tea", {}, "tea-lore-edge"),
        ("tea", {"fullnameOverride": "x"}, "x-edge"),
        ("a" * 53, {}, "a" * 40 + "-edge"),
    ],
)
def test_names_are_short_enough_for_what_kubernetes_puts_behind_them(
    release: str, values: dict[str, Any], expected: str
) -> None:
    objects = texts(values, release)["lore/templates/edge/service.yaml"]
    assert f"name: {expected}\n" in objects


def test_the_notes_name_the_way_to_the_first_answer() -> None:
    notes = texts()["lore/templates/NOTES.txt"]
    for words in (
        "port-forward service/lore-edge",
        "get secret lore ",
        "Bearer $KEY",
        "helm test lore",
    ):
        assert words in notes
    open_to_all = texts({"edge": {"settings": {"auth": "off"}}})["lore/templates/NOTES.txt"]
    assert "KEY" not in open_to_all


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, ["valkey.bundled.persistence.storageClass", "persistence.enabled=false"]),
        (
            {"generator": {"modelCache": {"enabled": True}}, **own("valkey://a")},
            ["generator.modelCache.storageClass"],
        ),
        ({"global": {"storageClass": "fast"}}, []),
        ({"valkey": {"bundled": {"persistence": {"storageClass": "fast"}}}}, []),
        ({"valkey": {"bundled": {"persistence": {"enabled": False}}}}, []),
    ],
)
def test_the_notes_say_what_a_cluster_without_a_default_class_needs(
    values: dict[str, Any], named: list[str]
) -> None:
    notes = texts(values)["lore/templates/NOTES.txt"]
    assert all(one in notes for one in named)
    assert ("StorageClass" in notes) == bool(named)


def test_the_notes_say_that_the_images_are_yours_to_build_unless_a_registry_is_named() -> None:
    assert "make images" in texts()["lore/templates/NOTES.txt"]
    for values in ({"image": {"registry": "r"}}, {"global": {"imageRegistry": "r"}}):
        assert "make images" not in texts(values)["lore/templates/NOTES.txt"]


def test_pods_wait_for_the_store_for_as_long_as_it_takes() -> None:
    """Nor does a startup probe end a generator that has its model and no store."""
    objects = render()
    for one in of_kind(objects, "Deployment"):
        (container,) = containers(one["spec"]["template"])
        assert {"name": "LORE_STORE_WAIT_S", "value": "0"} in container["env"]
        startup = container.get("startupProbe", {"httpGet": {"path": "/startupz"}})
        assert startup["httpGet"]["path"] == "/startupz"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, None),
        ({"model": "Qwen/Qwen3-8B"}, "Qwen/Qwen3-8B"),
        ({"model": "gpt2"}, "gpt2"),
        ({"model": "/weights/Qwen3-8B"}, "Qwen3-8B"),
        ({"model": "/weights/some.gguf"}, "some"),
        ({"model": "some.gguf"}, "some"),
        ({"engine": "synthetic", "model": "Qwen/Qwen3-8B"}, None),
        ({"engine": "vllm", "model": "/served/as.it.is"}, "/served/as.it.is"),
    ],
)
def test_edges_know_the_model_by_the_name_that_generators_tell(
    settings: dict[str, str], name: str | None
) -> None:
    def told(**edge: str) -> str | None:
        objects = render({"generator": {"settings": settings}, "edge": {"settings": edge}})
        (container,) = containers(one_of(objects, "Deployment", "edge")["spec"]["template"])
        env = {one["name"]: one.get("value") for one in container["env"]}
        return env.get("LORE_MODEL")

    assert told() == name
    assert told(model="ours") == "ours"


def test_a_model_that_is_not_pinned_is_noticed() -> None:
    model = {"model": "Qwen/Qwen3-8B"}
    for settings, noticed in (
        ({}, False),
        (model, True),
        (model | {"modelRevision": "a" * 40}, False),
        ({"model": "/weights/x"}, False),
    ):
        notes = texts({"generator": {"settings": settings}})["lore/templates/NOTES.txt"]
        assert ("is not pinned" in notes) == noticed


def test_the_models_claim_outlives_the_release_only_if_it_is_to_be_kept() -> None:
    for keep in (True, False):
        values = {"generator": {"modelCache": {"enabled": True, "keep": keep}}}
        (claim,) = of_kind(render(values), "PersistentVolumeClaim")
        annotations = claim["metadata"].get("annotations", {})
        assert annotations == ({"helm.sh/resource-policy": "keep"} if keep else {})
