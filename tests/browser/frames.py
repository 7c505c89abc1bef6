"""How long the page's main thread works for a frame while hard answers stream in.

    python -m tests.browser.frames --chars 32000 --piece 400

Each shape of `modules/shapes.js` goes through the page's own view of an answer in a real Chromium,
`--piece` characters a frame, and once all at once, as a reload brings it. What is printed is the
longest task of the main thread in CPU time, so that other work on the machine does not count.

With `--rich` the shapes are those of `modules/rich.js`, code with colours and formulas. The page is
loaded anew before each comes at once, so that its library comes after the text.
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, Route, sync_playwright

from tests.browser.conftest import FLAGS
from tests.browser.fake_edge import WEB, fake_edges

MODULES = Path(__file__).parent / "modules"
FRAME_MS = 50
TRACED = "disabled-by-default-devtools.timeline,devtools.timeline,toplevel,__metadata"

NAMES = 'async (from) => Object.keys((await import("/tests/browser/modules/" + from)).SHAPES)'
PREPARE = """async ([shape, chars, from = "shapes.js"]) => {
  const { SHAPES, DRAWN } = await import("/tests/browser/modules/" + from);
  window.drawn = DRAWN;
  window.prepared = SHAPES[shape](chars - 9) + "\\n\\nTHE END";
}"""

STREAM = """async ([shape, piece]) => {
  const { AnswerView } = await import("/web/answer.js");
  document.getElementById("ask").hidden = true;
  window.view ??= new AnswerView({ onNew() {}, onRevived() {}, onAsk() {} });
  const text = window.prepared;
  const stream = new EventTarget();
  Object.assign(stream, { requestId: "a", stats: { connection: "open", seq: 1 } });
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  const say = (type, detail) => stream.dispatchEvent(new CustomEvent(type, { detail }));
  view.show(stream, { question: shape });
  for (let at = 0; at < text.length; at += piece) {
    say("text", { text: text.slice(at, at + piece) });
    await frame();
  }
  say("end", { status: "done", finish_reason: "stop", usage: null });
  while (!document.getElementById("text").textContent.includes("THE END")) await frame();
  const count = () => document.querySelectorAll("#text *").length;
  while (window.drawn && !document.querySelector(window.drawn)) await frame();
  for (let had = 0, same = 0; window.drawn && same < 10; had = count()) {
    await frame();
    same = had === count() ? same + 1 : 0;
  }
  await frame();
  return count();
}"""


def serve_modules(page: Page) -> None:
    """The tests' modules beside the page's own, where they find it by their relative path."""

    def module(route: Route) -> None:
        name = route.request.url.rsplit("/", 1)[1]
        route.fulfill(path=MODULES / name, content_type="text/javascript")

    def source(route: Route) -> None:
        name = route.request.url.split("/lore_edge/web/")[1]
        route.fulfill(path=WEB / name, content_type="text/javascript")

    page.route("**/tests/browser/modules/*", module)
    page.route("**/services/edge/lore_edge/web/**", source)


def traced(cdp: CDPSession, page: Page, arguments: list[Any]) -> tuple[list[float], int]:
    """The CPU milliseconds of each task of the main thread, and the number of elements."""
    events: list[dict[str, Any]] = []
    done: list[bool] = []
    cdp.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    cdp.on("Tracing.tracingComplete", lambda _: done.append(True))
    cdp.send("Tracing.start", {"categories": TRACED, "transferMode": "ReportEvents"})
    elements = page.evaluate(STREAM, arguments)
    cdp.send("Tracing.end")
    while not done:
        page.wait_for_timeout(20)
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        event["tdur"] / 1000
        for event in events
        if event["name"].endswith("RunTask")
        and (event["pid"], event["tid"]) in mains
        and "tdur" in event
    ]
    return tasks, elements


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chars", type=int, default=32_000)
    parser.add_argument("--piece", type=int, default=400)
    parser.add_argument("--shape", action="append", help="only this one; may be given again")
    parser.add_argument("--rich", action="store_true", help="code with colours and formulas")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--worst", type=int, default=20, help="how many shapes to print")
    options = parser.parse_args()
    rows = []
    with sync_playwright() as playwright, fake_edges() as edges:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": options.width, "height": 800})
        page.set_default_timeout(0)
        serve_modules(page)
        page.goto(edges.urls[0])
        module = "rich.js" if options.rich else "shapes.js"
        names = options.shape or page.evaluate(NAMES, module)
        for name in names:
            for how, piece in (("streamed", options.piece), ("at once", options.chars)):
                if options.rich and how == "at once":
                    page.goto(edges.urls[0])
                cdp = page.context.new_cdp_session(page)
                page.evaluate(PREPARE, [name, options.chars, module])
                tasks, elements = traced(cdp, page, [name, piece])
                cdp.detach()
                middle = statistics.median(sorted(tasks)[-20:])
                rows.append((max(tasks), middle, elements, name, how))
        browser.close()
    rows.sort(reverse=True)
    for longest, middle, elements, name, how in rows[: options.worst]:
        print(f"{longest:7.1f} ms {middle:7.1f} ms {elements:6} elements  {name}, {how}")
    over = sum(longest > FRAME_MS for longest, *_ in rows)
    print(json.dumps({"runs": len(rows), "over_50_ms": over, "longest_ms": round(rows[0][0], 1)}))


if __name__ == "__main__":
    main()
