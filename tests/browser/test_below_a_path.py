"""The page below a path, behind a real nginx."""

import re
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.nginx import nginx
from tests.browser.stack import Stack, lore_up

pytestmark = pytest.mark.browser

NewPage = Callable[..., Page]

TAKEN = "/some/lore/"
"""nginx takes this path away and says so."""
KEPT = "/kept/"
"""nginx hands this path on; LORE_ROOT_PATH names it."""

LOCATIONS = """
location {taken} {{
  proxy_pass {edge}/;
  proxy_set_header X-Forwarded-Prefix /some/lore;
  proxy_buffering off;
}}
location {kept} {{ proxy_pass {edge}; proxy_buffering off; }}
"""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Stack]]:
    data, place = tmp_path_factory.mktemp("lore"), tmp_path_factory.mktemp("nginx")
    settings = {"LORE_TRUSTED_PROXIES": "127.0.0.0/8", "LORE_ROOT_PATH": KEPT}
    with lore_up(data, "--edges", "1", **settings) as stack:
        locations = LOCATIONS.format(edge=stack.urls[0], taken=TAKEN, kept=KEPT)
        with nginx(place, locations) as url:
            yield url, stack


@pytest.mark.parametrize("path", [TAKEN, KEPT])
def test_the_page_works_below_a_path(
    proxied: tuple[str, Stack], new_page: NewPage, path: str
) -> None:
    url, stack = proxied
    page = new_page()
    called: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: called.append(request.url))
    page.on("response", lambda answer: failed.append(answer.url) if answer.status > 399 else None)
    page.goto(f"{url}{path}")
    page.get_by_label("Your question").fill("What is a path?")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_attribute("data-kind", "done")
    request_id = page.url.removeprefix(f"{url}{path}#")
    assert re.fullmatch(r"[\w-]+", request_id)
    page.reload()
    expect(page.locator("#status")).to_have_attribute("data-kind", "done")
    page.get_by_role("button", name="Copy answer").click()
    expect(page.locator("#copy")).to_have_text("Copied")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == stack.view(request_id)["text"]
    page.get_by_role("link", name="Lore", exact=True).click()
    expect(page.get_by_label("Your question")).to_be_visible()
    assert page.url == f"{url}{path}"
    page.get_by_role("link", name="What is a path?").click()
    expect(page.locator("#status")).to_have_attribute("data-kind", "done")
    assert page.evaluate("document.fonts.check('16px Inter')")
    assert all(call.startswith(f"{url}{path}") for call in called), called
    assert not failed


@pytest.mark.parametrize("path", [TAKEN, KEPT])
def test_the_descriptions_of_the_api_work_below_a_path(
    proxied: tuple[str, Stack], new_page: NewPage, path: str
) -> None:
    url, _ = proxied
    page = new_page()
    page.goto(f"{url}{path}docs")
    with page.expect_response(f"{url}{path}openapi.json") as answered:
        page.locator('a[href="openapi.json"]').click()
    server = answered.value.json()["servers"][0]["url"]
    made = httpx.post(f"{url}{server}/v1/streams", json={"question": "a"}).raise_for_status()
    read = httpx.get(f"{url}{made.json()['stream_url']}").raise_for_status()
    assert read.json()["request_id"] == made.json()["request_id"]
    assert server == path.rstrip("/")
