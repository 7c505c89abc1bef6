"""The version of everything: ``python -m tests.version``.

It stands in core/pyproject.toml. ``make version TO=0.2.0`` writes it wherever it is repeated, and
``test_version.py`` finds a place that was forgotten.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "core/pyproject.toml"
PYPROJECTS = sorted(
    [*ROOT.glob("clients/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")]
)
REPEATED = [
    *PYPROJECTS,
    ROOT / "clients/js/package.json",
    *(ROOT / "charts/lore" / name for name in ("Chart.yaml", "README.md")),
    ROOT / "docs/operations.md",
    *sorted(ROOT.glob("k8s/samples/*.yaml")),
    *(ROOT / "tests" / name for name in ("chart/matrix.py", "chart/test_hatches.py")),
    ROOT / "tests/cluster/test_engine.py",
]
"""Where it may stand besides: manifests, images' tags, and the tests of these."""
HISTORY = ("CHANGELOG.md",)
LOCKS = re.compile(r"(.*/)?(package-lock\.json|requirements.*\.txt|constraints\.txt)")
"""Other projects' versions."""


def of_toml(file: Path) -> str:
    return tomllib.loads(file.read_text())["project"]["version"]


def current() -> str:
    return of_toml(SOURCE)


def declared() -> dict[str, str]:
    """What each manifest says."""
    chart = yaml.safe_load((ROOT / "charts/lore/Chart.yaml").read_text())
    package = json.loads((ROOT / "clients/js/package.json").read_text())
    found = {str(file.relative_to(ROOT)): of_toml(file) for file in (SOURCE, *PYPROJECTS)}
    return found | {
        "clients/js/package.json": package["version"],
        "the chart's version": chart["version"],
        "the chart's appVersion": chart["appVersion"],
    }


def mention(version: str) -> re.Pattern[str]:
    """Not as a part of a longer version."""
    return re.compile(rf"(?<![\w.=<>~!]){re.escape(version)}(?![\d.]*\d)")


def forgotten() -> list[str]:
    """Tracked files that have the version and are not known to."""
    listed = subprocess.run(
        ["git", "grep", "-lIF", current()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert listed.returncode in (0, 1), listed.stderr
    known = {str(file.relative_to(ROOT)) for file in (SOURCE, *REPEATED)}
    return [
        name
        for name in listed.stdout.splitlines()
        if name not in known | {*HISTORY}
        and not LOCKS.fullmatch(name)
        and mention(current()).search((ROOT / name).read_text())
    ]


def write(version: str) -> None:
    pattern = mention(current())
    for file in (SOURCE, *REPEATED):
        file.write_text(pattern.sub(version, file.read_text()))


def main() -> int:
    parser = argparse.ArgumentParser("tests.version", description=__doc__)
    parser.add_argument("--is", dest="expected", help="fail unless this is the version")
    parser.add_argument("--to", help="write this one everywhere")
    chosen = parser.parse_args()
    if chosen.to:
        if not re.fullmatch(r"\d+\.\d+\.\d+(-[\w.]+)?", chosen.to):
            parser.error(f"'{chosen.to}' is no version such as 0.2.0")
        write(chosen.to)
    print(current())
    if chosen.expected not in (None, current()):
        print(f"the sources are {current()} and not {chosen.expected}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
