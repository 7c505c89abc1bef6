"""``lore sweep``: finds requests without progress and reaps stalled windows."""

import asyncio
import time

from rich.table import Table

from lore.cli.screen import run_to_end, screen
from lore.settings import CommonSettings, load
from lore.store import StoreUnavailable, opened
from lore.sweep import Finding, Policy, SweepAction, sweep

NEEDS_SOMEBODY = 3


def run(url: str, policy: Policy, *, dry_run: bool, every_s: float | None) -> int:
    """Sweep and print the findings. Returns the exit status: 0, or NEEDS_SOMEBODY when findings
    remain.

    With ``every_s``, in seconds, it goes on until Ctrl-C. Raises Problem.
    """
    return run_to_end(_run(url, policy, dry_run=dry_run, every_s=every_s)) or 0


async def _run(url: str, policy: Policy, *, dry_run: bool, every_s: float | None) -> int:
    retention_ms = round(load(CommonSettings).retention_s * 1000)
    console = screen()
    async with opened(url) as store:
        while True:
            now_ms = time.time_ns() // 1_000_000
            try:
                found = await sweep(
                    store, policy, now_ms=now_ms, retention_ms=retention_ms, dry_run=dry_run
                )
            except StoreUnavailable as error:
                if every_s is None:
                    raise
                console.print(f"{error}; trying again in {every_s:g} s", markup=False)
            else:
                console.print(
                    _table(found, dry_run) if found else "Every live request makes progress."
                )
                if every_s is None:
                    left = [a for a in found if dry_run or a.finding is not Finding.STALLED]
                    return NEEDS_SOMEBODY if left else 0
            await asyncio.sleep(every_s or 0)  # lateness is no event; it shows with time


def _table(found: list[SweepAction], dry_run: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("request", no_wrap=True, min_width=len(found[0].view.request_id))
    for name in ("state", "finding", "for", "done"):
        table.add_column(name, no_wrap=True)
    table.add_column("generator", overflow="fold")
    for action in found:
        view = action.view
        done = "reaped" if action.finding is Finding.STALLED and not dry_run else "-"
        since = f"{action.since_ms / 1000:.0f} s"
        owner = view.owner or "-"
        table.add_row(view.request_id, view.status, action.finding, since, done, owner)
    return table
