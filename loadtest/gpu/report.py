"""The script's report, as JSON and as its section of ``loadtest/RESULTS.md``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.gpu.exactness import passed

RESULTS = Path(__file__).parent.parent / "RESULTS.md"
KEPT = Path(__file__).parent / "report.json"
"""The report of the latest run on a GPU. Without one, ``auto`` must not be a default."""
BEGIN, END = "<!-- loadtest.gpu -->", "<!-- /loadtest.gpu -->"
Report = dict[str, Any]

_COLUMNS = {
    "exactness": {
        "async_batching": "async batching",
        "cuda_graphs": "CUDA graphs",
        "window": "window",
        "taken_over_at": "taken over at token",
        "equal": "equal answers",
        "answers": "of",
        "beyond_the_window": "tokens beyond the window",
    },
    "speed": {
        "streams": "streams",
        "side": "side",
        "tokens_per_s": "tokens/s",
        "to_the_best": "to the best manager",
        "first_token_p50_s": "first token p50 s",
        "first_token_most_s": "latest s",
        "memory_gib": "memory GiB",
    },
    "parked": {
        "parked": "parked",
        "streams": "streams",
        "tokens_per_s": "tokens/s",
        "kv_used": "KV in use",
        "memory_gib": "memory GiB",
    },
}


def has_passed(report: Report) -> bool:
    """Whether a GPU has run all of the exactness, and it held."""
    parts = {part["name"]: part for part in report["parts"]}
    exact = parts.get("exactness", {})
    is_done = exact.get("state") == "done" and passed(exact["rows"])
    return is_done and report["device"].startswith("cuda")


def section(report: Report) -> str:
    verdict = "passed" if has_passed(report) else "**not passed**"
    head = (
        f"`{report['command']}`, {report['date']}, {report['device']} ({report['device_name']}); "
        f"torch {report['torch']}, transformers {report['transformers']}, attention "
        f"{report['attention']}, {report['took_s']} s. Exactness on a GPU: {verdict}."
    )
    blocks = [head, report["model"]]
    for part in report["parts"]:
        note = "" if part["state"] == "done" else f": **{part['state']}**, {part['why']}"
        blocks.append(f"*{part['name']}*, {part['took_s']} s of {part['bound_s']:.0f}{note}")
        rows = [row for row in part["rows"] if "not_run" not in row]
        if part["name"] == "speed":
            rows = _compared(rows)
        if rows:
            blocks.append(_table(_COLUMNS[part["name"]], rows))
        missing = {_side(row): row["not_run"] for row in part["rows"] if "not_run" in row}
        blocks += [f"Not run, {side}: {why}." for side, why in missing.items()]
    return "\n\n".join(blocks)


def publish(report: Report, results: Path = RESULTS) -> None:
    """Put the section into ``results``, in place of the one before."""
    before, begin, rest = results.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{results} lacks {BEGIN} or {END}")
    text = f"{before}{BEGIN}\n{section(report)}\n{END}{after}"
    results.write_text(text, encoding="utf-8")


def keep(report: Report, file: Path) -> None:
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _side(row: dict[str, Any]) -> str:
    named = (("async_batching", "async batching"), ("cuda_graphs", "CUDA graphs"))
    return row.get("side") or ", ".join(f"{name} {row[key]}" for key, name in named if key in row)


def _compared(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sorted by the number of streams, each beside the fastest manager."""
    best: dict[int, float] = {}
    for row in rows:
        if row["side"].startswith("batching manager"):
            best[row["streams"]] = max(best.get(row["streams"], 0.0), row["tokens_per_s"])
    compared = [
        row | {"to_the_best": f"{row['tokens_per_s'] / best[row['streams']]:.2f}"}
        if best.get(row["streams"])
        else row
        for row in rows
    ]
    return sorted(compared, key=lambda row: row["streams"])


def _table(columns: dict[str, str], rows: Sequence[dict[str, Any]]) -> str:
    cells = [list(columns.values())]
    cells += [[_cell(row.get(key, "-")) for key in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        f"| {' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True))} |" for row in cells
    ]
    lines.insert(1, f"| {' | '.join('-' * width for width in widths)} |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
