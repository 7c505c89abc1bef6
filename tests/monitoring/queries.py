"""Every question that anything asks of Prometheus: panels, rules and scalers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dashboards.boards import BOARDS
from dashboards.rules import groups
from lore_edge.api.status import FIGURES
from tests.chart.rendering import ROOT, load_all, of_kind, render

_FOREIGN = r"kube_\w+|process_\w+|up"
_METRIC = re.compile(rf"(?:namespace:lore_\w+:\w+|lore_\w+|\b(?:{_FOREIGN}))\b(?!=)")
_SELECTOR = re.compile(rf"\b(lore_\w+|{_FOREIGN}){{([^}}]*)}}")
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
_STRING = re.compile(r'"[^"]*"')


@dataclass(frozen=True)
class Question:
    where: str
    """What asks it, such as ``Lore / Flow: Delivery lag [A]``."""
    expr: str

    @property
    def metrics(self) -> set[str]:
        return set(_METRIC.findall(_STRING.sub('""', self.expr)))

    @property
    def matchers(self) -> Iterator[tuple[str, str, str, str]]:
        """(metric, label, operator, value)."""
        for metric, inside in _SELECTOR.findall(self.expr):
            for matcher in _MATCHER.findall(inside):
                yield metric, *matcher


def panels() -> Iterator[Question]:
    for board in BOARDS:
        for panel in board.panels or []:
            for target in getattr(panel, "targets", None) or []:
                yield Question(f"{board.title}: {panel.title} [{target.ref_id}]", target.expr)


def rules() -> Iterator[Question]:
    for group in groups():
        for rule in group["rules"]:
            yield Question(f"rule {rule.get('alert') or rule['record']}", rule["expr"])


def triggers() -> Iterator[Question]:
    for one in of_kind(render({"scaling": {"type": "keda"}}), "ScaledObject"):
        for trigger in one["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                where = f"KEDA {one['metadata']['name']}: {trigger['name']}"
                yield Question(where, trigger["metadata"]["query"])


def adapter() -> Iterator[Question]:
    """As the adapter asks for all pods of a namespace, and for one that is named."""
    (values,) = load_all((ROOT / "k8s/prometheus-adapter/values.yaml").read_text())
    for kind, by in (("custom", "pod"), ("external", "namespace")):
        for rule in values["rules"][kind]:
            series = rule["seriesQuery"]
            metric = series.partition("{")[0]
            yield Question(f"adapter discovers {metric}", series)
            asked = (
                rule["metricsQuery"]
                .replace("<<.Series>>", metric)
                .replace("<<.LabelMatchers>>", 'namespace="answers"')
                .replace("<<.GroupBy>>", by)
            )
            yield Question(f"adapter {rule['name']['as']} of {metric}", asked)


def page() -> Iterator[Question]:
    """What an edge asks for its ``/status``."""
    for figure in FIGURES:
        for name, expr in figure.lines.items():
            yield Question(f"/status: {figure.title}, {name}", expr)


def every() -> list[Question]:
    return [*panels(), *page(), *rules(), *triggers(), *adapter()]
