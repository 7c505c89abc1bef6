"""Settings that every service has: one environment variable each, prefix ``LORE_``.

A service subclasses ``CommonSettings`` and reads it once, with ``load``. The same names
are the chart's values and ``lore up``'s options.
"""

import os
import sys
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from lore.setting_names import PREFIX, judge

Port = Annotated[int, Field(ge=0, le=65_535)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CommonSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    valkey_url: str = "valkey://127.0.0.1:6379"
    """``valkey://``, ``valkey+sentinel://``, ``valkey+cluster://`` (``valkeys`` means TLS),
    ``unix://``; ``memory://`` for tests. Their options: ``store/valkey/client/location.py``."""
    store_wait_s: Annotated[float, Field(ge=0)] = 30.0
    """How long a starting service waits for the store; 0: no limit. The chart sets 0, so that a
    waiting pod is not restarted."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level to log. A healthy service logs little at ``info``. No level logs prompts,
    answers or secrets."""
    health_host: str = "127.0.0.1"
    health_port: Port = 0
    """The port of ``/livez``, ``/readyz`` and ``/metrics``; 0: any free port."""
    retention_s: Positive = 3600.0
    """How long an answer is kept after its end."""


S = TypeVar("S", bound=BaseSettings)


def load(kind: type[S]) -> S:
    """Read the settings from the environment, or exit with status 2 and a line per mistake."""
    if kind.model_config.get("env_prefix") == PREFIX:
        check_names()
    try:
        return kind()
    except ValidationError as error:
        for mistake in error.errors():
            name = "_".join(str(part) for part in mistake["loc"]).upper()
            print(
                f"{kind.model_config.get('env_prefix')}{name}: {_said(kind, mistake)}",
                file=sys.stderr,
            )
        sys.exit(2)
    except SettingsError as error:
        # It names the field, and its cause what is wrong with the JSON.
        print(f"{_named(kind, error)}: is not JSON: {error.__cause__}", file=sys.stderr)
        sys.exit(2)


def check_names() -> None:
    """Exit with status 2 and a line for each name that is nearly a setting's."""
    mistakes, ignored = judge(os.environ)
    for line in (*mistakes, *ignored):
        print(line, file=sys.stderr)
    if mistakes:
        sys.exit(2)


def _named(kind: type[BaseSettings], error: SettingsError) -> str:
    """The variable whose value cannot be parsed."""
    found = next((name for name in kind.model_fields if f'"{name}"' in str(error)), "")
    return f"{kind.model_config.get('env_prefix')}{found.upper()}"


def _said(kind: type[BaseSettings], mistake: ErrorDetails) -> str:
    """The message about a mistake; in place of a pattern, which few can read, the setting's
    example.
    """
    field = kind.model_fields.get(str(mistake["loc"][0])) if mistake["loc"] else None
    if mistake["type"] == "string_pattern_mismatch" and field is not None and field.examples:
        return f"must look like {field.examples[0]}"
    return mistake["msg"].removeprefix("Value error, ")
