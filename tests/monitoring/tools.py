"""Programs that do not come from PyPI: found on the path, or where ``make setup`` put them."""

import shutil
import sys
from pathlib import Path

import pytest


def program(name: str) -> Path:
    """Skips the test where there is none."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt install prometheus)")
    return Path(found)
