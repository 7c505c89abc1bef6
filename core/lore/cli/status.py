"""``lore status``: the live requests and their windows."""

import asyncio
import textwrap
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lore.cli.screen import WHOLE, run_to_end, screen
from lore.store import Store, opened
from lore.store.base import View

EVERY_S = 1.0
ROWS = 50
"""How many rows a person looks through on a screen."""
ALL_ROWS = 1_000_000
NO_BREAK = "\u00a0"
FIGURES = ("seq", "acked", "window", "age", "idle")


def status(url: str, *, watch: bool) -> None:
    """Print once, or every second until Ctrl-C. Raises Problem."""
    run_to_end(_status(url, watch=watch))


async def _status(url: str, *, watch: bool) -> None:
    console = screen()
    async with opened(url) as store:
        if not watch:
            console.print(await picture(store, console))
            return
        with Live(await picture(store, console), console=console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(EVERY_S)  # as often as people can read
                live.update(await picture(store, console), refresh=True)


async def picture(store: Store, console: Console) -> RenderableType:
    """A table, or blocks if the screen is too narrow for it."""
    rows = ROWS if console.is_terminal else ALL_ROWS
    depth = await store.queue_depth()
    views = await store.live(limit=rows + 1)
    if not views:
        return "No request is live."
    count = f"{len(views)} live" if len(views) <= rows else f"{rows} of the live requests"
    shown: list[RenderableType] = [table := _table(views[:rows])]
    whole = Measurement.get(console, console.options.update(max_width=WHOLE), table)
    if whole.maximum > console.width:
        shown = [_block(view, console.width) for view in views[:rows]]
    return Group(*shown, f"{count}, {depth} waiting for a generator")


def _table(views: list[View]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("request", "state", "generator"):
        table.add_column(name, no_wrap=True)
    for name in FIGURES:
        table.add_column(name, no_wrap=True, justify="right")
    for view in views:
        table.add_row(view.request_id, view.status, view.owner or "-", *_figures(view))
    return table


def _block(view: View, width: int) -> Text:
    """The same as a block. Its lines wrap between figures, never between a figure and its name."""
    pairs = zip(FIGURES, _figures(view), strict=True)
    figures = [f"{name} {figure}".replace(" ", NO_BREAK) for name, figure in pairs]
    lines = [f"{view.request_id} {view.status}", f"  {view.owner}", f"  {', '.join(figures)}"]
    wrapped = (textwrap.fill(line, width, subsequent_indent="  ") for line in lines if line.strip())
    return Text("\n".join(wrapped).replace(NO_BREAK, " "), no_wrap=True)


def _figures(view: View) -> tuple[str, ...]:
    now_ms = time.time() * 1000
    return (
        str(view.next_seq - 1),
        str(view.acked_seq),
        _window(view),
        _seconds(now_ms - view.created_ms),
        _seconds(now_ms - view.progress_ms),
    )


def _window(view: View) -> str:
    """The unacknowledged tokens and the size of the window."""
    used = view.generated_tokens - view.acked_tokens
    return f"{used}/{view.window}" if view.window else "open"


def _seconds(milliseconds: float) -> str:
    return f"{max(0.0, milliseconds / 1000):.0f} s"
