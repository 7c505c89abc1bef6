"""What the images install is pinned with hashes, and is what constraints.txt and the code name."""

import re
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"
FILES = sorted(SERVICES.glob("*/requirements*.txt"))
CUDA = re.compile(r"torch|triton|nvidia-.+|cuda-.+")
IMAGES: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "edge/requirements.txt": (("lore-core[cli]", "lore-edge", "setuptools"), set()),
    "operator/requirements.txt": (("lore-operator", "setuptools"), set()),
    "generator/requirements.txt": (("lore-generator", "setuptools"), set()),
    "generator/requirements-cpu.txt": (
        ("accelerate", "filelock", "gguf", "llguidance", "transformers"),
        {"torch", "triton"},
    ),
    "generator/requirements-cuda.txt": (
        ("accelerate", "filelock", "gguf", "llguidance", "transformers"),
        set(),
    ),
}
"""What each file is for, and what of it comes from elsewhere."""


def pins(file: Path) -> list[Requirement]:
    text = re.sub(r"\\\n", " ", file.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:
        assert re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", line), line
    return [Requirement(line.partition(" --hash")[0]) for line in lines]


def names(requirements: Iterable[Requirement]) -> set[str]:
    return {canonicalize_name(one.name) for one in requirements}


def closure(roots: Iterable[str]) -> set[str]:
    """All that these need here, themselves included; ours are looked through and left out."""
    found, waiting = set[str](), [Requirement(root) for root in roots]
    seen = set[tuple[str, frozenset[str]]]()
    while waiting:
        one = waiting.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found |= set() if name.startswith("lore-") else {name}
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            chosen = extras or {""}
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in chosen
            ):
                waiting.append(needed)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SERVICES)))
def test_every_pin_has_hashes_and_the_version_of_constraints(file: Path) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    known = {canonicalize_name(one.name): one for one in map(Requirement, lines[1:])}
    for pin in pins(file):
        same = known.get(canonicalize_name(pin.name))
        assert same is None or same.specifier == pin.specifier, "run: make requirements"


@pytest.mark.parametrize("name", IMAGES)
def test_all_that_an_image_needs_is_pinned(name: str) -> None:
    roots, elsewhere = IMAGES[name]
    needed = {one for one in closure(roots) if not CUDA.fullmatch(one) or "torch" not in elsewhere}
    missing = {one for one in needed - names(pins(SERVICES / name)) if not one.startswith("nvidia")}
    assert missing - elsewhere == set(), "run: make requirements"
    assert not names(pins(SERVICES / name)) & elsewhere


def test_the_list_without_cuda_is_the_other_without_it() -> None:
    cpu, cuda = (
        names(pins(SERVICES / f"generator/requirements-{one}.txt")) for one in ("cpu", "cuda")
    )
    assert cpu == {name for name in cuda if not CUDA.fullmatch(name)}


@pytest.mark.parametrize("service", ["edge", "generator", "operator"])
def test_an_image_takes_nothing_unpinned_but_what_its_dockerfile_says(service: str) -> None:
    text = re.sub(r"\\\n", " ", (SERVICES / service / "Dockerfile").read_text())
    installs = re.findall(r"pip install (.*?)(?: ;;|; }| &&|\n)", text)
    assert installs
    for install in installs:
        pinned = install.startswith("--require-hashes --no-deps -r ")
        ours = install.startswith("--no-deps --no-index --no-build-isolation ./core ") or (
            install.startswith("--no-deps --no-index --no-build-isolation ") and "./core" in install
        )
        told = '--extra-index-url "$TORCH_INDEX"' in install or '"$MODEL_PACKAGE"' in install
        assert pinned or ours or told, install
