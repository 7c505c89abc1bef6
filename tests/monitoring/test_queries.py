"""Without a Prometheus: nothing asks for a metric, a label or a value that nobody exports."""

import re

import pytest

from dashboards.rules import groups
from lore.metrics import rows
from tests.monitoring import queries
from tests.monitoring.queries import Question

ROWS = {row.name: row for _, row in rows()}
FOREIGN = {
    "up": "Prometheus itself",
    "process_cpu_seconds_total": "prometheus_client, of every process",
    "process_resident_memory_bytes": "prometheus_client, of every process",
    "kube_horizontalpodautoscaler_spec_max_replicas": "kube-state-metrics",
    "kube_horizontalpodautoscaler_status_condition": "kube-state-metrics",
    "kube_horizontalpodautoscaler_status_desired_replicas": "kube-state-metrics",
}
"""What others export, and who."""
OF_THE_TARGET = {"namespace", "pod", "app_kubernetes_io_instance", "app_kubernetes_io_component"}
"""Labels that Prometheus adds to what it scrapes."""
UNSEEN = {
    "lore_edge_feeds",
    "lore_generators_watched",
    "lore_log_lines_lost_total",
    "lore_store_connections",
}
"""Metrics that no panel and no rule looks at: for whoever searches for a fault by hand."""

EVERY = queries.every()
RECORDED = {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}


def exported(metric: str) -> str:
    """The name in the table of what a histogram has several series of."""
    base = re.sub(r"_(bucket|sum|count)$", "", metric)
    return base if base in ROWS and ROWS[base].kind == "histogram" else metric


def test_there_are_questions_of_every_sort() -> None:
    for sort in (queries.panels, queries.page, queries.rules, queries.triggers, queries.adapter):
        assert len(list(sort())) > 3


@pytest.mark.parametrize("question", EVERY, ids=lambda question: question.where)
def test_a_question_is_about_metrics_that_are_exported(question: Question) -> None:
    assert question.metrics
    for metric in question.metrics - RECORDED - set(FOREIGN):
        assert exported(metric) in ROWS, metric
        histogram = ROWS[exported(metric)].kind == "histogram"
        assert histogram == (exported(metric) != metric), f"{metric} is a histogram: ask for a part"


@pytest.mark.parametrize("question", EVERY, ids=lambda question: question.where)
def test_a_question_names_labels_and_values_that_there_are(question: Question) -> None:
    for metric, label, operator, value in question.matchers:
        row = ROWS.get(exported(metric))
        if row is None or label in OF_THE_TARGET:
            continue
        assert label == row.label, f"{metric} has no label {label}"
        values = value.split("|") if operator.endswith("~") else [value]
        assert set(values) <= set(row.cells), f"{metric} {label}"
    for labels in re.findall(r"\bby \(([^)]*)\)", question.expr):
        of_the_metrics = {
            ROWS[name].label for name in map(exported, question.metrics) if name in ROWS
        }
        known = OF_THE_TARGET | {"le", "horizontalpodautoscaler"} | of_the_metrics
        assert {label.strip() for label in labels.split(",")} <= known


def test_what_is_listed_is_used_and_what_is_exported_is_looked_at() -> None:
    asked = {metric for question in EVERY for metric in question.metrics}
    assert set(FOREIGN) <= asked
    assert set(ROWS) - {exported(metric) for metric in asked} == UNSEEN
