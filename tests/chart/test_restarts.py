"""What an upgrade restarts, by the table in docs/operations.md."""

import re
from typing import Any

import pytest
import yaml

from tests.chart import live
from tests.chart.rendering import ROOT, Object, component_of, of_kind, render

PAGE = (ROOT / "docs/operations.md").read_text()
ROWS = re.findall(r"^\| `([\w.]+)=(\S+)` \| ([\w, ]+) \|$", PAGE, re.MULTILINE)
ALL = {"edge", "generator", "operator", "valkey"}


def templates(objects: list[Object]) -> dict[str, Any]:
    return {
        component_of(one): one["spec"]["template"]
        for one in of_kind(objects, "Deployment", "StatefulSet")
    }


def test_the_page_has_a_table() -> None:
    assert len(ROWS) > 20
    assert {name for _, _, names in ROWS for name in names.split(", ")} == ALL | {"nothing"}


@pytest.mark.parametrize(("key", "value", "names"), ROWS, ids=[row[0] for row in ROWS])
def test_a_change_restarts_what_the_page_says(key: str, value: str, names: str) -> None:
    changed: Any = yaml.safe_load(value)
    for part in reversed(key.split(".")):
        changed = {part: changed}
    secret = of_kind(render(), "Secret")
    with live.cluster(*secret) as config:
        before, after = templates(live.render(config)), templates(live.render(config, changed))
    assert set(before) == ALL
    restarted = {name for name in ALL if before[name] != after[name]}
    assert restarted == set(names.split(", ")) - {"nothing"}
