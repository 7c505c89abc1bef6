"""The function library of a server, and which of two libraries to load.

``lua/common.lua`` says at its head what its VERSION promises to callers.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PARTS = ("common", "admission", "queue", "log", "life", "register")
"""A Valkey library is one text; these are its chapters, each using those before it."""

CODE = "\n".join(
    (Path(__file__).parent / "lua" / f"{part}.lua").read_text(encoding="utf-8") for part in _PARTS
)

OLDEST = 5
"""The oldest library that this release can work with, for as long as its own is not taken."""


@dataclass(frozen=True, slots=True)
class Library:
    version: int
    oldest_caller: int
    """The oldest VERSION whose release it serves."""
    code: str

    @classmethod
    def of(cls, code: str) -> Self:
        version = _number("VERSION", code)
        return cls(version, _number("OLDEST_CALLER", code), code)

    def replaces(self, other: "Library") -> bool:
        """Whether it is newer, or another text of the same version."""
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
