"""Where commands print tables."""

from rich.console import Console

WHOLE = 10_000
"""Columns, more than any table has."""


def screen() -> Console:
    """As wide as the terminal. A pipe or a file has no width: a program reads whole lines."""
    console = Console()
    return console if console.is_terminal else Console(width=WHOLE)
