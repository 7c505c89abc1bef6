"""The console on which commands print tables."""

from rich.console import Console

WHOLE = 10_000
"""A width in columns that no table reaches."""


def screen() -> Console:
    """A console as wide as the terminal. A pipe or a file has no width: programs read whole
    lines.
    """
    console = Console()
    return console if console.is_terminal else Console(width=WHOLE)
