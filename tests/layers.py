"""Write ARCHITECTURE.md's picture of the layers from the imports: ``make layers``.

A box is a file or a folder with all that is in it, but for ``__main__``, which imports by name. It
is one layer above the highest box that it imports. An arrow is an import; those that follow from
other arrows are left out.
"""

import re
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ARCHITECTURE = Path(__file__).parents[1] / "ARCHITECTURE.md"
BEGIN, END = "<!-- made by: make layers -->", "<!-- made until here -->"
PACKAGES = {
    "the edge": "lore_edge",
    "the store": "lore.store",
    "… its `valkey`": "lore.store.valkey",
    "… its `valkey/client`": "lore.store.valkey.client",
    "the generator": "lore_generator",
}
DRAWN = ("the edge", "the store", "… its `valkey`")
BEFORE = {"the edge": (40, 15, 166), "the store": (19, 6, 52)}
"""Files and folders, layers and imports until 1 December 2026, when they were sorted."""

Imports = Mapping[str, set[str]]


def imports_within(package: str) -> dict[str, set[str]]:
    """What each file or folder of a package imports of the others."""
    # Any cache would have to be thrown away with each file that moves.
    graph = grimp.build_graph(package.partition(".")[0], cache_dir=None)
    names = {child: child.rpartition(".")[2] for child in graph.find_children(package)}
    names.pop(f"{package}.__main__", None)
    found = {name: set[str]() for name in names.values()}
    for module in graph.modules:
        if not (mine := _within(module, names)):
            continue
        others = {_within(one, names) for one in graph.find_modules_directly_imported_by(module)}
        found[mine] |= others - {"", mine}
    return found


def _within(module: str, names: Mapping[str, str]) -> str:
    return next((names[one] for one in names if f"{module}.".startswith(f"{one}.")), "")


def layers(imports: Imports) -> list[list[str]]:
    """From the bottom up. Raises CycleError, which names the circle."""
    height: dict[str, int] = {}
    for name in TopologicalSorter(imports).static_order():
        height[name] = 1 + max((height[one] for one in imports[name]), default=-1)
    return [
        sorted(name for name in height if height[name] == layer)
        for layer in range(max(height.values()) + 1)
    ]


def arrows(imports: Imports) -> list[tuple[str, str]]:
    """The imports that do not follow from others."""
    below: dict[str, set[str]] = {}
    for name in TopologicalSorter(imports).static_order():
        below[name] = set(imports[name]).union(*(below[one] for one in imports[name]))
    return sorted(
        (name, one)
        for name, others in imports.items()
        for one in others
        if not any(one in below[other] for other in others)
    )


def picture(imports: Imports) -> list[str]:
    lines = ["```mermaid", "flowchart TD"]
    for number, names in reversed(list(enumerate(layers(imports), 1))):
        lines.append(f'    subgraph layer{number}["{number}"]')
        lines += [f"        {name}" for name in names]
        lines.append("    end")
    return [*lines, *(f"    {name} --> {one}" for name, one in arrows(imports)), "```"]


def table(found: Mapping[str, Imports]) -> list[str]:
    lines = ["| | files and folders | layers | imports between them |", "|---|---|---|---|"]
    for title, imports in found.items():
        now = len(imports), len(layers(imports)), sum(map(len, imports.values()))
        cells = [str(one) for one in now]
        if title in BEFORE:
            cells = [
                str(one) if one == old else f"{one} (before: {old})"
                for one, old in zip(now, BEFORE[title], strict=True)
            ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def rendered(text: str) -> str:
    """ARCHITECTURE.md with what lies between the marks made anew."""
    found = {title: imports_within(package) for title, package in PACKAGES.items()}
    lines = [BEGIN, *table(found)]
    for title in DRAWN:
        name = PACKAGES[title].replace(".", "/")
        lines += ["", f"`{name}`:", "", *picture(found[title])]
    made = "\n".join([*lines, "", END])
    new, count = re.subn(f"{BEGIN}.*?{END}", lambda _: made, text, flags=re.DOTALL)
    assert count == 1, f"ARCHITECTURE.md has no {BEGIN}"
    return new


if __name__ == "__main__":
    ARCHITECTURE.write_text(rendered(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")
