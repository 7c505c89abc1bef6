"""The dashboards: what is committed is what the code draws, and every panel explains itself."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dashboards.__main__ import FOLDER
from dashboards.boards import BOARDS, as_json
from tests.chart.rendering import NAMESPACE, of_kind, render

FILES = {f"{board.uid}.json": as_json(board) for board in BOARDS}
LARGEST = 1024 * 1024  # of a ConfigMap, in etcd
RUNBOOKS = Path(__file__).parents[2] / "docs/runbooks"


def boards() -> list[Any]:
    return [json.loads(text) for text in FILES.values()]


def panels() -> list[Any]:
    return [
        pytest.param(panel, id=f"{board['uid']}: {panel['title']}")
        for board in boards()
        for panel in board["panels"]
        if panel["type"] != "row"
    ]


def test_the_committed_files_are_current() -> None:
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert committed == FILES, "run: make dashboards"


def test_they_can_be_told_apart_and_lead_to_each_other() -> None:
    for kind in ("uid", "title"):
        assert len({board[kind] for board in boards()}) == len(BOARDS) == 4
    for board in boards():
        (link,) = board["links"]
        assert link["type"] == "dashboards"
        assert set(link["tags"]) <= set(board["tags"])
        assert link["includeVars"]
        assert link["keepTime"]


@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_the_panels_of_a_dashboard_fill_their_rows_without_overlap(board: Any) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert max(x for x, _ in taken) < 24
    first = [panel for panel in board["panels"] if panel["gridPos"]["y"] == 0]
    assert [panel["type"] for panel in first] == ["stat"] * 6
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_where_the_data_is_and_whose_it_is_are_variables(board: Any) -> None:
    variables = [variable["name"] for variable in board["templating"]["list"]]
    assert variables == ["datasource", "namespace", "release", "pod"]
    assert board["templating"]["list"][0]["type"] == "datasource"


@pytest.mark.parametrize("panel", panels())
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: Any) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert target["legendFormat"], "a legend of raw labels"


@pytest.mark.parametrize("panel", panels())
def test_a_query_fits_any_scrape_interval_and_any_release(panel: Any) -> None:
    for target in panel["targets"]:
        expr = target["expr"]
        assert "RELEASE" not in expr
        for function, window in re.findall(r"\b(i?rate|increase)\(\w+(?:{[^}]*})?\[(.+?)\]", expr):
            assert (function, window) in {("rate", "$__rate_interval"), ("increase", "1h")}
        if "histogram_quantile" in expr:
            assert re.search(
                r"histogram_quantile\([\d.]+, sum by \((\w+, )?le(, \w+)?\) \(rate\(", expr
            )
        for selector in re.findall(r"{([^}]*)}", expr):
            assert 'namespace="$namespace"' in selector
            assert "$release" in selector


def test_each_quantile_of_a_panel_leads_to_traces() -> None:
    for parameter in panels():
        (panel,) = parameter.values
        for target in panel["targets"]:
            of_everything = "sum by (le)" in target["expr"] and panel["type"] == "timeseries"
            if of_everything and "window_utilization" not in target["expr"]:
                assert target["exemplar"], panel["title"]


def test_runbooks_name_panels_that_exist() -> None:
    """A runbook writes ``*Flow*, "Delivery lag"``; it leaves out a panel's percentile."""
    titles = {
        board["title"].removeprefix("Lore / "): {
            re.sub(r", p\d+$", "", panel["title"]) for panel in board["panels"]
        }
        for board in boards()
    }
    named = 0
    for path in RUNBOOKS.glob("*.md"):
        for line in path.read_text().splitlines():
            where = re.findall(r"\*(\w+)\*", line)
            known = {title for one in where for title in titles.get(one, ())}
            for title in re.findall(r'"(.+?)"', line) if known else ():
                assert title in known, f"{path.name}: {title}"
                named += 1
    assert named > 10


def test_the_chart_ships_them_for_grafana_s_sidecar_when_asked() -> None:
    assert not [
        one for one in of_kind(render(), "ConfigMap") if "dashboard" in one["metadata"]["name"]
    ]
    values = {"metrics": {"dashboards": {"enabled": True, "annotations": {"grafana_folder": "L"}}}}
    shipped = {
        name: (text, one)
        for one in of_kind(render(values), "ConfigMap")
        for name, text in one["data"].items()
        if name.endswith(".json")
    }
    assert set(shipped) == set(FILES)
    for name, (text, one) in shipped.items():
        assert json.loads(text) == json.loads(FILES[name])
        assert len(text) < LARGEST / 4
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"] == {"grafana_folder": "L"}
        assert one["metadata"]["namespace"] == NAMESPACE
