"""What lies around the chart: k8s/, skaffold.yaml, and the Dockerfiles they build."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.chart.kinds import mistakes
from tests.chart.rendering import ROOT, containers, load_all, of_kind, one_of, render

SCHEMAS = Path(__file__).parent / "schemas"
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "k8s").rglob("*.yaml"))
VALUES = [
    path
    for path in FILES
    if path.name.startswith("values") and path.parent.name != "prometheus-adapter"
]
OTHERS_KINDS = {"Cluster", "Gateway"}
"""Kinds whose schema is not here."""


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) > 8
    assert len(VALUES) > 3


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_object_in_k8s_is_valid(path: Path) -> None:
    for one in load_all((ROOT / path).read_text()):
        if "kind" in one and one["kind"] not in OTHERS_KINDS:
            assert mistakes(one) == []


@pytest.mark.parametrize("path", VALUES, ids=str)
def test_the_chart_takes_every_values_file(path: Path) -> None:
    (values,) = load_all((ROOT / path).read_text())
    for one in render(values):
        assert mistakes(one) == []


def generator_image(folder: Path, device: str) -> str:
    """What ``k8s/images.sh`` names the generator's image, by a docker that only writes down."""
    docker, told = folder / "docker", folder / "told"
    docker.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    docker.chmod(0o700)
    env = {"PATH": f"{folder}:{os.environ['PATH']}", "DEVICE": device, "ONLY": "generator"}
    subprocess.run([ROOT / "k8s/images.sh"], env=env, check=True, capture_output=True)
    (name,) = re.findall(r" -t (\S+) ", told.read_text())
    return name


@pytest.mark.parametrize("path", VALUES, ids=str)
def test_the_generator_of_every_values_file_is_an_image_that_can_be_built(
    path: Path, tmp_path: Path
) -> None:
    (values,) = load_all((ROOT / path).read_text())
    (main, *_) = containers(one_of(render(values), "Deployment", "generator")["spec"]["template"])
    wanted = main["image"].rpartition("/")[2]
    device = wanted.partition("-cuda")[1] or wanted.partition("-remote")[1] or "-cpu"
    assert generator_image(tmp_path, device.removeprefix("-")) == wanted


def skaffold() -> dict[str, Any]:
    (config,) = load_all((ROOT / "skaffold.yaml").read_text())
    return config


def test_skaffold_s_file_keeps_to_its_schema() -> None:
    schema = json.loads((SCHEMAS / "skaffold.json").read_text())
    found = Draft7Validator(schema).iter_errors(skaffold())
    assert [f"{error.json_path}: {error.message}" for error in found] == []


@pytest.mark.parametrize("profile", ["kind", "gpu"])
def test_a_profile_s_patches_fit_the_file(profile: str) -> None:
    config = skaffold()
    (chosen,) = [one for one in config["profiles"] if one["name"] == profile]
    for patch in chosen["patches"]:
        *parents, last = patch["path"].strip("/").split("/")
        inner: Any = config
        for part in parents:
            inner = inner[int(part) if isinstance(inner, list) else part]
        assert (last in inner) == (patch["op"] != "add"), patch["path"]
        for file in patch["value"] if last == "valuesFiles" else []:
            assert (ROOT / file).is_file()


def test_skaffold_builds_what_the_chart_runs_and_tells_it() -> None:
    config = skaffold()
    built = {one["image"]: one["docker"]["dockerfile"] for one in config["build"]["artifacts"]}
    for dockerfile in built.values():
        assert (ROOT / dockerfile).is_file()
    (release,) = config["deploy"]["helm"]["releases"]
    told = release["setValueTemplates"]
    for image in built:
        service = image.removeprefix("lore-")
        variable = image.replace("-", "_")
        assert told[f"{service}.image.repository"] == f"{{{{.IMAGE_REPO_{variable}}}}}"
        assert told[f"{service}.image.tag"] == f"{{{{.IMAGE_TAG_{variable}}}}}"
    assert len(told) == 2 * len(built)


def test_the_adapter_has_one_rule_for_each_metric_that_the_scalers_ask_for() -> None:
    (values,) = load_all((ROOT / "k8s/prometheus-adapter/values.yaml").read_text())
    scalers = of_kind(render({"scaling": {"type": "hpa"}}), "HorizontalPodAutoscaler")
    asked = {
        metric[kind]["metric"]["name"]
        for scaler in scalers
        for metric in scaler["spec"]["metrics"]
        for kind in ("pods", "external")
        if kind in metric
    }
    rules = values["rules"]["custom"] + values["rules"]["external"]
    series = [rule["seriesQuery"].partition("{")[0] for rule in rules]
    assert len(series) == len(set(series))
    named = [
        re.sub(rule["name"]["matches"], rule["name"]["as"].replace("$1", r"\1"), one)
        for rule, one in zip(rules, series, strict=True)
    ]
    assert sorted(named) == sorted(asked)


def test_kind_s_port_is_the_service_s() -> None:
    (kind,) = load_all((ROOT / "k8s/kind.yaml").read_text())
    (values,) = load_all((ROOT / "k8s/values-kind.yaml").read_text())
    ports = [
        port["containerPort"]
        for node in kind["nodes"]
        for port in node.get("extraPortMappings", [])
    ]
    assert ports == [values["service"]["nodePort"]]


@pytest.mark.parametrize("service", ["edge", "generator", "operator"])
def test_an_image_has_what_the_chart_expects(service: str) -> None:
    """Its user, its ports, and no torch where there is no model."""
    text = (ROOT / f"services/{service}/Dockerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert "USER 10001:10001" in last
    assert f'ENTRYPOINT ["dumb-init", "--single-child", "lore-{service}"]' in last
    assert re.search(r"EXPOSE .*\b9090\b", last)
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in last
    assert "--require-hashes" in text
    assert ("torch" in text) == (service == "generator")


def test_yaml_that_names_a_key_twice_is_refused() -> None:
    """The test of the tests: PyYAML would take the last one."""
    with pytest.raises(yaml.YAMLError, match="twice: a"):
        load_all("{a: 1, a: 2}")
