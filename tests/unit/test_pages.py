"""What the pages for developers say of the code is there."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    str(path.relative_to(ROOT))
    for folder in ("clients", "core", "services", "tests")
    for path in (ROOT / folder).rglob("*.*")
]


def files(name: str) -> list[str]:
    """Those that a page may mean: ``…`` stands for folders, as do those before the name."""
    pattern = re.compile(r"(.*/)?" + re.escape(name).replace("…", ".*"))
    return [file for file in FILES if pattern.fullmatch(file)]


def test_every_file_that_architecture_names_is_there() -> None:
    names = set(re.findall(r"`([\w/…]+\.(?:py|js|lua))`", (ROOT / "ARCHITECTURE.md").read_text()))
    assert len(names) > 40
    assert sorted(name for name in names if not files(name)) == []


def test_the_readme_names_every_folder_of_tests() -> None:
    readme = (ROOT / "README.md").read_text()
    folders = [file.parent.name for file in ROOT.glob("tests/*/test_*.py")]
    assert sorted({name for name in folders if f"`{name}`" not in readme}) == []


SHELLS = re.findall(
    r"^\| [^|]+ \| `(\w+)\.(\w+)` \| (.+?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize(
    ("module", "name", "again"), SHELLS, ids=[".".join(row[:2]) for row in SHELLS]
)
def test_what_stands_in_a_service_and_in_the_tests_is_in_both(
    module: str, name: str, again: str
) -> None:
    wanted = [(f"services/…/{module}.py", name)] if name != "py" else []
    for file, names in re.findall(r"`([\w/]+\.py)`((?: `\w+`,?)*)", again):
        assert files(f"tests/{file}")
        wanted += [(f"tests/{file}", each) for each in re.findall(r"\w+", names)]
    for file, each in wanted:
        texts = [(ROOT / found).read_text() for found in files(file)]
        assert any(f"def {each}(" in text for text in texts), (file, each)


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for name, anchor in LINK.findall(page.read_text()):
        target = page.parent / name if name else page
        assert target.exists(), name
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {anchor_of(heading) for heading in headings}, anchor


def anchor_of(heading: str) -> str:
    """As GitHub names it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


DECISIONS = sorted((ROOT / "docs/decisions").glob("2*.md"))


@pytest.mark.parametrize("record", DECISIONS, ids=lambda record: record.stem)
def test_every_decision_is_dated_and_listed(record: Path) -> None:
    title, _, state, *_ = record.read_text().splitlines()
    date = datetime.strptime(record.name[:10], "%Y-%m-%d").replace(tzinfo=UTC)
    assert re.fullmatch(rf"{date.day} {date:%B %Y} · (accepted|replaced by .+)", state)
    row = f"| {record.name[:10]} | [{title.removeprefix('# ')}]({record.name}) |"
    assert row in (record.parent / "README.md").read_text().splitlines()
