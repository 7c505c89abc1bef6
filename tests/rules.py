"""The rules of PROTOCOL.md and the tests that prove them: ``python -m tests.rules`` lists both.

The rules are read from PROTOCOL.md and stand nowhere else. A test names what it proves with
``@pytest.mark.rule("P4.3", …)``: it may name a rule only if it fails when the rule is broken.
``test_rules.py`` holds the two together.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PROTOCOL = ROOT / "PROTOCOL.md"
LEVELS = ("MUST", "SHOULD", "MAY")
"""The strongest first."""

UNTESTED: dict[str, str] = {}
"""Rules with MUST that no test can prove, and why."""

_ID = r"[A-Z]\d+(?:\.\d+)?"
_RULE = re.compile(rf"\*\*({_ID})\*\* ")
_LEVEL = re.compile(rf"\b({'|'.join(LEVELS)})\b")
_MARK = re.compile(
    r"^@pytest\.mark\.rule\(([^)]*)\)\n"  # on a test function, among its other decorators
    r"(?:(?!(?:async )?def |class |@pytest\.mark\.rule)[^\n]*\n)*"
    r"(?:async )?def (test_\w+)",
    re.MULTILINE,
)
_BREAK = re.compile(r"\n\s*\n|^#[^\n]*\n", re.MULTILINE)
_CITED = re.compile(r"\bP\d{1,2}(?:\.\d{1,2})?\b(?![%=])")


class Rule(NamedTuple):
    id: str
    level: str
    """Its strongest word, or '' if it has none."""
    text: str


def rules_of(protocol: str) -> list[Rule]:
    """Each paragraph that begins with an id, in their order."""
    found = [(match, text) for text in _paragraphs(protocol) if (match := _RULE.match(text))]
    return [Rule(match[1], _level(text), text[match.end() :]) for match, text in found]


def strays_of(protocol: str) -> list[str]:
    """Paragraphs without an id that use a word of RFC 2119, but for the one that says so."""
    return [
        text
        for text in _paragraphs(protocol)
        if _level(text) and not _RULE.match(text) and "RFC 2119" not in text
    ]


def marks_of(source: str) -> dict[str, set[str]]:
    """The tests of a file, each with the rules that it names. Raises ValueError for a mark that
    stands on no test function: it would name a rule for nothing."""
    found = {name: set(re.findall(rf'"({_ID})"', ids)) for ids, name in _MARK.findall(source)}
    if len(found) != source.count("pytest.mark.rule("):
        raise ValueError("a mark of a rule stands on no test, or on one with another such mark")
    return found


def marked(folder: Path) -> dict[str, set[str]]:
    """All tests below a folder that name rules, as ``file::test``."""
    return {
        f"{path.relative_to(folder)}::{name}": ids
        for path in sorted(folder.rglob("test_*.py"))
        if path.name != "test_rules.py"
        for name, ids in marks_of(path.read_text()).items()
    }


def problems(
    protocol: str, tests: Mapping[str, Iterable[str]], untested: Mapping[str, str]
) -> list[str]:
    """What keeps rules and tests apart, a line for each."""
    rules = rules_of(protocol)
    known = {rule.id for rule in rules}
    named = {one for ids in tests.values() for one in ids}
    doubled = Counter(rule.id for rule in rules) - Counter(known)
    return [
        *(f"{one} stands twice" for one in sorted(doubled)),
        *(f"{rule.id} has neither MUST nor SHOULD nor MAY" for rule in rules if not rule.level),
        *(f"a rule without an id: {text[:60]}" for text in strays_of(protocol)),
        *(
            f"{rule.id} is proved by no test: {rule.text[:60]}"
            for rule in rules
            if rule.level == "MUST" and rule.id not in named | untested.keys()
        ),
        *(
            f"{test} names {one}, which is no rule"
            for test, ids in tests.items()
            for one in sorted(set(ids) - known)
        ),
        *(
            f"{one} is said to be without a test, and is no rule or has one"
            for one in untested
            if one not in known or one in named
        ),
    ]


def cited_in(text: str) -> set[str]:
    """The rules from P1 on that a text speaks of, as ``P4`` or ``P4.3``."""
    return set(_CITED.findall(text))


def _paragraphs(text: str) -> list[str]:
    """A heading is one of its own."""
    return [one.strip() for one in _BREAK.split(text)]


def _level(text: str) -> str:
    found = set(_LEVEL.findall(text))
    return next((level for level in LEVELS if level in found), "")


def _main() -> None:
    tests = marked(ROOT / "tests")
    for rule in rules_of(PROTOCOL.read_text()):
        print(f"{rule.id:6} {rule.level:6} {rule.text.splitlines()[0][:90]}")
        for test in (test for test, ids in tests.items() if rule.id in ids):
            print(f"              {test}")
        if rule.id in UNTESTED:
            print(f"              no test: {UNTESTED[rule.id]}")


if __name__ == "__main__":
    _main()
