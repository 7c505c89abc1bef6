"""SECURITY.md names every bound, its setting and its default, as the code has them."""

import importlib
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import yaml
from pydantic.fields import FieldInfo

from lore.settings import CommonSettings
from lore_edge.settings import EdgeSettings
from lore_generator.settings import GeneratorSettings
from lore_operator.settings import OperatorSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
HEAD = "| bound | setting | default | beyond it |"

NOT_BOUNDS = {
    "coalesce_chars",
    "coalesce_delay_s",
    "drain_delay_s",
    "drain_spread_s",
    "fair_quantum_s",
    "health_port",
    "heartbeat_s",
    "kv_page_tokens",
    "openai_pace",
    "pace",
    "pace_calm_s",
    "pace_lead",
    "pace_reading",
    "pace_step",
    "poll_s",
    "port",
    "return_grace_s",
    "silence_s",
    "store_lost_s",
    "sweep_s",
    "synthetic_length",
    "synthetic_rate",
    "threads",
    "window_initial",
    "window_silence_s",
}
"""Numbers that shape what happens and stop nobody. Any other numeric setting is a bound."""


class Row(NamedTuple):
    bound: str
    setting: str
    default: str
    beyond: str


def settings() -> dict[str, FieldInfo]:
    kinds: tuple[type[CommonSettings], ...] = (EdgeSettings, GeneratorSettings, OperatorSettings)
    return {name: field for kind in kinds for name, field in kind.model_fields.items()}


def rows() -> list[Row]:
    found: list[Row] = []
    for table in TEXT.split(HEAD)[1:]:
        for line in table.partition("\n\n")[0].splitlines()[2:]:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 4, f"SECURITY.md: not four cells: {line}"
            found.append(Row(cells[0], cells[1].strip("`"), cells[2], cells[3]))
    return found


def is_number(kind: Any) -> bool:
    """Also where it may be unset, or has bounds of its own."""
    return kind in (int, float) or any(is_number(part) for part in get_args(kind))


def value_of(name: str) -> Any:
    """Of a setting, of a constant in a module, or of a value of the chart."""
    if name.startswith("LORE_"):
        return settings()[name.removeprefix("LORE_").lower()].get_default()
    if re.match(r"lore\w*\.", name):
        module, _, constant = name.rpartition(".")
        return getattr(importlib.import_module(module), constant)
    value: Any = yaml.safe_load((ROOT / "charts/lore/values.yaml").read_text())
    for part in name.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.setting)
def test_each_row_has_what_the_code_has(row: Row) -> None:
    value = value_of(row.setting)
    assert row.default == ("" if value is None else str(value)), row
    assert row.bound
    assert row.beyond


def test_every_numeric_setting_has_a_row_or_is_no_bound() -> None:
    numeric = {name for name, field in settings().items() if is_number(field.annotation)}
    told = {row.setting.removeprefix("LORE_").lower() for row in rows()}
    missing = sorted(numeric - told - NOT_BOUNDS)
    assert missing == [], "add each to a table of SECURITY.md, or to NOT_BOUNDS"
    assert sorted(NOT_BOUNDS - numeric) == []
    assert sorted(NOT_BOUNDS & told) == []


def test_no_bound_is_there_twice() -> None:
    counted = Counter(row.setting for row in rows())
    assert [name for name, times in counted.items() if times > 1] == []
