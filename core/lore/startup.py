"""The start of a service: it can be stopped before anything else works.

Importing a service takes seconds. A process without a handler for SIGTERM dies of it, or, as first
process of a container, ignores it. So the handlers are installed before the imports, and this
module imports little. A service installs its own handlers once it has something to end in order.
Until then it has claimed nothing, and just exits.
"""

import importlib
import os
import signal
import sys

from lore import stderr


class Fatal(Exception):
    """The service cannot start; the message says why and what to do."""

    status = 1


class BadSetting(Fatal):
    status = 2


def run(module: str) -> None:
    """Import a service's module and call its ``main``."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    sys.stdout = sys.stderr = stderr.stream()  # libraries print to both
    try:
        importlib.import_module(module).main()
    except Fatal as error:
        service = module.partition(".")[0].replace("_", "-")
        print(f"{service}: {error}", file=sys.stderr)
        sys.exit(error.status)


def _leave(number: int, _: object) -> None:
    os._exit(0 if number == signal.SIGTERM else 128 + number)
