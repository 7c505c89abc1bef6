"""The command line: ``lore up``, ``lore ask``, ``lore status`` and others."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Imports the rest itself, because Ctrl-C may come while it is loading."""
    try:
        from lore.cli.app import run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
