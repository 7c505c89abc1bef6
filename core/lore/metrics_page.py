"""Generates ``docs/metrics.md`` from the table: ``python -m lore.metrics_page docs/metrics.md``."""

import sys
from pathlib import Path

from lore.metering import Row
from lore.metrics import ARTICLE, EVERYWHERE, SERVICES, rows

_HEAD = """# Metrics

Every edge, generator and operator serves these at `/metrics` of its health port: 9090 in the
chart; under `lore up`, a free port that `running.json` in the data directory names. `make metrics`
generates this page from [`core/lore/metrics.py`](../core/lore/metrics.py): edit that.

A service is one process. An edge, too, is one pod (or port) per core, so nothing is summed within
one, and a reader's stream, acks and socket are in one place. No label contains an id; each has only
the values below. Every series starts at 0, so that `rate()` sees the first event. Compute rates,
averages and shares in the query:
`rate(lore_tokens_wasted_total[5m]) / rate(lore_tokens_generated_total[5m])`.

**Waste.** A generated token is wasted if nobody has acknowledged it when its request is over: half
a minute after it was done or failed (acks may still arrive until then; a stopping generator does
not wait), or as soon as it was cancelled or reaped. The last owner counts it, including the tokens
of earlier owners. The store keeps how far was counted, so each token counts once, even if a request
is reaped, revived and reaped again. A token that is read later stays counted. Requests with ack
`none` do not count: their answers are meant to be kept, and nothing shows who reads them. Tokens
that a killed generator had not counted yet are not counted.

**Intact answers.** `lore_answers_total` counts what readers were told. `done`, `failed` and
`cancelled` are ends of a whole text, `failed` with a reason. `history_lost`, `gone` and `cut` are
answers that were not delivered as generated. A reader who only leaves has been told nothing.

**Stalled delivery.** `lore_edge_delivery_lag_seconds` covers chunks that an edge knows of and whose
reader is ready. It is 0 without readers, and while readers or generators are slow. Messages that
did not reach the edge show in `lore_gap_fills_total` and `lore_store_connections`.

**The article's five.** The article that Lore began with names five metrics, marked **\\*** below.

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
