"""Every rule of PROTOCOL.md has a test, and every rule that a test names is there."""

import pytest

from tests.rules import PROTOCOL, ROOT, UNTESTED, cited_in, marked, marks_of, problems, rules_of

TEXT = PROTOCOL.read_text()
RULES = rules_of(TEXT)
TESTS = marked(ROOT / "tests")
CODE = ("core", "services", "tests", "loadtest", "charts", "docs")
READ = {".py", ".lua", ".md", ".js", ".mjs", ".yaml"}


def test_every_rule_is_proved_by_a_test_and_every_test_names_a_rule() -> None:
    assert problems(TEXT, TESTS, UNTESTED) == []


def test_what_the_code_and_the_documents_cite_is_a_rule() -> None:
    known = {rule.id for rule in RULES}
    known |= {one.partition(".")[0] for one in known}
    files = [path for folder in CODE for path in (ROOT / folder).rglob("*") if path.suffix in READ]
    files += ROOT.glob("*.md")
    wrong = {
        (str(path.relative_to(ROOT)), one)
        for path in files
        if not {"node_modules", "vendor", "build"} & set(path.parts)
        for one in cited_in(path.read_text()) - known
    }
    assert wrong == set()


# the check itself: whatever is taken away makes it fail


def test_a_rule_without_a_test_is_found() -> None:
    others = {test: ids - {"P4.3"} for test, ids in TESTS.items()}
    (found,) = problems(TEXT, others, UNTESTED)
    assert found.startswith("P4.3 is proved by no test")
    must = {rule.id for rule in RULES if rule.level == "MUST"}
    assert {one.split()[0] for one in problems(TEXT, {}, {})} == must


def test_a_rule_that_loses_its_must_is_found() -> None:
    (rule,) = (one for one in RULES if one.id == "P4.3")
    weaker = TEXT.replace(rule.text, rule.text.replace("MUST", "can"))
    assert problems(weaker, TESTS, UNTESTED) == ["P4.3 has neither MUST nor SHOULD nor MAY"]


def test_a_test_of_a_rule_that_is_gone_is_found() -> None:
    gone = TEXT.replace("**P4.3** ", "**Q4.3** ")
    tests = {test for test, ids in TESTS.items() if "P4.3" in ids}
    found = {one for one in problems(gone, TESTS, UNTESTED) if "Q4.3" not in one}
    assert found == {f"{test} names P4.3, which is no rule" for test in tests}


def test_a_rule_that_is_said_to_have_no_test_and_has_one_is_found() -> None:
    (found,) = problems(TEXT, TESTS, {"P4.3": "nobody can see it"})
    assert found.startswith("P4.3 is said to be without a test")


def test_a_must_outside_of_a_rule_is_found() -> None:
    stray = "An edge MUST be polite."
    assert any("polite" in one for one in problems(f"{TEXT}\n\n{stray}\n", TESTS, UNTESTED))


def test_an_id_that_stands_twice_is_found() -> None:
    again = "**P1.1** This MUST be something else."
    assert "P1.1 stands twice" in problems(f"{TEXT}\n\n{again}\n", TESTS, UNTESTED)


def test_a_mark_is_read_among_other_decorators_and_nowhere_else() -> None:
    mark = "@pytest.mark." + 'rule("P1.1", "P2.3")'
    source = f'{mark}\n@pytest.mark.parametrize(\n    "a", [1]\n)\nasync def test_it(a) -> None:\n'
    assert marks_of(source) == {"test_it": {"P1.1", "P2.3"}}
    for wrong in (
        f"{mark}\nclass Test:\n",
        f"{mark}\n{source}",
        f"{mark}\ndef helper() -> None:\n",
    ):
        with pytest.raises(ValueError, match="stands on no test"):
            marks_of(wrong)
