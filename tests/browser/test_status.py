"""The page of plots, at an edge that asks a Prometheus."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from lore_edge.api.status import FIGURES
from tests.browser.stack import Stack, lore_up
from tests.services.auth_harness import KeyRing
from tests.services.fake_prometheus import FakePrometheus, fake_prometheus

pytestmark = pytest.mark.browser

LOOKS_MS = 30_000
"""Longer than until the page asks again."""

NewPage = Callable[..., Page]


@pytest.fixture(scope="module")
def prometheus() -> Iterator[FakePrometheus]:
    with fake_prometheus() as fake:
        yield fake


@pytest.fixture(scope="module")
def lore(
    prometheus: FakePrometheus, ring: KeyRing, alice: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORE_PROMETHEUS_URL", prometheus.url)
        with lore_up(tmp_path_factory.mktemp("lore"), "--api-keys", str(ring.path)) as stack:
            yield stack


def test_who_has_a_key_sees_each_figure_drawn_and_said_and_what_is_firing(
    lore: Stack, alice: str, prometheus: FakePrometheus, new_page: NewPage
) -> None:
    prometheus.value, prometheus.firing = "0.5", ["LoreGeneratorsSaturated"]
    page = new_page()
    page.goto(f"{lore.urls[0]}/status")
    page.get_by_label("API key").fill(alice)
    page.keyboard.press("Enter")
    expect(page.locator("#alerts")).to_have_text("Firing: LoreGeneratorsSaturated")
    for figure in FIGURES:
        plot = page.get_by_role("img", name=re.compile(f"^{figure.title}: "))
        expect(plot.locator("canvas")).to_be_visible()
        for name in figure.lines:
            said = {"s": "500 ms", "ratio": "50 %", "": "0.50"}[figure.unit]
            expect(plot).to_have_attribute("aria-label", re.compile(re.escape(f"{name} {said}")))
            section = page.locator("section", has=plot)
            expect(section.get_by_text(f"{name} {said}", exact=True)).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_prometheus_that_fails_is_told_and_what_was_drawn_stays(
    lore: Stack, alice: str, prometheus: FakePrometheus, new_page: NewPage
) -> None:
    page = new_page()
    page.goto(f"{lore.urls[1]}/status")
    page.get_by_label("API key").fill(alice)
    page.keyboard.press("Enter")
    expect(page.locator(".figure")).to_have_count(len(FIGURES))
    prometheus.value = "none of Prometheus's numbers"
    expect(page.locator("#problem")).to_have_text(
        re.compile("Prometheus gave no valid answer"), timeout=LOOKS_MS
    )
    expect(page.locator(".figure")).to_have_count(len(FIGURES))
