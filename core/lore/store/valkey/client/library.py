"""The function library of a server, and which of two libraries to load.

The head of ``lua/common.lua`` says what its VERSION promises to callers.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PARTS = ("common", "admission", "queue", "log", "life", "register")
"""The parts of the library, each using those before it. Valkey takes a library as one text."""

CODE = "\n".join(
    (Path(__file__).parents[2] / "lua" / f"{part}.lua").read_text(encoding="utf-8")
    for part in _PARTS
)

OLDEST = 5
"""The oldest library that this release can work with while its own is not loaded."""


@dataclass(frozen=True, slots=True)
class Library:
    version: int
    oldest_caller: int
    """The oldest VERSION that a release may have to be served by this library."""
    code: str

    @classmethod
    def of(cls, code: str) -> Self:
        version = _number("VERSION", code)
        return cls(version, _number("OLDEST_CALLER", code), code)

    def replaces(self, other: "Library") -> bool:
        """Whether this one is newer, or another text of the same version."""
        return self.version > other.version or (
            self.version == other.version and self.code != other.code
        )

    def unfit(self, ours: "Library") -> str:
        """Why a release with the library ``ours`` cannot work with this one, or ''."""
        if not self.version:
            return "has no function library"
        if self.version < OLDEST:
            return f"has function library {self.version}, and this release needs {OLDEST} or newer"
        if ours.version < self.oldest_caller:
            return (
                f"has function library {self.version}, which serves releases with "
                f"{self.oldest_caller} or newer, and this one has {ours.version}"
            )
        return ""


def _number(name: str, code: str) -> int:
    found = re.search(rf"^local {name} = (\d+)$", code, re.MULTILINE)
    return int(found[1]) if found else 0


NONE = Library(0, 0, "")
OURS = Library.of(CODE)
