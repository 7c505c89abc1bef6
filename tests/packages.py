"""Our packages as a release would have them, and the libraries that they declare."""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OURS = {
    "lore-client": ROOT / "clients/python",
    "lore-conformance": ROOT / "clients/conformance",
    "lore-core": ROOT / "core",
    "lore-edge": ROOT / "services/edge",
    "lore-generator": ROOT / "services/generator",
    "lore-operator": ROOT / "services/operator",
}


def declared(requirements: Iterable[str], extras: set[str]) -> list[Requirement]:
    """Those that count here, with these extras chosen."""
    chosen: list[Requirement] = []
    for text in requirements:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": name}) for name in extras or {""}):
            chosen.append(requirement)
    return chosen


def built(name: str, wheels: dict[str, Path]) -> Distribution:
    """What the wheel says of itself, which may be newer than what is installed here."""
    (found,) = distributions(name=name, path=[str(wheels[name])])
    return found


def closure(name: str, extras: set[str], wheels: dict[str, Path]) -> dict[str, Distribution]:
    """Everything that a package needs, by name, itself included."""
    found: dict[str, Distribution] = {}
    waiting, seen = [(name, frozenset(extras))], set[tuple[str, frozenset[str]]]()
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        found[item[0]] = built(item[0], wheels) if item[0] in wheels else distribution(item[0])
        waiting += [
            (canonicalize_name(requirement.name), frozenset(requirement.extras))
            for requirement in declared(found[item[0]].requires or [], set(item[1]))
        ]
    return found


def link(libraries: Iterable[Distribution], target: Path) -> None:
    """Show these libraries in ``target``: their files and folders, by the top of each path."""
    for library in libraries:
        for top in {file.parts[0] for file in library.files or []} - {"..", "__pycache__"}:
            if not (target / top).exists():  # a namespace may be of several
                (target / top).symlink_to(Path(str(library.locate_file(top))))


def install(name: str, target: Path, tmp: Path) -> "subprocess.Popen[bytes]":
    """Build the package from a copy of its sources, as a release would, and unpack it."""
    source = tmp / "source" / name
    leave_out = shutil.ignore_patterns("*.egg-info", "__pycache__", "build")
    shutil.copytree(OURS[name], source, ignore=leave_out)
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--no-compile"]
    return subprocess.Popen([*pip, *options, "--target", str(target), str(source)])
