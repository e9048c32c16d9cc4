"""From wire to paper in a browser, by https: a fault becomes an alarm, apps and reports say what the ledger says."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect

from .conftest import Demo, start_demo

APPS = ("explorer", "trends", "quality")
METERS = 8
MONTH = ("2026-10-01", "2026-11-01")
FIRST_S = 60_000


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A small demo by https that is not held, and whose year is in the archive."""
    demo = start_demo(
        tmp_path_factory.mktemp("way") / "demo", "--https", "--meters", str(METERS), "--language", "en", hold=False
    )
    yield demo
    demo.process.send_signal(signal.SIGINT)
    demo.process.wait(60)


def main_incomer(demo: Demo) -> tuple[str, list[dict[str, Any]]]:
    """The id of the point that feeds the site, and October of it by day, as the ledger says."""
    answer = demo.act(
        "get_history", points=["Main incomer"], since=MONTH[0], until=MONTH[1], resolution="day",
        quantities=["energy_import"],
    )["points"]  # fmt: skip
    [(id_, found)] = answer.items()
    return id_, found["rows"]


@pytest.fixture(scope="module")
def october(way: Demo) -> tuple[str, Decimal]:
    """The same, once the archive has it too: the sum."""
    deadline = time.monotonic() + 120
    while True:
        id_, rows = main_incomer(way)
        if len(rows) == 31 and all(row["completeness"] == 1 for row in rows):
            break
        assert time.monotonic() < deadline, rows
        time.sleep(2)
    return id_, sum((Decimal(str(row["energy_import"])) for row in rows), Decimal(0))


@pytest.fixture
def sign_in(browser: Browser, way: Demo) -> Iterator[Callable[..., Page]]:
    """A browser of a language, width and colour scheme, signed in; its console must stay silent."""
    contexts, complaints = [], list[str]()

    def opened(locale: str = "en-US", width: int = 1440, scheme: Any = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, locale=locale, color_scheme=scheme, ignore_https_errors=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on("console", lambda one: complaints.append(f"{page.url}: {one.text}") if one.type == "error" else None)
        page.goto(way.facts["url"])
        page.locator("input[name=username]").fill(way.facts["user"], timeout=FIRST_S)
        page.locator("input[name=password]").fill(way.facts["password"])
        page.locator("input[name=password]").press("Enter")
        page.wait_for_selector("home-assistant-main", timeout=FIRST_S)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def drawn(page: Page, way: Demo, app: str, query: str = "") -> FrameLocator:
    """The app in its frame, once something is drawn and nothing is still worked on."""
    page.goto(f"{way.facts['url']}/meter-batch-analytics/{app}{query}")
    frame = page.frame_locator("meter-batch-analytics-panel iframe")
    frame.locator(".mb-chart .js-plotly-plot .main-svg").first.wait_for(timeout=FIRST_S)
    expect(frame.locator(".mb-figure-value").first).not_to_have_text("–", timeout=FIRST_S)
    return frame


def saved(page: Page, frame: FrameLocator, name: str) -> bytes:
    """The file that a button of the app gives."""
    with page.expect_download(timeout=FIRST_S) as download:
        frame.get_by_role("button", name=name).click()
    assert download.value.suggested_filename.endswith(f".{name.lower()}")
    return Path(download.value.path()).read_bytes()


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize(("locale", "width", "scheme"), [("en-US", 1440, "light"), ("zh-CN", 390, "dark")])
def test_each_app_opens_from_the_sidebar_draws_and_exports(
    way: Demo, october: object, sign_in: Callable[..., Page], app: str, locale: str, width: int, scheme: str
) -> None:
    page = sign_in(locale, width, scheme)
    frame = drawn(page, way, app)
    assert frame.locator("html").get_attribute("lang") == ("zh-CN" if locale == "zh-CN" else "en")
    assert bool(re.search("[一-鿿]", frame.locator("body").inner_text())) == (locale == "zh-CN")
    assert frame.locator("html").evaluate("one => one.scrollWidth") <= frame.locator("html").evaluate("innerWidth")
    assert frame.locator(".mb-chart .js-plotly-plot").evaluate(
        "plot => plot.data.some(trace => (trace.y ?? trace.z)?.length > 0)"
    )
    assert saved(page, frame, "PNG").startswith(b"\x89PNG")
    assert saved(page, frame, "XLSX").startswith(b"PK")
    assert saved(page, frame, "CSV").decode("utf-8-sig").count("\n") > 1


def test_the_totals_of_an_app_are_the_ledgers(
    way: Demo, october: tuple[str, Decimal], sign_in: Callable[..., Page]
) -> None:
    id_, total = october
    page = sign_in()
    frame = drawn(page, way, "explorer", f"?points={id_}&period=2026-10-01..2026-10-31&view=bars&resolution=day")
    shown = frame.locator(".mb-figure-value").first
    # the figure may still be that of another choice for a moment
    expect(shown).to_have_text(re.compile(re.escape(f"{total:,.3f}".rstrip("0").rstrip("."))), timeout=FIRST_S)
    rows = list(csv.reader(io.StringIO(saved(page, frame, "CSV").decode("utf-8-sig"))))
    numbers = {cell for row in rows for cell in row if re.fullmatch(r"\d+\.\d+", cell)}
    assert any(Decimal(one) == total for one in numbers), (total, rows[:5])


def test_a_report_made_in_the_sidebar_opens_and_says_what_the_ledger_says(
    way: Demo, october: tuple[str, Decimal], sign_in: Callable[..., Page]
) -> None:
    page = sign_in()
    page.goto(f"{way.facts['url']}/meter-batch-analytics/reports")
    page.get_by_label("Period").select_option("2026-10", timeout=FIRST_S)
    page.get_by_role("button", name="Make").click()
    page.get_by_text("The report is ready.").wait_for(timeout=FIRST_S)
    href = page.locator(".files a", has_text="PDF").first.get_attribute("href")
    answer = page.request.get(way.facts["url"] + str(href))
    assert answer.ok and answer.body().startswith(b"%PDF")
    made = way.act("generate_report", report="monthly", period="2026-10", formats=["xlsx"], language="zh-Hans")
    assert made["language"] == "zh-Hans" and "2026" in made["title"]
    # and among the media of whoever may see the points
    browse = """id => document.querySelector("home-assistant").hass.callWS(
        {type: "media_source/browse_media", media_content_id: id})"""
    found = page.evaluate(browse, "media-source://meter_batch/monthly/2026-10")
    titles = [one["title"] for one in found["children"]]
    assert any("October 2026" in one for one in titles) and any("2026年10月" in one for one in titles), titles


def strike(demo: Demo, meter: str, fault: str | None) -> None:
    """Scripts a fault of one meter into the fleet file, or takes it out, and lets the running fleet read it."""
    file = demo.folder / "fleet.toml"
    text = re.sub(r"^faults = .*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if fault is not None:
        text = text.replace(f'name = "{meter}"\n', f'name = "{meter}"\nfaults = [{fault}]\n')
    file.write_text(text, encoding="utf-8")
    found = subprocess.run(["pgrep", "-f", f"simulate {file}"], capture_output=True, text=True, check=True)
    for pid in found.stdout.split():
        os.kill(int(pid), signal.SIGHUP)


def test_a_scripted_fault_becomes_an_alarm_is_acknowledged_and_returns(way: Demo, sign_in: Callable[..., Page]) -> None:
    way.act("set_alarm_rule", kind="over_voltage", on_delay_s=0, off_delay_s=0)
    page = sign_in()
    page.goto(f"{way.facts['url']}/meter-batch/overview")
    page.get_by_text("No alarm.").first.wait_for(timeout=FIRST_S)
    strike(way, "Main incomer", '{ kind = "voltage", factor = 1.2 }')
    alarm = page.locator("hui-markdown-card li", has_text=re.compile(r"Main incomer.*V"))
    alarm.first.wait_for(timeout=45_000)
    [listed] = [one for one in way.act("list_alarms")["alarms"] if one["kind"] == "over_voltage"]
    assert listed["state"] == "unacknowledged"
    page.get_by_text("Acknowledge all").click()
    deadline = time.monotonic() + 20
    while [one["state"] for one in way.act("list_alarms", kinds=["over_voltage"])["alarms"]] != ["acknowledged"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    strike(way, "Main incomer", None)
    deadline = time.monotonic() + 45
    while way.act("list_alarms", kinds=["over_voltage"])["alarms"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    expect(alarm).to_have_count(0, timeout=45_000)
