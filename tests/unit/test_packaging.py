"""Each package installs alone and imports with what it declares, and nothing else.

A wheel of each is built and unpacked into an empty folder. The libraries that it declares,
and those that they declare in turn, are linked in from here by their own list of files;
Python then starts without site-packages and imports every module.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OURS = {
    "lore-core": ROOT / "core",
    "lore-edge": ROOT / "services/edge",
    "lore-generator": ROOT / "services/generator",
    "lore-operator": ROOT / "services/operator",
}

IMPORT_ALL = """
import importlib, pkgutil, sys
package, skipped = importlib.import_module(sys.argv[1]), tuple(sys.argv[2:])
prefix = package.__name__ + "."
for module in pkgutil.walk_packages(package.__path__, prefix, onerror=lambda _: None):
    if not module.name.startswith(skipped) and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


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


def import_all(package: str, target: Path, skipped: Iterable[str] = ()) -> None:
    """Import every module with the standard library and ``target`` alone."""
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-W", "error", "-c", IMPORT_ALL, package, *skipped],
        env={"PYTHONPATH": str(target), "PATH": os.environ["PATH"]},
        cwd=target,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each of our packages, built once and unpacked into a folder of its own."""
    tmp = tmp_path_factory.mktemp("wheels")
    builds = [install(name, tmp / name, tmp) for name in OURS]
    assert [build.wait(120) for build in builds] == [0] * len(builds)
    return {name: tmp / name for name in OURS}


@pytest.mark.parametrize(
    ("name", "extras", "skipped"),
    [
        ("lore-core", set[str](), ["lore.cli", "lore.client", "lore.tracing.otel"]),
        ("lore-core", {"cli"}, ["lore.tracing.otel"]),
        ("lore-core", {"tracing"}, ["lore.cli", "lore.client"]),
        ("lore-edge", set[str](), ["lore.cli", "lore.client"]),
        ("lore-generator", set[str](), ["lore_generator.engines."]),
        ("lore-operator", set[str](), ["lore.cli", "lore.client"]),
        pytest.param("lore-generator", {"transformers"}, [], marks=pytest.mark.model),
    ],
)
def test_a_package_imports_with_what_it_declares_alone(
    name: str, extras: set[str], skipped: list[str], wheels: dict[str, Path], tmp_path: Path
) -> None:
    needed = closure(name, extras, wheels)
    link([library for key, library in needed.items() if key not in OURS], tmp_path)
    for ours in needed.keys() & OURS.keys():
        shutil.copytree(wheels[ours], tmp_path, dirs_exist_ok=True)
    import_all(name.removesuffix("-core").replace("-", "_"), tmp_path, skipped)


def test_the_protocol_needs_the_standard_library_alone(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "lore").mkdir()
    shutil.copy(wheels["lore-core"] / "lore/__init__.py", tmp_path / "lore")
    shutil.copytree(wheels["lore-core"] / "lore/protocol", tmp_path / "lore/protocol")
    import_all("lore", tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lore-core", "lore/store/lua/common.lua"),
        ("lore-core", "lore/py.typed"),
        ("lore-edge", "lore_edge/web/index.html"),
    ],
)
def test_what_is_no_python_is_installed_too(name: str, file: str, wheels: dict[str, Path]) -> None:
    assert (wheels[name] / file).is_file()


def test_every_library_that_a_package_declares_is_pinned(wheels: dict[str, Path]) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if "==" in line}
    for name in OURS:
        for text in built(name, wheels).requires or []:
            library = canonicalize_name(Requirement(text).name)
            assert library in pinned or library in OURS, f"{library} of {name}"


def test_the_standard_library_is_really_all_there_is(tmp_path: Path) -> None:
    """The test of the tests above: a library of this environment is out of reach."""
    assert sysconfig.get_path("purelib") in sys.path
    (tmp_path / "thief").mkdir()
    (tmp_path / "thief/__init__.py").write_text("import pytest\n")
    with pytest.raises(AssertionError, match="No module named 'pytest'"):
        import_all("thief", tmp_path)
