"""The file in which a ``lore up`` on this machine announces what it runs."""

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

RECORD = "running.json"


class Problem(Exception):
    """An error for the person at the terminal: one line that says what is wrong and what to do."""


class Running(BaseModel):
    """What a running ``lore up`` announces to the other commands."""

    edges: list[str]
    valkey_url: str
    health_ports: dict[str, int] = {}
    """The port of each process's ``/metrics`` on 127.0.0.1, by its name."""


def default_data_dir() -> Path:
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local/state") / "lore"


def called_as(program: str, data_dir: Path) -> tuple[str, str]:
    """How this person calls ``program`` from the current directory, and the option that names
    ``data_dir``: empty if it is the default.
    """
    option = "" if data_dir == default_data_dir() else f" --data-dir {shlex.quote(str(data_dir))}"
    path = Path(sys.argv[0]).absolute()
    if path.name != program or shutil.which(program):
        return program, option
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path)), option


def running(data_dir: Path) -> Running | None:
    """The last announcement. Its ``lore up`` may have died since."""
    try:
        return Running.model_validate_json((data_dir.expanduser() / RECORD).read_text())
    except (OSError, ValidationError):
        return None
