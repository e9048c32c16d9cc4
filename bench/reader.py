"""A reader at a browser, for the bench of apps: opens one app some times and tells what was seen when.

Runs in the environment that has playwright: `python reader.py` reads `{"address", "identity", "visits"}` from its input
and writes one JSON object a visit. The last page stays open until the input ends.
"""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

from playwright.sync_api import Page, sync_playwright

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
CHART = ".mb-chart .cartesianlayer .trace, .mb-chart .heatmaplayer .hm"
WATCH = """
globalThis.seen = {};
const look = () => {
  const note = (what, found) => { if (found) seen[what] ??= performance.now(); };
  note("skeleton", document.querySelector("#mb-skeleton i"));
  note("controls", document.querySelector(".mb-controls .mb-field"));
  note("chart", document.querySelector("CHART"));
  note("table", document.querySelector(".mb-table tbody tr[data-at]"));
  note("message", document.querySelector(".mb-message"));
  if (!seen.chart || !seen.table) requestAnimationFrame(look);
};
requestAnimationFrame(look);
""".replace("CHART", CHART)


def main() -> None:
    """One browser, its cache cold at the first visit and warm at all others."""
    asked = json.loads(sys.stdin.readline())
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        context = browser.new_context(
            viewport={"width": 1440, "height": 900}, extra_http_headers={asked["header"]: asked["identity"]}
        )
        page = context.new_page()
        page.add_init_script(WATCH)
        for _ in range(asked["visits"]):
            # the next begins when the server says that a kernel is warm again
            sys.stdin.readline()
            print(json.dumps(visit(page, asked["address"])), flush=True)
        sys.stdin.read()
        browser.close()


def visit(page: Page, address: str) -> dict[str, Any]:
    """Seconds from the start of the navigation until something was on the screen."""
    complaints: list[str] = []
    page.on("console", lambda one: complaints.append(one.text) if one.type in ("error", "warning") else None)
    page.goto(address, wait_until="commit")
    # no function to wait for: the page's policy forbids to evaluate texts
    page.wait_for_selector(f"{CHART}, .mb-message", state="attached", timeout=60_000)
    page.wait_for_timeout(500)
    seen = page.evaluate(
        "() => { const paint = performance.getEntriesByName('first-contentful-paint')[0];"
        "const [page] = performance.getEntriesByType('navigation');"
        "return {...seen, paint: paint?.startTime, byte: page.responseStart,"
        "bytes: performance.getEntriesByType('resource').reduce((sum, one) => sum + one.transferSize, 0)}; }"
    )
    bytes_ = seen.pop("bytes")
    return {key: at / 1000 for key, at in seen.items()} | {"bytes": bytes_, "complaints": complaints}


if __name__ == "__main__":
    main()
