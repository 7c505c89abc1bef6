"""What the commands have in common that look at a store: the console, and their errors."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from rich.console import Console

from lore.store import StoreUnavailable
from lore_client.place import Problem

T = TypeVar("T")

WHOLE = 10_000
"""A width in columns that no table reaches."""


def screen() -> Console:
    """A console as wide as the terminal. A pipe or a file has no width: programs read whole
    lines.
    """
    console = Console()
    return console if console.is_terminal else Console(width=WHOLE)


def run_to_end(work: Coroutine[None, None, T]) -> T | None:
    """Run it to its end, or until Ctrl-C. Raises Problem if the store is away, or is none."""
    try:
        return asyncio.run(work)
    except StoreUnavailable as error:
        raise Problem(f"{error}; does Lore run there? (lore up)") from error
    except ValueError as error:
        raise Problem(str(error)) from error
    except KeyboardInterrupt:
        return None
