"""One version, in one place, and in the changelog."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import version
from tests.version import ROOT, current, declared, forgotten, mention


def test_all_manifests_agree() -> None:
    assert set(declared().values()) == {current()}


def test_nothing_else_has_the_version() -> None:
    assert forgotten() == []


def test_every_place_that_may_have_it_is_there() -> None:
    assert [file for file in version.REPEATED if not file.is_file()] == []


def test_a_new_version_is_written_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = {
        file: tmp_path / file.relative_to(ROOT) for file in (version.SOURCE, *version.REPEATED)
    }
    for file, copy in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    old = current()
    monkeypatch.setattr(version, "ROOT", tmp_path)
    monkeypatch.setattr(version, "SOURCE", copies[version.SOURCE])
    monkeypatch.setattr(version, "PYPROJECTS", [copies[file] for file in version.PYPROJECTS])
    monkeypatch.setattr(version, "REPEATED", [copies[file] for file in version.REPEATED])
    version.write("9.8.7")
    assert set(declared().values()) == {"9.8.7"}
    assert not any(mention(old).search(copy.read_text()) for copy in copies.values())


def test_a_tag_that_is_not_the_version_is_refused() -> None:
    for tag, status in ((current(), 0), ("9.8.7", 1)):
        command = [sys.executable, "-m", "tests.version", "--is", tag]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status


def test_the_changelog_has_the_version_below_what_is_not_released() -> None:
    headings = re.findall(r"^## \[(.+?)\]( - \d{4}-\d\d-\d\d)?$", _changelog(), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == current()
    assert headings[1][1]


def _changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text()
