"""Settings that there are not: a mistake is refused with the name that was meant."""

import subprocess
import sys

import pytest

from lore.setting_names import OTHERS, PREFIX, SERVICES, judge
from lore_edge.settings import EdgeSettings
from lore_generator.settings import GeneratorSettings
from lore_operator.settings import OperatorSettings


def test_each_part_knows_the_settings_of_all() -> None:
    kinds = (EdgeSettings, GeneratorSettings, OperatorSettings)
    assert {name.upper() for kind in kinds for name in kind.model_fields} == SERVICES
    assert not OTHERS & SERVICES


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LORE_RETENTON_S", "LORE_RETENTION_S"),
        ("LORE_RETENTION", "LORE_RETENTION_S"),
        ("LORE_PROT", "LORE_PORT"),
        ("LORE_AUHT", "LORE_AUTH"),
        ("LORE_JWT_ISUER", "LORE_JWT_ISSUER"),
        ("LORE_MAXREQUESTS", "LORE_MAX_REQUESTS"),
        ("LORE_API_KEY_FILE", "LORE_API_KEYS_FILE"),
        ("LORE_API_KEYS", "LORE_API_KEY or LORE_API_KEYS_FILE"),
        ("LORE_TOKENISER", "LORE_TOKENIZER"),
        ("LORE_WINDOW_INITAL", "LORE_WINDOW_INITIAL"),
    ],
)
def test_a_mistake_is_refused_with_what_was_meant(name: str, meant: str) -> None:
    (mistake,), ignored = judge([name, "LORE_PORT", "PATH"])
    assert mistake.startswith(f"{name}: there is no such setting; did you mean {meant}")
    assert ignored == []


@pytest.mark.parametrize("name", ["LORE_BACKUP_BUCKET", "LORE_TEST_LLAMA_SERVER", "LORE_SIM_SEED"])
def test_a_name_of_somebodys_own_is_told_and_left_alone(name: str) -> None:
    assert judge([name]) == ([], [f"{name}: there is no such setting, and it is ignored"])


def test_no_known_name_is_spoken_of() -> None:
    assert judge(PREFIX + name for name in SERVICES | OTHERS) == ([], [])


def test_a_service_does_not_start_with_a_mistake() -> None:
    asked = "from lore.settings import CommonSettings, load; load(CommonSettings); print('started')"
    for name, status in (("LORE_RETENTON_S", 2), ("LORE_BACKUP_BUCKET", 0), ("PATH", 0)):
        done = subprocess.run(
            [sys.executable, "-c", asked],
            env={name: "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status
        assert (name in done.stderr) is (name != "PATH")
        assert (done.stdout == "started\n") is (status == 0)
