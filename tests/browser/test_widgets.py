"""The widgets as a reader has them: drawn by the page's own runtime, moved from Python and by hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, WebSocketRoute, expect

from ..conftest import ROOT, need
from .conftest import free_port
from .widgets_page import CELLS, WAITING

PYTHON = ROOT / ".venv-plain" / "bin" / "python"
ENGLISH_BUTTONS = ["Zoom", "Pan", "Autoscale", "Reset axes"]
TEMPLATES = ROOT / "analytics" / "meter_batch_analytics" / "server" / "template"


def notebook(cells: tuple[str, ...]) -> dict[str, object]:
    """A notebook of code cells."""
    made = [
        {"cell_type": "code", "id": f"c{place}", "metadata": {}, "outputs": [], "execution_count": None, "source": text}
        for place, text in enumerate(cells)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Voila that knows nothing but our template; the real server is tested elsewhere."""
    need("the environment of the analytics server (.venv-plain)", PYTHON.exists())
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "all.ipynb").write_text(json.dumps(notebook(CELLS)), encoding="utf-8")
    (folder / "waiting.ipynb").write_text(json.dumps(notebook(WAITING)), encoding="utf-8")
    (folder / "broken.ipynb").write_text(json.dumps(notebook((CELLS[0], "1 / 0", CELLS[4]))), encoding="utf-8")
    # Its port is free now; Voila takes no other than the one it is told.
    port = free_port()
    log = (folder / "log").open("w", encoding="utf-8")
    process = subprocess.Popen(
        [PYTHON, "-m", "voila", "--no-browser", f"--port={port}", "--Voila.port_retries=0", "--template=meter-batch",
         "--base_url=/base/", f"--Voila.root_dir={folder}", "--Voila.log_level=30",
         "--Voila.tornado_settings={'disable_check_xsrf': True}"],
        env={**os.environ, "JUPYTER_PATH": str(TEMPLATES)}, cwd=folder, stdout=log, stderr=log,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}/base/"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}voila/static/", timeout=5)
        except urllib.request.HTTPError:
            break
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
    yield f"{address}voila/render/"
    process.terminate()
    process.wait(30)


def plotly_js() -> Path:
    """plotly.js of the wheel."""
    found = sorted((ROOT / ".venv-plain" / "lib").glob("python3*/site-packages/plotly/package_data/plotly.min.js"))
    need("plotly", bool(found))
    return found[0]


@pytest.fixture
def opened(browser: Browser, site: str) -> Iterator[Callable[..., Page]]:
    """Opens a page and waits until all is drawn; what the console complains of fails the test."""
    contexts, complaints = [], list[str]()

    def open_(
        query: str = "lang=en&theme=light", width: int = 1440, name: str = "all", script: bool = True,
        before: Callable[[Page], object] = lambda page: None, but: str = "nothing",
    ) -> Page:  # fmt: skip
        context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))

        def heard(one: ConsoleMessage) -> None:
            if one.type in ("error", "warning") and but not in one.text:
                complaints.append(one.text)

        page.on("console", heard)

        # what the real server serves from the wheel
        def served(route: Route) -> None:
            route.fulfill(path=plotly_js(), content_type="text/javascript")

        if script:
            page.route("**/static/plotly.min.js*", served)
        before(page)
        page.goto(f"{site}{name}.ipynb?{query}")
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def box(page: Page, key: str) -> str:
    return f".mb-field[data-key={key}]"


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_all_widgets_are_drawn_in_both_languages_themes_and_widths(
    opened: Callable[..., Page], language: str, theme: str, width: int
) -> None:
    page = opened(f"lang={language}&theme={theme}", width)
    expect(page.locator(".mb-chart .scatterlayer .trace")).to_have_count(2, timeout=20_000)
    chinese = language == "zh-Hans"
    assert page.evaluate("document.documentElement.lang") == ("zh-CN" if chinese else "en")
    expect(page.locator(f"{box(page, 'points')} .mb-box")).to_have_text(
        "电表 0001 等 2 个" if chinese else "Meter 0001 + 1 more"
    )
    expect(page.locator(f"{box(page, 'period')} .mb-box")).to_have_text("最近 7 天" if chinese else "Last 7 days")
    expect(page.locator(".mb-figure-value")).to_have_text("1,234.5kWh")
    expect(page.locator(".mb-table-foot")).to_have_text("1,000 行" if chinese else "1,000 rows")
    expect(page.locator(".mb-chart .xtick text").first).to_contain_text("11月1日" if chinese else "Nov 1")
    expect(page.locator("#mb-skeleton")).to_have_count(0)
    # plotly's own bar has a button that sends the chart to a cloud
    buttons = page.locator(".modebar-btn").evaluate_all("all => all.map((one) => one.dataset.title)")
    assert buttons == ([] if width < 600 else ["缩放", "平移", "显示全部", "还原"] if chinese else ENGLISH_BUTTONS)
    # no more than the window holds, and the theme's own colours
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(17, 17, 17)" if theme == "dark" else "rgb(250, 250, 250)")


def test_what_the_reader_chooses_reaches_python_and_stands_in_the_address(opened: Callable[..., Page]) -> None:
    page = opened()
    page.click(f"{box(page, 'points')} .mb-box")
    page.keyboard.type("paint 0004")
    expect(page.locator(".mb-option:not(.mb-group)")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".mb-count")).to_have_text("3 of 1,000 chosen")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".mb-figure-value")).to_have_text("3energy")
    expect(page.locator(".mb-chart .scatterlayer .trace")).to_have_count(3)

    page.click(f"{box(page, 'period')} .mb-box")
    page.get_by_label("From").fill("2026-10-01")
    page.get_by_label("To", exact=True).fill("2026-10-31")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("radio", name="Power").check(force=True)
    page.get_by_role("switch", name="Compare").check()
    expect(page.locator(".mb-notice-text")).to_have_text("compare: 2026-10-01..2026-10-31 power True 3")
    expect(page.locator(f"{box(page, 'period')} .mb-box")).to_have_text("1 Oct 2026 – 31 Oct 2026")

    query = parse_qs(urlsplit(page.url).query)
    assert query["points"] == ["m0001,m0002,m0004"]
    assert (query["period"], query["show"], query["compare"]) == (["2026-10-01..2026-10-31"], ["power"], ["1"])
    assert query["lang"] == ["en"]
    page.reload()
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    expect(page.locator(f"{box(page, 'points')} .mb-box")).to_have_text("Meter 0001 + 2 more")
    expect(page.get_by_role("radio", name="Power")).to_be_checked()


def test_a_whole_area_is_short_in_the_address_and_escape_leaves_all_as_it_was(opened: Callable[..., Page]) -> None:
    page = opened()
    page.click(f"{box(page, 'points')} .mb-box")
    page.get_by_role("button", name="Clear").click()
    page.locator(".mb-group", has_text="Press shop").locator(".mb-tick").click()
    page.keyboard.press("Escape")
    expect(page.locator(f"{box(page, 'points')} .mb-box")).to_have_text("Meter 0001 + 1 more")
    page.click(f"{box(page, 'points')} .mb-box")
    page.get_by_role("button", name="Clear").click()
    page.locator(".mb-group", has_text="Press shop").locator(".mb-tick").click()
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".mb-figure-value")).to_have_text("333energy")
    assert parse_qs(urlsplit(page.url).query)["points"] == ["@Press shop"]
    page.reload()
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    expect(page.locator(f"{box(page, 'points')} .mb-box")).to_have_text("Meter 0003 + 332 more")


def test_while_python_works_only_the_newest_choice_is_sent(opened: Callable[..., Page]) -> None:
    page = opened()
    page.evaluate("""() => {
        document.querySelector(".mb-switch input").click();
        for (let n = 0; n < 9; n++) document.querySelectorAll(".mb-segments input")[(n + 1) % 2].click();
    }""")
    expect(page.locator(".mb-notice-text")).to_have_text("show: last_7_days power True 2")
    # the first, and one for all that came while it was worked on
    expect(page.locator(".mb-figure-label")).to_have_text("2")


def test_a_table_of_a_thousand_rows_draws_few_sorts_and_is_chosen_from_by_keys(opened: Callable[..., Page]) -> None:
    page = opened()
    rows = page.locator(".mb-table tbody tr[data-at]")
    assert rows.count() < 60
    expect(page.locator(".mb-table tbody tr[data-row='3'] td").nth(1)).to_have_text("99.9 %")
    page.get_by_role("button", name="Energy kWh").click()
    assert page.locator(".mb-table th[aria-sort=descending]").inner_text().startswith("Energy")
    values = [
        float(one.replace(",", ""))
        for one in page.locator(".mb-table tbody tr[data-at] td:nth-child(2)").all_inner_texts()
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] == 996.5
    page.locator(".mb-table-scroll").focus()
    page.keyboard.press("End")
    expect(page.locator(".mb-table tr[data-at='999']")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator(".mb-notice-text")).to_have_text(re.compile(r"rows \[\d+\]"))
    # header, first column and total stay in sight, wherever it is scrolled to
    page.evaluate("document.querySelector('.mb-table-scroll').scrollLeft = 500")
    inside = page.locator(".mb-table-scroll").bounding_box()
    for sticky in (".mb-table thead th >> nth=0", ".mb-table tfoot th", ".mb-table tr[data-at='999'] th"):
        found = page.locator(sticky).bounding_box()
        assert inside and found and abs(found["x"] - inside["x"]) < 2


def test_files_are_saved_byte_by_byte_and_the_chart_as_a_picture(opened: Callable[..., Page]) -> None:
    page = opened()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == "energy.csv"
    assert Path(download.value.path()).read_bytes() == "kWh\r\n电,1\r\n".encode()
    expect(page.locator(".mb-chart .scatterlayer .trace")).to_have_count(2, timeout=20_000)
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG").click()
    picture = Path(download.value.path()).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20]) == 2400


def test_zoom_is_told_to_python_and_kept_when_the_window_changes(opened: Callable[..., Page]) -> None:
    page = opened()
    plot = page.locator(".mb-chart .nsewdrag.drag")
    expect(plot).to_have_count(1, timeout=20_000)
    area = plot.bounding_box()
    assert area
    page.mouse.move(area["x"] + 200, area["y"] + 100)
    page.mouse.down()
    page.mouse.move(area["x"] + 500, area["y"] + 110, steps=5)
    page.mouse.up()
    expect(page.locator(".mb-notice-text")).to_have_text("zoom 2")
    zoom = "document.querySelector('.mb-chart-plot').layout.xaxis.range.join()"
    before = page.evaluate(zoom)
    page.set_viewport_size({"width": 1000, "height": 900})
    page.wait_for_function("document.querySelector('.mb-chart-plot').layout.width < 1000")
    assert page.evaluate(zoom) == before
    plot.dblclick(delay=20)
    expect(page.locator(".mb-notice-text")).to_have_text("zoom 0")


def test_a_broken_connection_is_made_again_and_nothing_is_lost(opened: Callable[..., Page]) -> None:
    sockets = list[WebSocketRoute]()

    def relay(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    page = opened(before=lambda page: page.route_web_socket("**/channels*", relay))
    sockets[-1].close(code=1001)
    # chosen while there is no connection
    page.locator(".mb-segments label").nth(1).click()
    expect(page.locator(".mb-notice-text")).to_have_text("show: last_7_days power False 2", timeout=20_000)
    assert len(sockets) == 2
    expect(page.locator("#mb-bar")).to_be_hidden()


def test_a_kernel_that_died_is_said_with_a_way_to_go_on(opened: Callable[..., Page]) -> None:
    page = opened("lang=zh-Hans")
    page.locator(".mb-segments label").nth(1).click()
    expect(page.locator(".mb-notice-text")).to_contain_text("power")
    page.get_by_role("button", name="Exit").click()
    expect(page.locator("#mb-bar")).to_contain_text("计算意外中止", timeout=30_000)
    page.get_by_role("button", name="重新加载").click()
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    expect(page.locator("#mb-bar")).to_be_hidden()
    expect(page.get_by_role("radio", name="功率")).to_be_checked()


def test_a_session_that_was_ended_elsewhere_is_said_when_it_is_used_again(opened: Callable[..., Page]) -> None:
    sockets = list[str]()
    page = opened(before=lambda page: page.on("websocket", lambda one: sockets.append(one.url)), but="404")
    kernel = urlsplit(sockets[0]).path.split("/")[-2]
    assert page.request.post(f"{page.url.split('/voila/')[0]}/voila/api/shutdown/{kernel}").status == 204
    page.locator(".mb-segments label").nth(1).click()
    expect(page.locator("#mb-bar")).to_contain_text("This session has ended", timeout=20_000)
    # what was chosen last is kept, too
    page.get_by_role("button", name="Reload").click()
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    expect(page.get_by_role("radio", name="Power")).to_be_checked()


def test_a_page_that_goes_ends_its_kernel_also_after_it_lost_its_session(opened: Callable[..., Page]) -> None:
    sockets, signed_out = list[WebSocketRoute](), list[bool]()

    def relay(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    def asked(route: Route) -> None:
        if signed_out:
            route.fulfill(status=401)
        else:
            route.continue_()

    def before(page: Page) -> None:
        page.route_web_socket("**/channels*", relay)
        page.route(re.compile(r"/api/kernels/[^/]+$"), asked)

    page = opened(before=before, but="401")
    kernel = f"{page.url.split('/voila/')[0]}/api/kernels/{urlsplit(sockets[0].url).path.split('/')[-2]}"
    signed_out.append(True)
    sockets[0].close(code=1001)
    expect(page.locator("#mb-bar")).to_have_attribute("data-kind", "over", timeout=20_000)
    assert page.request.get(kernel).status == 200
    # Signed in again, as the panel does it, and loaded anew.
    signed_out.clear()
    with page.expect_navigation(wait_until="commit"):
        page.get_by_role("button", name="Reload").click()
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    for _ in range(50):
        if page.request.get(kernel).status == 404:
            return
        page.wait_for_timeout(100)
    raise AssertionError("the kernel of the page that went still runs")


def test_a_chart_without_a_figure_shows_only_that_work_is_done(opened: Callable[..., Page]) -> None:
    page = opened("theme=dark", name="waiting")
    chart, drawn = page.locator(".mb-chart"), page.locator(".mb-chart .main-svg").first
    press = lambda name: page.get_by_role("button", name=name).click()  # noqa: E731
    for _ in range(2):
        expect(page.locator(".mb-chart-wait")).to_be_visible()
        expect(page.locator(".mb-chart .main-svg")).to_have_count(0)
        press("Draw")
        expect(drawn).to_be_visible()
        expect(page.locator(".mb-chart-wait")).to_have_count(0)
        press("Empty")
        expect(page.locator(".mb-chart .main-svg")).to_have_count(0)
        expect(chart).to_be_hidden()
        press("Work")


def test_what_a_callback_raised_is_said_and_the_page_goes_on(opened: Callable[..., Page]) -> None:
    page = opened()
    page.get_by_role("button", name="Raise").click()
    expect(page.locator("#mb-bar span")).to_have_text("as asked")
    page.get_by_role("button", name="Close").click()
    page.locator(".mb-segments label").nth(1).click()
    expect(page.locator(".mb-figure-value")).to_have_text("2power")


def test_a_cell_that_raises_is_said_in_words_and_later_cells_are_not_run(opened: Callable[..., Page]) -> None:
    page = opened("lang=zh-Hans", name="broken")
    expect(page.locator(".mb-message")).to_have_text("无法计算此页面。")
    assert "Traceback" not in page.content()
    assert "ZeroDivisionError" not in page.content()
    expect(page.locator(".mb-controls")).to_be_visible()
    expect(page.locator(".mb-table")).to_have_count(0)


def test_without_an_address_of_plotly_the_kernel_hands_it_over(opened: Callable[..., Page]) -> None:
    page = opened(before=lambda page: page.add_init_script(
        "Object.defineProperty(globalThis, 'meterBatch', {get: () => globalThis.kept, set: (one) => "
        "{ globalThis.kept = new Proxy(one, {get: (all, key) => key === 'plotly' ? undefined : all[key]}); }})"
    ), script=False)  # fmt: skip
    expect(page.locator(".mb-chart .scatterlayer .trace")).to_have_count(2, timeout=30_000)
