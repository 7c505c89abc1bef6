"""The command line: ``lore up``, ``lore ask``, ``lore status`` and others."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line. It imports the rest itself, because Ctrl-C may come during the
    imports.
    """
    try:
        from lore.cli.app import run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
