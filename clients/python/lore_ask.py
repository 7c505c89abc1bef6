"""The command ``lore-ask``.

A module outside the package: Ctrl-C may come while the package and its libraries are loading.
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
