"""The script for a GPU: its dry run, its bounds, its report, and what has to travel with it."""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtest.gpu import __main__ as script
from loadtest.gpu import carry, report
from loadtest.gpu.parts import Part, Row, left, run_part
from lore_generator.engines.options import TransformersOptions
from tests.services.fake_gpu import fake_gpu
from tests.services.tokenizers_of_both_kinds import byte_level

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a dry run. The CPU plays the GPU: two batches are in flight, in graphs."""
    folder = tmp_path_factory.mktemp("gpu")
    byte_level().save_pretrained(folder / "tokenizer")
    kept: list[int] = []
    keep = script.keep

    def keep_and_note(told: dict[str, Any], file: Path) -> None:
        keep(told, file)
        kept.append(sum(part["state"] == "done" for part in json.loads(file.read_text())["parts"]))

    with fake_gpu(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "keep", keep_and_note)
        argv = ["--dry", "--out", str(folder), "--tokenizer", str(folder / "tokenizer")]
        assert script.main(argv) == 0
    assert kept == [1, 2, 3], "the report is kept after each part"
    return json.loads((folder / "gpu.json").read_text())


def test_a_dry_run_does_all_that_a_gpu_would(dry: dict[str, Any]) -> None:
    assert {part["name"]: (part["state"], part["why"]) for part in dry["parts"]} == dict.fromkeys(
        ("exactness", "speed", "parked"), ("done", "")
    )
    exact, speed, parked = (part["rows"] for part in dry["parts"])
    assert len(exact) == 16
    assert all(row["equal"] == row["answers"] for row in exact)
    assert all(row["beyond_the_window"] == 0 for row in exact)
    assert {(row["side"], row["streams"]) for row in speed} == {
        (name, streams) for name, _, _ in script.speed.SIDES for streams in script.DRY.streams
    }
    assert [row["parked"] for row in parked] == list(script.DRY.parked)


def test_only_a_gpu_passes(dry: dict[str, Any]) -> None:
    assert not report.has_passed(dry)
    on_gpu = {**dry, "device": "cuda"}
    assert report.has_passed(on_gpu)
    exact = on_gpu["parts"][0]
    for wrong in (
        {"equal": 0},
        {"beyond_the_window": 1},
        {"not_run": "LORE_CUDA_GRAPHS=on needs a GPU"},
    ):
        rows = [*exact["rows"][1:], exact["rows"][0] | wrong]
        parts = [{**exact, "rows": rows}, *on_gpu["parts"][1:]]
        assert not report.has_passed({**on_gpu, "parts": parts})
    stopped = [{**exact, "state": "stopped"}, *on_gpu["parts"][1:]]
    assert not report.has_passed({**on_gpu, "parts": stopped})


def test_the_defaults_are_off_until_a_gpu_has_passed() -> None:
    options = TransformersOptions()
    if {options.async_batching, options.cuda_graphs} != {"off"}:
        assert report.has_passed(json.loads(report.KEPT.read_text()))


def rows_until(count: int) -> Any:
    def work(until_s: float) -> Iterator[Row]:
        for number in range(count):
            yield {"number": number}
        left(time.perf_counter() - 1)

    return work


def fails(_: float) -> Iterator[Row]:
    yield {"number": 0}
    raise RuntimeError("the driver\nis gone")


@pytest.mark.parametrize(
    ("bound_s", "work", "state", "why", "rows"),
    [
        (60.0, rows_until(2), "stopped", "its bound was reached", 2),
        (60.0, fails, "failed", "RuntimeError: the driver", 1),
        (0.0, fails, "not run", "no time was left", 0),
    ],
    ids=["stopped", "failed", "not run"],
)
def test_what_did_not_run_is_said_and_what_did_is_kept(
    dry: dict[str, Any], bound_s: float, work: Any, state: str, why: str, rows: int
) -> None:
    part = Part("parked", bound_s)
    run_part(part, work, time.perf_counter() + 60)
    assert (part.state, part.why, len(part.rows)) == (state, why, rows)
    told = report.section({**dry, "parts": [dataclasses.asdict(part)]})
    assert f"**{state}**, {why}" in told


def test_a_side_that_cannot_run_here_is_named(dry: dict[str, Any]) -> None:
    row = {"async_batching": "on", "cuda_graphs": "off", "not_run": "it needs a GPU"}
    part = dataclasses.asdict(Part("exactness", 9.0, "done", rows=[row]))
    told = report.section({**dry, "parts": [part]})
    assert "Not run, async batching on, CUDA graphs off: it needs a GPU." in told


def test_a_report_replaces_its_section_and_nothing_else(
    dry: dict[str, Any], tmp_path: Path
) -> None:
    results = tmp_path / "RESULTS.md"
    results.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.publish(dry, results)
    text = results.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n`python -m loadtest.gpu`")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "**not passed**" in text
    (tmp_path / "other").write_text("no markers")
    with pytest.raises(ValueError, match="lacks"):
        report.publish(dry, tmp_path / "other")
    assert report.RESULTS.read_text().count(report.BEGIN) == 1


def test_without_a_gpu_only_a_dry_run_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([]) == 2
    assert "--dry" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--publish", "no JSON"),
        ("--publish", "[]"),
        ("--publish", '{"passed": true}'),
        ("--out", "no folder"),
        ("--tokenizer", "no folder"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(
    option: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(text)
    with pytest.raises(SystemExit) as refused:
        script.main(["--dry", option, str(wrong)])
    assert refused.value.code == 2
    assert f"error: {option}: " in capsys.readouterr().err


def test_more_than_may_travel_is_refused(tmp_path: Path) -> None:
    for name, size in (("small.whl", 2**20), ("large.whl", 3 * 2**20)):
        (tmp_path / name).write_bytes(bytes(size))
    files = list(tmp_path.iterdir())
    assert carry.check_size(files, 4) == 4
    with pytest.raises(ValueError, match=r"4\.0 MiB are more than 3\.9; .*: large\.whl 3\.0"):
        carry.check_size(files, 3.9)


def test_the_tree_leaves_room_for_what_is_carried() -> None:
    """The wheels of 2026 have 17 MiB, the tokenizer 4."""
    tree = [file for file in carry.travelling() if carry.FOLDER not in file.parents]
    carry.check_size(tree, carry.LIMIT_MIB / 2)


def test_every_carried_package_has_a_pinned_version() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    assert len(carry.pins(constraints)) == len(carry.CARRIED)
    with pytest.raises(ValueError, match="no version of no-such"):
        carry.pins(constraints, ["no-such"])


# What the image has, and what that imports in turn.
IN_THE_IMAGE = [
    "accelerate",
    "filelock",
    "fsspec",
    "h11",
    "httpcore",
    "httpx",
    "httpcore2",
    "httpx2",
    "huggingface_hub",
    "hf_xet",
    "idna",
    "anyio",
    "sniffio",
    "certifi",
    "jinja2",
    "markupsafe",
    "mpmath",
    "networkx",
    "numpy",
    "packaging",
    "psutil",
    "regex",
    "rich",
    "safetensors",
    "sympy",
    "tokenizers",
    "torch",
    "torchgen",
    "tqdm",
    "typer",
    "click",
    "yaml",
    "functorch",
    "optree",
    "google",
    "triton",
    "truststore",
    "brotli",
    "PIL",
    "requests",
    "urllib3",
    "charset_normalizer",
    "_yaml",
    "pygments",
]
BLOCK = """
import sys
from importlib.machinery import PathFinder
allowed = sys.argv[1].split()
class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        is_installed = path is None and spec and "site-packages" in str(spec.origin)
        return None if is_installed and name not in allowed else spec
sys.meta_path[:] = [Finder if one is PathFinder else one for one in sys.meta_path]
import loadtest.gpu.__main__
import transformers.models.llama.modeling_llama
"""


def test_nothing_is_imported_that_neither_travels_nor_is_in_the_image() -> None:
    ours = ["lore", "lore_generator", "loadtest"]
    carried = [name.replace("-", "_") for name in carry.CARRIED]
    words = " ".join([*ours, *carried, *IN_THE_IMAGE])
    done = subprocess.run(
        [sys.executable, "-c", BLOCK, words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
