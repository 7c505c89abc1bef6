"""``docs/capacity.md`` and the sizing behind it (``loadtest/capacity``)."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from loadtest.capacity import model
from loadtest.capacity.inputs import Assumed, Measured
from loadtest.capacity.model import (
    Installation,
    all_edges_lose_their_readers,
    busiest,
    most_streams,
    one_edge_dies,
    primaries_for,
    sizing,
)
from loadtest.capacity.page import TABLES, count, page, size

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/capacity.md"


def test_the_page_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run: python -m loadtest.capacity docs/capacity.md"


def test_the_page_has_every_table_once() -> None:
    named = re.findall(r"<!-- (.+?) -->", PAGE.read_text(encoding="utf-8"))
    assert sorted(name for name in named if name != "end") == sorted(TABLES)


def test_a_changed_input_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: the tables are made from the inputs."""
    text = PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(model, "M", replace(Measured(), valkey_us=(99.0, 99.0)))
    assert page(text) != text


def test_the_sections_that_the_inputs_name_are_there() -> None:
    inputs = (ROOT / "loadtest/capacity/inputs.py").read_text(encoding="utf-8")
    results = (ROOT / "loadtest/RESULTS.md").read_text(encoding="utf-8")
    named = re.findall(r'# RESULTS.md, "(.+?)"', inputs)
    assert len(named) == inputs.count("RESULTS.md") > 0
    for title in named:
        assert f"\n## {title}\n" in results, title


def test_all_pages_say_the_same_of_the_memory_that_an_answer_takes() -> None:
    results = (ROOT / "loadtest/RESULTS.md").read_text(encoding="utf-8")
    values = " ".join((ROOT / "charts/lore/values.yaml").read_text().replace("#", "").split())
    answer = f"an answer of {Assumed().answer_tokens} tokens takes {size(Measured().answer_bytes)}"
    assert re.search(rf"^kept +{Measured().answer_bytes:.0f} B,", results, re.MULTILINE)
    assert answer in PAGE.read_text(encoding="utf-8")
    assert answer in values.replace("An answer", "an answer")
    hour = 100 * 3600 / Assumed().answer_s * Measured().answer_bytes
    assert f"100 streams, busy for an hour, take {size(float(f'{hour:.2g}'))}." in values


def test_the_sizing_has_the_memory_of_the_chart_s_valkey() -> None:
    values = yaml.safe_load((ROOT / "charts/lore/values.yaml").read_text())
    said = values["valkey"]["bundled"]["maxMemory"]
    assert said.endswith("gb")
    assert Assumed().bundled_bytes == int(said.removesuffix("gb")) * 2**30


@pytest.mark.parametrize("slots", [64, 512])
@pytest.mark.parametrize("primaries", [1, 4, 16, 64])
def test_the_most_streams_fit_and_a_tenth_more_do_not(primaries: int, slots: int) -> None:
    most = most_streams(primaries, slots)
    assert Installation(most, slots, primaries).fits
    assert not Installation(most * 11 // 10 + 1, slots, primaries).fits


def test_an_installation_has_as_few_primaries_as_carry_it_or_there_are_not_enough() -> None:
    assert primaries_for(10, 512) == 1
    found = primaries_for(5000, 512)
    assert found is not None
    assert Installation(5000, 512, found).fits
    assert not Installation(5000, 512, found - 1).fits
    assert primaries_for(10_000_000, 512) is None


def test_wake_ups_grow_with_the_square_of_the_streams() -> None:
    one, ten = (Installation(n, 64, 16).valkey_parts() for n in (10_240, 102_400))
    name = "generators woken by a request"
    assert ten[name][0] == pytest.approx(100 * one[name][0])
    assert ten["chunks"][1] == pytest.approx(10 * one["chunks"][1])


@pytest.mark.parametrize("streams", [1_000, 100_000, 10_000_000])
def test_cells_carry_all_streams_within_their_share_of_a_core(streams: int) -> None:
    found = sizing(streams, 512)
    assert found.cells * found.cell.streams >= streams
    assert found.cell.fits
    assert found.cell.primaries <= model.CELL_PRIMARIES
    edges = found.cell.edges
    assert edges * found.cell.streams_per_edge >= found.cell.streams
    assert found.cell.generators * 512 * Assumed().slots_in_use >= found.cell.streams


def test_the_fullest_primary_decides() -> None:
    """64 partitions on 64 primaries are one each when dealt out, and not in equal ranges."""
    assert busiest(64) == 1 / 64
    assert busiest(64, even=False) > busiest(64)
    assert busiest(1) == busiest(1, even=False) == 1
    assert busiest(3) == 22 / 64


def test_a_storm_lasts_longer_where_fewer_edges_are_left() -> None:
    small, large = Installation(600, 512), Installation(60_000, 512)
    assert one_edge_dies(small).readers > one_edge_dies(large).readers
    whole = all_edges_lose_their_readers(large)
    assert whole.peak > one_edge_dies(large).peak


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0.0667, "0.067"), (3, "3"), (96.2, "96"), (1409, "1,410"), (183_333_333, "183,000,000")],
)
def test_a_number_has_three_figures(number: float, shown: str) -> None:
    assert count(number) == shown


def test_bytes_have_the_unit_that_fits() -> None:
    assert [size(n) for n in (12, 999.7, 41_678_000)] == ["12 B", "1 kB", "42 MB"]
