"""Generates ``docs/metrics.md`` from the table: ``python -m lore.metrics_page docs/metrics.md``."""

import sys
from pathlib import Path

from lore.metering import Row
from lore.metrics import ARTICLE, EVERYWHERE, SERVICES, rows

_HEAD = """# Metrics

Every edge, generator and operator serves these at `/metrics` of its health port. Made by
`make metrics` from [`core/lore/metrics.py`](../core/lore/metrics.py): edit that.

A service is one process, an edge as well: it is a pod (or a port) for each core, so that nothing
has to be added up within one, and a reader's stream, its acks and its socket are in one place.
No label holds an id, and each has the values below and no others. Each of them is there from the
start at 0, so that `rate()` sees the first event. Rates, averages and shares are for the query:
`rate(lore_tokens_wasted_total[5m]) / rate(lore_tokens_generated_total[5m])`.

**Waste.** A token is wasted when it was generated and nobody had acknowledged it once its request
was over: half a minute after it was done or had failed (acks are on their way until then; a
generator that stops judges what it has to judge at once), as soon as it was cancelled or reaped.
The generator that held the request last counts it, tokens of earlier owners included. Each token
counts once: of a request that is reaped, revived and reaped again only what is new, because the
store keeps how far was counted. What is read after all, later, is not taken back. Requests with
ack `none` are left out: they ask for an answer to be made and kept, and nothing tells who reads
it. A generator that is killed takes what it had not counted with it.

**Intact answers.** `lore_answers_total` counts what readers were told: `done`, `failed` and
`cancelled` are ends of a whole text, `failed` with a reason; `history_lost`, `gone` and `cut` are
answers that were not delivered as they were made. A reader who only leaves has been told nothing.

**Stalled delivery.** `lore_edge_delivery_lag_seconds` is about chunks that an edge knows of and a
reader would take. Zero while nobody reads, while readers are slow and while generators are; news
that did not reach the edge shows in `lore_gap_fills_total` and `lore_store_connections`.

**The article's five.** The article that Lore began with names five metrics; they are marked
**\\*** below.

| in the article | here |
|---|---|"""


def page() -> str:
    """``docs/metrics.md``."""
    named = {name: word for word, names in ARTICLE.items() for name in names}
    lines = [_HEAD]
    for word, names in ARTICLE.items():
        lines.append(f"| {word} | {', '.join(f'`{name}`' for name in names)} |")
    for title in (EVERYWHERE, *SERVICES):
        lines += ["", f"## {title.capitalize()}", ""]
        lines += ["| name | type | label | unit | meaning |", "|---|---|---|---|---|"]
        for service, row in rows():
            if service == title:
                mark = " **\\***" if row.name in named else ""
                cells = (f"`{row.name}`{mark}", row.kind, _label(row), _unit(row), row.help)
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _label(row: Row) -> str:
    values = ", ".join(f"`{value}`" for value in row.cells)
    return f"`{row.label}`: {values}" if row.label else ""


def _unit(row: Row) -> str:
    if row.name.endswith("_timestamp_seconds"):
        return "Unix time, s"
    for word, unit in (("seconds", "s"), ("bytes", "bytes"), ("ratio", "0 to 1")):
        if row.name.endswith(word):
            return unit
    return "tokens/s" if "per_second" in row.name else ""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
