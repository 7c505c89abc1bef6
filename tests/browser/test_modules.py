"""The client's and the page's modules that need no browser, tested by node's own test runner."""

import subprocess
from pathlib import Path

import pytest

from tests.examples.stack import NODE

MODULES = Path(__file__).parent / "modules"


CLIENT = ["receiver", "lore", "fetchsource", "transport"]
PAGE = ["markdown", "formatting", "highlight", "conversation", "credentials", "slices"]


@pytest.mark.parametrize("name", CLIENT + PAGE)
def test_the_module_behaves(name: str) -> None:
    """P1, P9, P11 for the receiver, P1 for the stream; run one seed again with LORE_SEED=n."""
    command = [NODE, "--test", str(MODULES / f"{name}.test.js")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
