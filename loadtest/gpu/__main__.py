"""What Lore's engine does on a GPU, in one run of less than six minutes.

Three parts, each with a bound of its own: exactness (windows, parking, takeovers, two batches in
flight, graphs), speed beside transformers' bare manager, and speed beside parked requests. The
models have a real shape and random weights that are made on the device, so that nothing has to be
loaded. Where there is no GPU, ``--dry`` runs it all with a tiny shape.

Usage, on the machine with the GPU, with what ``make gpu-carry`` has prepared:
    PYTHONPATH=core:services/generator:. python -m loadtest.gpu --out DIR
and at home, with the report that it wrote:
    python -m loadtest.gpu --publish DIR/gpu.json
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig
from transformers.tokenization_utils_tokenizers import TokenizersBackend
from transformers.utils.import_utils import (
    is_flash_attn_2_available,
    is_flash_attn_3_available,
)

from loadtest.gpu import exactness, speed
from loadtest.gpu.carry import TOKENIZER
from loadtest.gpu.model import device, random_model, shape_of, tokenizer_of
from loadtest.gpu.parts import Part, Row, run_part
from loadtest.gpu.report import KEPT, Report, has_passed, keep, publish

SHAPE = Path(__file__).parent / "llama-3.1-8b.json"
TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
}


@dataclass(frozen=True)
class Size:
    """How much is done."""

    layers: int = 4
    """Of the model that exactness is tried on."""
    answers: int = 16
    tokens: int = 96
    streams: tuple[int, ...] = (1, 16, 64, 256)
    parked: tuple[int, ...] = (0, 128, 512)
    beside_parked: int = 16
    exact_kv_tokens: int = 8192
    kv_tokens: int = 65_536
    batch_tokens: int = 1024
    total_s: float = 330.0
    exactness_s: float = 90.0
    speed_s: float = 150.0
    parked_s: float = 60.0


DRY = Size(
    layers=2, answers=3, tokens=12, streams=(1, 3), parked=(0, 4), beside_parked=2,
    kv_tokens=2048, batch_tokens=256,
    total_s=900.0, exactness_s=900.0, speed_s=900.0, parked_s=900.0,
)  # fmt: skip


def run(
    size: Size,
    shapes: tuple[LlamaConfig, LlamaConfig],
    words: TokenizersBackend,
    told: Callable[[Report], None],
) -> Report:
    """``shapes``: of the models for exactness and for speed. ``told`` gets the report so far after
    each part: a machine may be taken away before the last.
    """
    began_s = time.perf_counter()
    ends_s = began_s + size.total_s
    attention = _attention()
    common = {"kv_tokens": size.kv_tokens, "batch_tokens": size.batch_tokens}
    if attention.startswith("flash"):
        common["kv_page_tokens"] = 256
    most = {"slots": max(size.streams), **common}

    def exact(until_s: float) -> Iterator[Row]:
        # Flash attention knows no float64.
        loaded = random_model(shapes[0], torch.float64, "sdpa", words)
        tokens = {"kv_tokens": size.exact_kv_tokens, "batch_tokens": size.batch_tokens}
        options = {"slots": size.answers, **tokens}
        yield from exactness.compare(loaded, options, size.answers, size.tokens, until_s)

    def fast(until_s: float) -> Iterator[Row]:
        loaded = random_model(shapes[1], torch.bfloat16, attention, words)
        yield from speed.beside_the_manager(loaded, most, size.streams, size.tokens, until_s)

    def parked(until_s: float) -> Iterator[Row]:
        loaded = random_model(shapes[1], torch.bfloat16, attention, words)
        count, tokens = size.beside_parked, size.tokens
        yield from speed.beside_parked(loaded, most, size.parked, count, tokens, until_s)

    parts = [
        (Part("exactness", size.exactness_s), exact),
        (Part("speed", size.speed_s), fast),
        (Part("parked", size.parked_s), parked),
    ]
    now, one = datetime.now(UTC), shapes[1]
    on = device()
    report: Report = {
        "command": "python -m loadtest.gpu",
        "date": f"{now.day} {now:%B %Y}",
        "device": on,
        "device_name": torch.cuda.get_device_name() if on == "cuda" else "no GPU",
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "attention": attention,
        "model": f"Random weights in {one.num_hidden_layers} layers of {one.hidden_size}, bfloat16;"
        f" for exactness {shapes[0].num_hidden_layers} layers, float64. Greedy, {size.tokens}"
        " tokens each.",
    }
    for part, work in parts:
        run_part(part, work, ends_s)
        took_s = round(time.perf_counter() - began_s, 1)
        report |= {"took_s": took_s, "parts": [asdict(one) for one, _ in parts]}
        told(report)
    return report


def _attention() -> str:
    """The best that is installed. The kernels of the hub cannot be fetched everywhere."""
    if device() == "cuda" and is_flash_attn_3_available():
        return "flash_attention_3"
    if device() == "cuda" and is_flash_attn_2_available():
        return "flash_attention_2"
    return "sdpa"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="a tiny shape; nothing is published")
    parser.add_argument("--out", type=Path, default=Path(), help="the folder for gpu.json")
    parser.add_argument("--tokenizer", type=Path, help="a folder; unset: what was carried, or here")
    parser.add_argument("--publish", type=Path, help="a report: write it into RESULTS.md, no more")
    chosen = parser.parse_args(argv)
    if chosen.publish is not None:
        try:
            report: Any = json.loads(chosen.publish.read_text(encoding="utf-8"))
        except (OSError, ValueError) as why:
            parser.error(f"--publish: cannot read a report: {why}")
        if not isinstance(report, dict) or "parts" not in report:
            parser.error(f"--publish: {chosen.publish} is no report of python -m loadtest.gpu")
        publish(report)
        keep(report, KEPT)
        return 0
    if not chosen.dry and device() != "cuda":
        print("There is no GPU here; --dry runs all of it with a tiny model.", file=sys.stderr)
        return 2
    # Told now, and not after minutes on a GPU.
    if not os.access(chosen.out, os.W_OK) or not chosen.out.is_dir():
        parser.error(f"--out: {chosen.out} is not a folder that can be written to")
    if chosen.tokenizer is not None and not chosen.tokenizer.is_dir():
        parser.error(f"--tokenizer: {chosen.tokenizer} is not a folder")
    told = partial(keep, file=chosen.out / "gpu.json")
    words = tokenizer_of(chosen.tokenizer or (TOKENIZER if TOKENIZER.is_dir() else None))
    if chosen.dry:
        tiny = shape_of(SHAPE)
        tiny.update(TINY | {"vocab_size": len(words)})
        report = run(DRY, (tiny, tiny), words, told)
    else:
        full = Size()
        report = run(full, (shape_of(SHAPE, full.layers), shape_of(SHAPE)), words, told)
        publish(report)
    states = {part["name"]: part["state"] for part in report["parts"]}
    print(json.dumps({"passed": has_passed(report), "took_s": report["took_s"], **states}))
    return 1 if "failed" in states.values() else 0


if __name__ == "__main__":
    sys.exit(main())
