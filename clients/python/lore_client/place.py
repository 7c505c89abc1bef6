"""The file in which a ``lore up`` on this machine announces what it runs."""

import os
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


def running(data_dir: Path) -> Running | None:
    """The last announcement. Its ``lore up`` may have died since."""
    try:
        return Running.model_validate_json((data_dir.expanduser() / RECORD).read_text())
    except (OSError, ValidationError):
        return None
