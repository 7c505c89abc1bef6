"""The chart, rendered by the real engine of Helm 4, without a cluster."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/lore"
RELEASE, NAMESPACE = "lore", "answers"

Object = dict[str, Any]


class Loader(yaml.CSafeLoader):
    """Refuses a key that comes twice in a mapping, which YAML forbids and PyYAML takes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"twice: {', '.join(sorted(twice))}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def load_all(text: str) -> list[Any]:
    return [one for one in yaml.load_all(text, Loader) if one is not None]


@functools.cache
def chart() -> Chart:
    return Chart.load(CHART)


def texts(values: Mapping[str, Any] | None = None, name: str = RELEASE) -> dict[str, str]:
    """Rendered templates by path. Raises HelmError for values that are refused."""
    return chart().render(dict(values or {}), name=name, namespace=NAMESPACE)


def render(values: Mapping[str, Any] | None = None, name: str = RELEASE) -> list[Object]:
    return [
        one
        for path, text in texts(values, name).items()
        if path.endswith(".yaml")
        for one in load_all(text)
    ]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def one_of(objects: list[Object], kind: str, component: str) -> Object:
    (found,) = [one for one in of_kind(objects, kind) if component_of(one) == component]
    return found


def component_of(one: Object) -> str:
    return one["metadata"]["labels"]["app.kubernetes.io/component"]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """(what it is of, pod template) for everything that makes pods, and the pods themselves."""
    for one in objects:
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "Pod":
            yield name, one
        elif "template" in one.get("spec", {}):
            yield name, one["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
