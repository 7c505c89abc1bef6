"""Each package installs alone and imports with what it declares, and nothing else.

A wheel of each is built and unpacked into an empty folder. The libraries that it declares,
and those that they declare in turn, are linked in from here by their own list of files;
Python then starts without site-packages and imports every module.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packages import OURS, ROOT, built, closure, install, link

OWN_ENGINE = [
    f"lore_generator.engines.{name}"
    for name in (
        *("automata", "choosing", "fetching", "grammar", "graphs", "histories", "loading"),
        *("measured", "options", "prompt", "sampling", "schema_errors", "shortage"),
        *("transformers_engine", "unpacked", "window_scheduler"),
    )
]
"""What only an engine of our own needs, with torch."""

IMPORT_ALL = """
import importlib, pkgutil, sys
package, skipped = importlib.import_module(sys.argv[1]), tuple(sys.argv[2:])
prefix = package.__name__ + "."
for module in pkgutil.walk_packages(package.__path__, prefix, onerror=lambda _: None):
    if not module.name.startswith(skipped) and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


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
        ("lore-client", set[str](), ["lore_client.cli"]),
        ("lore-client", {"cli"}, []),
        ("lore-conformance", set[str](), []),
        ("lore-core", set[str](), ["lore.cli", "lore.tracing.otel"]),
        ("lore-core", {"cli"}, ["lore.tracing.otel"]),
        ("lore-core", {"tracing"}, ["lore.cli"]),
        ("lore-edge", set[str](), ["lore.cli"]),
        ("lore-generator", set[str](), ["lore_generator.engines."]),
        ("lore-operator", set[str](), ["lore.cli"]),
        ("lore-generator", {"remote"}, OWN_ENGINE),
        pytest.param(
            *("lore-generator", {"transformers"}, ["lore_generator.engines.remote"]),
            marks=pytest.mark.model,
        ),
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
        ("lore-client", "lore_client/py.typed"),
        ("lore-core", "lore/py.typed"),
        ("lore-edge", "lore_edge/web/index.html"),
        ("lore-edge", "lore_edge/web/client/lore.js"),
    ],
)
def test_what_is_no_python_is_installed_too(name: str, file: str, wheels: dict[str, Path]) -> None:
    assert (wheels[name] / file).is_file()


CONTENTS = re.compile(
    r"lore\w*/([\w/-]+\.py|py\.typed|store/lua/\w+\.lua"
    r"|web/(\w+\.(js|css|html|svg)|package\.json|client/\w+\.js"
    r"|(fonts|vendor)/[\w-]+(-\d)?(-\w+)*\.(woff2|js|css|LICENSE\.txt)))"
    r"|lore_ask\.py"
)
"""What may be in a wheel: modules, the store's library, and the page."""


@pytest.mark.parametrize("name", OURS)
def test_a_wheel_has_what_git_tracks_of_its_package_and_nothing_else(
    name: str, wheels: dict[str, Path]
) -> None:
    top = OURS[name].relative_to(ROOT)
    listed = subprocess.run(
        ["git", "ls-files", str(top), "clients/js/lib"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    client = "services/edge/lore_edge/web/client"  # a link to clients/js/lib
    tracked = {
        file.replace("clients/js/lib", client).removeprefix(f"{top}/")
        for file in listed.stdout.splitlines()
    }
    packed = [str(file) for file in built(name, wheels).files or []]
    ours = {file for file in packed if file.startswith("lore") and ".dist-info/" not in file}
    assert ours
    assert sorted(ours - tracked) == []
    assert sorted(file for file in ours if not CONTENTS.fullmatch(file)) == []
    modules = {file for file in tracked if file.endswith(".py")}
    assert sorted(modules - ours) == []


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
