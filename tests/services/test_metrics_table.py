"""The table of metrics: whole, current in docs/metrics.md, and every line of it tried."""

import importlib
import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.parser import text_string_to_metric_families

from lore.metering import Counter, Histogram, Row, Table
from lore.metrics import ARTICLE, SERVICES, edge, every, exported_by, generator, operator, rows
from lore.metrics_page import page
from lore.protocol.lifecycle import LIVE, Status
from lore.request import AckKind
from lore.store.base import Outcome
from lore.sweep import Finding
from lore_operator.plan import Loss
from tests.services.meters import ROWS

ROOT = Path(__file__).parents[2]
ANY_VALUE = {"function", "link"}
"""Labels of which one value stands for the others, which come from the same line of code."""


def covered() -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for file in Path(__file__).parent.glob("test_metrics_*.py"):
        module = importlib.import_module(f"tests.services.{file.stem}")
        for test in vars(module).values():
            found |= getattr(test, "covers", set())
    return found


def test_a_cause_is_tried_for_each_metric_and_each_of_its_labels_values():
    tried = covered()
    wanted = {
        (row.name, value)
        for row in ROWS.values()
        for value in row.cells
        if row.kind != "gauge" and row.label not in ANY_VALUE
    }
    assert wanted - tried == set()
    assert set(ROWS) - {name for name, _ in tried} == set()


def test_the_page_is_current():
    assert (ROOT / "docs/metrics.md").read_text(encoding="utf-8") == page(), "run: make metrics"


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
def test_a_metric_is_named_as_prometheus_wants(row: Row):
    """https://prometheus.io/docs/practices/naming: base units last, _total on counters alone."""
    assert re.fullmatch(r"lore_[a-z_]+[a-z]", row.name)
    assert row.name.endswith("_total") == (row.kind == "counter")
    assert not re.search(r"_(ms|millis|minutes|kb|mb|percent|count|sum|bucket)(_|$)", row.name)
    assert row.help[0].isupper() or row.help[0].isdigit()
    assert not row.help.endswith(".")
    assert list(row.bounds) == sorted(set(row.bounds))


def test_no_two_metrics_have_one_name_and_the_articles_five_are_there():
    names = [row.name for _, row in rows()]
    assert len(names) == len(set(names))
    assert len(ARTICLE) == 5
    assert {name for known in ARTICLE.values() for name in known} <= set(names)


def test_each_service_shows_its_own_metrics_and_nobody_elses():
    for service, table in SERVICES.items():
        shown = {family.name for family in exported_by(service).collect()}
        of_lore = {f"{name}_total" if f"{name}_total" in ROWS else name for name in shown}
        of_lore = {name for name in of_lore if name.startswith("lore_")} - {"lore_build"}
        assert of_lore == {row.name for row in [*every.rows, *table.rows]}
        assert "process_cpu_seconds" in shown


def test_a_service_says_which_it_is():
    text = generate_latest(exported_by("edge")).decode()
    assert re.search(
        r'^lore_build_info\{service="edge",version="[0-9.]+"\} 1\.0$', text, re.MULTILINE
    )


@pytest.mark.parametrize("encode", [generate_latest, exposition.generate_latest])
@pytest.mark.parametrize("service", SERVICES)
def test_everything_is_there_from_the_start_in_both_formats(service: str, encode):
    text = encode(exported_by(service)).decode()
    for row in [*every.rows, *SERVICES[service].rows]:
        assert re.search(rf"^{row.name}(_count)?(\{{| )", text, re.MULTILINE), row.name


def test_label_values_are_those_that_the_code_has():
    def values(name: str) -> set[str]:
        return set(ROWS[name].cells)

    assert values("lore_edge_connections") == set(AckKind)
    assert values("lore_live_requests") == set(LIVE)
    assert values("lore_findings") == set(Finding)
    assert values("lore_leases_released_total") == set(Loss)
    assert values("lore_tokens_wasted_total") <= set(Status)
    assert values("lore_acks_total") <= set(Outcome)


def test_a_histogram_counts_a_value_at_its_bound_within_it():
    cell = Histogram((1, 2))
    for value, times in ((1, 1), (1.5, 2), (3, 1)):
        cell.observe(value, times)
    assert cell.buckets() == [("1", 1), ("2", 3), ("+Inf", 4)]
    assert cell.total == 7


def test_an_exemplar_is_shown_where_its_format_knows_them():
    table = Table()
    table.histogram("lore_a_seconds", "A", (1, 2)).observe(1.5, exemplar={"trace_id": "abc"})
    (row,) = table.rows
    (family,) = [row.collect()]
    assert [s.exemplar.labels for s in family.samples if s.exemplar] == [{"trace_id": "abc"}]


def test_what_is_shown_can_be_read_back():
    table = Table()
    table.counters("lore_a_total", "A", kind=("b", "c"))["b"].inc(2)
    (row,) = table.rows
    assert isinstance(row.cells["c"], Counter)
    assert {s.labels["kind"]: s.value for s in row.collect().samples} == {"b": 2, "c": 0}
    text = generate_latest(exported_by("operator")).decode()
    assert len(list(text_string_to_metric_families(text))) > len(operator.rows)
    assert {edge, generator, operator} == set(SERVICES.values())
