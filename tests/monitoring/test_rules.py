"""The alerts: each fires when it should, is silent beside that, and says what to do."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.rules import groups
from tests.chart.rendering import ROOT, of_kind, render
from tests.monitoring.tools import program

RULES = {"rules": {"enabled": True}}
CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
ALERTS = [rule for group in groups() for rule in group["rules"] if "alert" in rule]
RUNBOOKS = ROOT / "docs/runbooks"
DASHBOARDS = ROOT / "charts/lore/dashboards"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    return tmp_path


def promtool(*words: str | Path) -> None:
    done = subprocess.run(
        [program("promtool"), *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules(folder: Path) -> None:
    promtool("check", "rules", "--lint-fatal", folder / "rules.yaml")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_alerts_fire_and_are_silent(case: Path, folder: Path) -> None:
    copy = folder / case.name
    copy.write_text(case.read_text())
    promtool("test", "rules", copy)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_is_seen_firing_and_seen_silent(alert: Any) -> None:
    seen = {
        bool(looked["exp_alerts"])
        for case in CASES
        for test in yaml.safe_load(case.read_text())["tests"]
        for looked in test["alert_rule_test"]
        if looked["alertname"] == alert["alert"]
    }
    assert seen == {True, False}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_how_urgent_it_is_and_what_to_do(alert: Any) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["for"]
    annotations = alert["annotations"]
    assert annotations["summary"].endswith(".")
    text = (ROOT / annotations["runbook_url"]).read_text()
    assert f"`{alert['alert']}`" in text
    for part in ("What it means", "What readers see", "Where to look", "What to do"):
        assert f"## {part}" in text


def test_every_runbook_belongs_to_an_alert() -> None:
    named = {alert["annotations"]["runbook_url"].rpartition("/")[2] for alert in ALERTS}
    assert {path.name for path in RUNBOOKS.glob("*.md")} == named


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_a_runbook_names_panels_that_a_dashboard_has(page: Path) -> None:
    titles = {
        title.partition(", p")[0]
        for file in DASHBOARDS.glob("*.json")
        for title in re.findall(r'"title": "([^"]+)"', file.read_text())
    }
    looking = page.read_text().partition("## Where to look")[2].partition("## What to do")[0]
    lines = [line for line in looking.splitlines() if re.search(r"\*[A-Z]\w+\*", line)]
    named = {name.rstrip(",.") for line in lines for name in re.findall(r'"([^"]+)"', line)}
    assert named
    assert sorted(named - titles) == []


def test_a_release_asks_about_its_own_pods_alone() -> None:
    values = {"metrics": RULES, "nameOverride": "texts", "scaling": {"type": "hpa"}}
    (rule,) = of_kind(render(values, name="second"), "PrometheusRule")
    text = str(rule["spec"])
    assert 'pod=~"second-texts-(edge|generator|operator)-.+"' in text
    assert 'horizontalpodautoscaler=~"second-texts-(edge|generator)"' in text
    assert not re.search(r"\b(RELEASE|NAMESPACE|NAME|RUNBOOKS)\b", text)


def test_alerts_are_about_what_is_switched_on() -> None:
    assert not of_kind(render(), "PrometheusRule")
    values = {"metrics": RULES, "operator": {"enabled": False}}
    (rule,) = of_kind(render(values), "PrometheusRule")
    assert [group["name"] for group in rule["spec"]["groups"]] == [
        "lore-answers",
        "lore-delivery",
        "lore-generators",
    ]


def test_the_runbooks_are_where_somebody_says() -> None:
    rules = {"enabled": True, "runbooks": "https://example.org/runbooks/", "labels": {"team": "a"}}
    (rule,) = of_kind(render({"metrics": {"rules": rules}}), "PrometheusRule")
    assert "'https://example.org/runbooks/valkey.md'" in str(rule["spec"])
    assert rule["metadata"]["labels"]["team"] == "a"
