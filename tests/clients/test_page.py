"""docs/clients.md shows what really goes over the wire, and a client as short as it says."""

import re

from tests.clients.page import CLIENT, PAGE, rendered


def test_the_transcript_and_the_client_on_the_page_are_current() -> None:
    """P9, P12 as bytes: a stream that is cut, resumed, acknowledged and ended."""
    text = PAGE.read_text()
    assert rendered(text) == text, "make readme"


def test_the_minimal_client_has_as_many_lines_as_the_page_says() -> None:
    found = re.search(r"in (\d+) lines of standard-library Python", PAGE.read_text())
    assert found is not None
    lines = [line.strip() for line in CLIENT.read_text().splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) == int(found[1])
