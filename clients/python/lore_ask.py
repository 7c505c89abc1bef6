"""The command ``lore-ask``.

This module is outside the package, because Ctrl-C may come while the package and its libraries
load.
"""

import sys

INTERRUPTED = 130


def main() -> None:
    try:
        from lore_client.cli import run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
