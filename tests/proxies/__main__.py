"""When the first text comes behind each proxy, beside what comes directly: ``python -m
tests.proxies``. Prints a table in Markdown; the clients but the page run side by side."""

import argparse
import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.stack import lore_up
from tests.proxies.page import read
from tests.proxies.proxies import PROXIES
from tests.proxies.trials import all_clients, whole

T = TypeVar("T")
PAGE = "the page"
RATE = {"LORE_SYNTHETIC_RATE": "100", "LORE_SYNTHETIC_LENGTH": "100"}


def page_trial(browser: Browser, url: str) -> dict[str, Any]:
    context = browser.new_context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    try:
        return read(context.new_page(), url)
    finally:
        context.close()


def main(rounds: int, names: list[str]) -> None:
    chromium = shutil.which("chromium")
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        edge = stack.enter_context(lore_up(place / "lore", "--edges", "1", **RATE)).urls[0]
        # Playwright holds an event loop on this thread.
        beside = stack.enter_context(ThreadPoolExecutor(1))

        def run(work: Coroutine[Any, Any, T]) -> T:
            return beside.submit(asyncio.run, work).result()

        def tried(url: str) -> dict[str, dict[str, Any]]:
            said = run(all_clients(url))
            if browser is not None:
                said[PAGE] = page_trial(browser, url)
            for client, one in said.items():
                assert one["text"] == run(whole(edge, one["id"])) != "", client
            return said

        browser = None
        if chromium:
            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            stack.callback(browser.close)
        direct: dict[str, float] = {}
        for at, name in enumerate(names or PROXIES):
            proxy = PROXIES[name]
            folder = place / str(at)
            folder.mkdir()
            try:
                with proxy.start(folder, int(edge.rpartition(":")[2])) as url:
                    rows = [tried(url) for _ in range(rounds)]
            except pytest.skip.Exception as reason:
                print(f"| {name} | {reason} |", flush=True)
                continue
            columns = sorted(rows[0])
            if not at:
                print(f"| first text, s (over none) | {' | '.join(columns)} |")
                print(f"|---{'|---' * len(columns)}|")
            cells: list[str] = []
            for client in columns:
                first_s = statistics.median(row[client]["first"] for row in rows)
                over = first_s / direct.setdefault(client, first_s)
                by_polls = ", polls" if any(row[client].get("polls") for row in rows) else ""
                cells.append(f"{first_s:.2f} ({over:.1f}{by_polls})")
            told = "" if proxy.heeds else " *"
            print(f"| {name}{told} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.proxies", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("names", nargs="*", help="these proxies, the first of them to compare with")
    asked = parser.parse_args()
    main(asked.rounds, asked.names)
