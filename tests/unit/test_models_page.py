"""The sums of docs/models.md."""

import re

import pytest

from tests.packages import ROOT

PAGE = (ROOT / "docs/models.md").read_text()
ROW = re.compile(
    r"^\| ([\w.-]+) \| ([\d.]+) \| (\d+) . (\d+) . (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) "
    r"\| ([\d.]+) \|$",
    re.MULTILINE,
)
ROWS = [(row[0], tuple(map(float, row[1:]))) for row in ROW.findall(PAGE)]
TOKENS = 32 * 2_000


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_memory_follows_from_the_shape(name: str, row: tuple[float, ...]) -> None:
    billions, layers, heads, dimension, bfloat16, float32, kv_kib, kv_gb = row
    kv_bytes = 2 * layers * heads * dimension * 2
    assert (bfloat16, float32) == (round(billions * 2, 1), round(billions * 4, 1))
    assert kv_kib == kv_bytes / 1024
    assert kv_gb == round(TOKENS * kv_bytes / 1e9, 1)


def test_every_row_of_the_table_is_read() -> None:
    assert len(ROWS) == len(re.findall(r"^\| .* \d+ . \d+ . \d+ \| .*$", PAGE, re.MULTILINE)) > 0
