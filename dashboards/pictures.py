"""``make pictures``: the dashboards' first rows, drawn from a run under faults, for the docs.

It needs no Grafana: it queries a real Prometheus with the panels' expressions, and draws each panel
in its place.
"""

import asyncio
import io
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from dashboards.boards import BOARDS
from dashboards.grafana import WIDTH
from dashboards.prometheus import NoProgram, Prometheus, concrete
from tests.monitoring.run import Run, watched_run

OUT = Path(__file__).parents[1] / "docs/dashboards"
ROWS = 2
STREAMS, SPREAD_S, STALL_S, SEED = 300, 100.0, 20, 7
RATE_INTERVAL, STEP_S = "8s", 1.0
FEW = 6
CELL_IN, PER_ROW_IN = 0.56, 0.34
DPI = 84
INK, SOFT, LINE, PAPER = "#23211d", "#686257", "#e3ddd1", "#fffefb"
COLOURS = ("#2c6e5b", "#c98a1b", "#a63a28", "#4a6fa5", "#8a5a9e", "#6b7a3a", "#5b8f8a", "#b5838d")
STEPS = {"green": "#2c6e5b", "orange": "#b0700f", "red": "#a63a28"}

Lines = dict[str, tuple[list[float], list[float]]]
"""(seconds, values) by legend."""


def in_words(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if 0 < abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


async def lines_of(prometheus: Prometheus, panel: Any, run: Run) -> Lines:
    found: Lines = {}
    for target in panel.targets:
        expr = concrete(target.expr, RATE_INTERVAL)
        for series in await prometheus.over(expr, run.begin_s, run.end_s, STEP_S):
            legend = target.legend_format
            for name, value in series["metric"].items():
                legend = legend.replace(f"{{{{{name}}}}}", value)
            times = [at - run.begin_s for at, _ in series["values"]]
            found[legend] = times, [float(value) for _, value in series["values"]]
    return found


def draw_line(axes: Axes, panel: Any, lines: Lines) -> None:
    unit = panel.field_config.defaults.unit
    custom = panel.field_config.defaults.custom
    stacked = custom.stacking is not None
    # Lines that are always 0 appear only in the legend.
    seen = {name: one for name, one in lines.items() if any(v > 0 for v in one[1])}
    quiet = sorted(lines.keys() - seen.keys())
    for name in quiet if len(lines) < FEW else ():
        axes.plot([], [], color=LINE, label=name)
    if stacked and seen:
        times = sorted({at for one, _ in seen.values() for at in one})
        values = []
        for at, found in seen.values():
            known = dict(zip(at, found, strict=True))
            values.append([known.get(time, 0.0) for time in times])
        axes.stackplot(times, values, colors=COLOURS, labels=seen, alpha=0.75, linewidth=0)
    else:
        for colour, (name, (times, values)) in zip(COLOURS * 4, seen.items(), strict=False):
            axes.plot(times, values, color=colour, linewidth=1.2, label=name)
    most = axes.get_ylim()[1] if seen else 1.0
    for step in panel.field_config.defaults.thresholds.steps if custom.thresholds_style else []:
        if step.value is not None and step.value <= most * 1.05:
            axes.axhline(step.value, color=STEPS[step.color], linestyle="--", linewidth=0.9)
    axes.set_ylim(0, most * 1.05)
    axes.set_xlim(0, SPREAD_S)
    axes.set_title(panel.title, loc="left", fontsize=9.5, color=INK, fontweight="bold", pad=4)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(lambda value, _: in_words(value, unit))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.tick_params(labelsize=7, colors=SOFT, length=0)
    axes.grid(color=LINE, linewidth=0.6)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, -0.13),
        ncols=4 if len(lines) < 5 else 3,
        fontsize=6.5,
        labelcolor=SOFT,
        frameon=False,
        handlelength=1,
        columnspacing=1,
        borderaxespad=0,
    )


def draw_stat(axes: Axes, panel: Any, lines: Lines) -> None:
    axes.axis("off")
    defaults = panel.field_config.defaults
    values = [v for _, found in lines.values() for v in found if not math.isnan(v)]
    said, colour = "no data", SOFT
    if values:
        said = in_words(values[-1], defaults.unit)
        for step in defaults.thresholds.steps:
            if step.value is None or values[-1] >= step.value:
                colour = STEPS[step.color]
    axes.text(0, 0.75, panel.title, fontsize=9, color=INK, transform=axes.transAxes)
    axes.text(
        *(0, 0.3, said), fontsize=18, color=colour, fontweight="bold", transform=axes.transAxes
    )


async def draw(board: Any, run: Run) -> Figure:
    """Draw the figures of the run's end, and the panels of the first rows."""
    names = [panel for panel in board.panels if panel.type_val == "row"]
    bottom = names[ROWS].grid_pos.y if len(names) > ROWS else math.inf
    shown = [panel for panel in board.panels if panel.grid_pos.y < bottom]
    height = max(panel.grid_pos.y + panel.grid_pos.h for panel in shown)
    figure = Figure((WIDTH * CELL_IN, (height + 1.5) * PER_ROW_IN), facecolor=PAPER, dpi=DPI)
    figure.text(0.015, 1 - 0.9 / (height + 1.5), board.title, fontsize=13, color=INK)
    for panel in shown:
        at = panel.grid_pos
        x, top = at.x / WIDTH, 1 - (at.y + 1.5) / (height + 1.5)
        wide, high = at.w / WIDTH, at.h / (height + 1.5)
        if panel.type_val == "row":
            figure.text(0.015, top - 0.8 * high, panel.title, fontsize=10, color=SOFT)
            continue
        lines = await lines_of(run.prometheus, panel, run)
        if panel.type_val == "stat":
            axes = figure.add_axes((x + 0.015, top - high, wide - 0.02, high * 0.95))
            draw_stat(axes, panel, lines)
        else:
            box = (x + 0.045, top - high * 0.78, wide - 0.06, high * 0.65)
            draw_line(figure.add_axes(box), panel, lines)
    return figure


async def pictures() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run_of = watched_run(
            Path(folder), SEED, streams=STREAMS, spread_s=SPREAD_S, stall_s=STALL_S
        )
        async with run_of as run:
            run.end_s = run.begin_s + SPREAD_S  # after that, fewer and fewer readers are left
            for board in BOARDS:
                figure = await draw(board, run)
                path = OUT / f"{str(board.uid).removeprefix('lore-')}.png"
                save(figure, path)
                print(path)


def save(figure: Figure, path: Path) -> None:
    """Save it with few colours, which makes the file a third of the size."""
    drawn = io.BytesIO()
    figure.savefig(drawn, facecolor=PAPER)
    Image.open(drawn).convert("RGB").quantize(96).save(path, optimize=True)


if __name__ == "__main__":
    try:
        asyncio.run(pictures())
    except NoProgram as error:
        sys.exit(f"make pictures: {error}")
