"""A known scanner (checkov) looks at what the chart renders; each exception has its reason."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.matrix import MATRIX
from tests.chart.rendering import render

CHECKOV = Path(sys.prefix) / "checkov/bin/checkov"
"""In an environment of its own: it pins a hundred libraries."""
SCANNED = ("defaults", "everything on", "GPU")

ANY = r".*"
EXCEPTIONS = {
    "CKV_K8S_11": (ANY, "A CPU limit throttles a pod that could use what is idle"),
    "CKV_K8S_15": (ANY, "Images have versions; pulling at each start makes the registry a risk"),
    "CKV_K8S_43": (ANY, "image.tag takes a digest from whoever wants one"),
    "CKV_K8S_35": (ANY, "Settings are environment variables; no password stands in a manifest"),
    "CKV_K8S_38": (r".*-(operator|wait)\b", "These two talk to the API server"),
    "CKV_K8S_8": (r".*-test\b", "It runs once, to its end"),
    "CKV_K8S_9": (r".*-(test|wait)\b", "They run once, to their end"),
    "CKV2_K8S_6": (r".*-(test|wait)\b", "They run once, and nobody calls them"),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not CHECKOV.exists():
        pytest.skip("make setup installs the scanner")
    folder = tmp_path_factory.mktemp("rendered")
    for number, name in enumerate(SCANNED):
        (folder / f"{number}.yaml").write_text(yaml.safe_dump_all(render(MATRIX[name])))
    options = ["--framework", "kubernetes", "--output", "json", "--quiet", "--skip-download"]
    done = subprocess.run(
        [CHECKOV, "--directory", folder, *options],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LOG_LEVEL": "ERROR"},
        stdout=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    return json.loads(done.stdout)


def test_the_scanner_looked_at_everything(report: dict[str, Any]) -> None:
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 1000


def test_the_scanner_finds_nothing_but_what_is_meant(report: dict[str, Any]) -> None:
    found = {
        (check["check_id"], check["check_name"], check["resource"])
        for check in report["results"]["failed_checks"]
    }
    unmeant = {
        (check, name, resource)
        for check, name, resource in found
        if check not in EXCEPTIONS or not re.match(EXCEPTIONS[check][0], resource)
    }
    assert unmeant == set()
    assert {check for check, _, _ in found} == set(EXCEPTIONS), "an exception that is not needed"
