"""The frame of a study's figure: four panels in one style."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot as plt

INK = "#333333"
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@contextmanager
def four_panels(file: Path) -> Iterator[Any]:
    """Two rows of two panels to draw in; the figure is then written to ``file``."""
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
        yield panels
        figure.savefig(file, dpi=130)
        plt.close(figure)
