"""The command line: ``lore up``, ``lore ask`` and ``lore status``."""

from lore.cli.app import main

__all__ = ["main"]
