"""``lore status``: the live requests and their windows as a table."""

import asyncio
import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from lore.cli.place import Problem
from lore.store import Store, StoreUnavailable, create_store
from lore.store.base import View

EVERY_S = 1.0
ROWS = 50


def status(url: str, *, watch: bool) -> None:
    """Print once, or every second until Ctrl-C. Raises Problem."""
    try:
        asyncio.run(_status(url, watch=watch))
    except StoreUnavailable as error:
        raise Problem(f"{error}; does Lore run there? (lore up)") from error
    except ValueError as error:
        raise Problem(str(error)) from error
    except KeyboardInterrupt:
        pass


async def _status(url: str, *, watch: bool) -> None:
    store = create_store(url)
    await store.connect()
    console = Console()
    try:
        if not watch:
            console.print(await _picture(store))
            return
        with Live(await _picture(store), console=console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(EVERY_S)
                live.update(await _picture(store), refresh=True)
    finally:
        await store.close()


async def _picture(store: Store) -> Group | str:
    depth = await store.queue_depth()
    views = await store.live(limit=ROWS)
    if not views:
        return "No request is live."
    return Group(_table(views), f"{len(views)} live, {depth} waiting for a generator")


def _table(views: list[View]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("request", no_wrap=True, min_width=len(views[0].request_id))
    table.add_column("state", no_wrap=True, min_width=len("generating"))
    table.add_column("generator", no_wrap=True)  # what gives way on a narrow terminal
    for name in ("seq", "acked", "window", "age", "still"):
        table.add_column(name, no_wrap=True, justify="right", min_width=len(name))
    now_ms = time.time() * 1000
    for view in views:
        table.add_row(
            view.request_id,
            view.status,
            view.owner or "-",
            str(view.next_seq - 1),
            str(view.acked_seq),
            _window(view),
            _seconds(now_ms - view.created_ms),
            _seconds(now_ms - view.progress_ms),
        )
    return table


def _window(view: View) -> str:
    """Unacknowledged tokens of those allowed."""
    used = view.generated_tokens - view.acked_tokens
    return f"{used}/{view.window}" if view.window else "open"


def _seconds(milliseconds: float) -> str:
    return f"{max(0.0, milliseconds / 1000):.0f} s"
