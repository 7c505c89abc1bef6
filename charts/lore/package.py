"""Write the chart as one file: ``make package``.

    python charts/lore/package.py FOLDER [REPOSITORY]

``REPOSITORY`` is where you publish the sources, as https://git.example.org/lore: the chart's page
gets its home, and the README's links lead there.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import package

CHART = Path(__file__).parent
ICON = "services/edge/lore_edge/web/icon.svg"
BRANCH = "main"


def of_repository(chart: dict[str, Any], repository: str) -> dict[str, Any]:
    """Chart.yaml with what only a publisher knows."""
    icon = f"{repository}/raw/{BRANCH}/{ICON}"
    return chart | {"home": repository, "sources": [repository], "icon": icon}


def write(folder: Path, repository: str = "") -> Path:
    """The package's path. ``repository`` is '' where there is none to name."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / CHART.name
        shutil.copytree(CHART, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if repository:
            file = copy / "Chart.yaml"
            chart = of_repository(yaml.safe_load(file.read_text()), repository.rstrip("/"))
            file.write_text(yaml.safe_dump(chart, sort_keys=False))
            readme = copy / "README.md"
            there = f"]({chart['home']}/blob/{BRANCH}/"
            readme.write_text(readme.read_text().replace("](../../", there))
        folder.mkdir(parents=True, exist_ok=True)
        return Path(package(copy, destination=folder))


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), *sys.argv[2:3]))
