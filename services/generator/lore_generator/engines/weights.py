"""Distinguishes weights on this disk from others of the same name, without reading them as a
whole.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

SAMPLES = 64
SAMPLE_BYTES = 4096


def revision_of(files: Iterable[Path]) -> str:
    """A hash of the names, the sizes and some parts of these files, the same on every machine that
    has them.
    """
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(files):
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            for number in range(SAMPLES):
                file.seek(number * size // SAMPLES)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
