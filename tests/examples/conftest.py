from collections.abc import Iterator

import pytest

from tests.examples.stack import Stack
from tests.services.auth_harness import KeyRing
from tests.services.command_line import Running

SETTINGS = {
    "LORE_HEARTBEAT_S": "0.02",  # between any two events, which no reader may mistake for one
    "LORE_SYNTHETIC_RATE": "150",
    "LORE_SYNTHETIC_LENGTH": "300",
    "LORE_CORS_ORIGINS": "*",
}


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("lore")
    keys = KeyRing(folder / "keys")
    key = keys.new("somebody")
    with Running(
        *("up", "--engine", "synthetic", "--port", "0", "--api-keys", str(keys.path)),
        data_dir=folder / "data",
        **SETTINGS,
    ) as up:
        up.until("Ctrl-C stops everything.")
        yield Stack(up.edges, key)
