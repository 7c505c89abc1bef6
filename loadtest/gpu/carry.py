"""Prepares what the GPU script needs on a machine that fetches nothing and has its own torch.

Such a machine gets the working tree, and beside it this folder: wheels for its Python, of the
versions in constraints.txt, and the tokenizer of SmolLM2 without the model. The limit is that of
all that travels together.

Usage: python -m loadtest.gpu.carry [--python 3.12] [--limit-mib 64]

There, in the working tree:
    python3 -m pip install -q --no-index --no-deps --upgrade --target /tmp/site .gpu/wheels/*.whl
    PYTHONPATH=/tmp/site:core:services/generator:. python3 -m loadtest.gpu --out "$OUT"
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".gpu"
TOKENIZER = FOLDER / "tokenizer"
WHEELS = FOLDER / "wheels"
CARRIED = (
    "annotated-types",
    "llguidance",
    "pydantic",
    "pydantic_core",
    "regex",
    "structlog",
    "transformers",
    "typing-inspection",
    "typing_extensions",
)
"""What the script needs beside an image with torch, accelerate and the libraries of these two."""
GLIBC = range(5, 40)
"""The minor versions of 2 whose wheels are taken; pip wants each by name. Ubuntu 24.04 has 39."""
LIMIT_MIB = 64
GIT = shutil.which("git") or "git"


def pins(constraints: str, names: Iterable[str] = CARRIED) -> list[str]:
    """``name==version`` for each. Raises ValueError for a name without a version."""
    pinned = dict(line.split("==") for line in constraints.splitlines() if "==" in line)
    known = {_plain(name): f"{name}=={number}" for name, number in pinned.items()}
    missing = sorted(name for name in names if _plain(name) not in known)
    if missing:
        raise ValueError(f"constraints.txt has no version of {', '.join(missing)}")
    return [known[_plain(name)] for name in names]


def check_size(files: Iterable[Path], limit_mib: float) -> float:
    """The MiB of all files. Raises ValueError if they are more than may travel."""
    sizes = {file: file.stat().st_size / 2**20 for file in files if file.is_file()}
    total = sum(sizes.values())
    if total > limit_mib:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        told = ", ".join(f"{file.name} {sizes[file]:.1f}" for file in largest)
        raise ValueError(f"{total:.1f} MiB are more than {limit_mib:g}; the largest: {told}")
    return total


def travelling() -> list[Path]:
    """The working tree, less what git ignores, and the folder that is carried."""
    listed = subprocess.run(
        [GIT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    tree = [ROOT / name for name in listed.split("\0") if name]
    return [*tree, *FOLDER.rglob("*")]


def prepare(python: str) -> None:
    WHEELS.mkdir(parents=True, exist_ok=True)
    for old in WHEELS.glob("*.whl"):
        old.unlink()
    names = [f"manylinux_2_{minor}_x86_64" for minor in reversed(GLIBC)]
    names += ["manylinux2014_x86_64", "manylinux1_x86_64"]
    platforms = [word for name in names for word in ("--platform", name)]
    wanted = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    target = ["--python-version", python, "--implementation", "cp", *platforms]
    subprocess.run([*pip, *target, "-d", str(WHEELS), *wanted], check=True)
    from loadtest.gpu.model import tokenizer_of

    tokenizer_of(None).save_pretrained(TOKENIZER)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="3.12", help="the version on the machine")
    parser.add_argument("--limit-mib", type=float, default=LIMIT_MIB)
    chosen = parser.parse_args(argv)
    prepare(chosen.python)
    try:
        total = check_size(travelling(), chosen.limit_mib)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{FOLDER.name} is ready: {total:.1f} MiB travel, of {chosen.limit_mib:g}")
    return 0


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    sys.exit(main())
