"""The page of a report: whole, in both languages, for screen and paper."""

from __future__ import annotations

import re
import shutil
import string
import subprocess
import tomllib
import zlib
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_batch_analytics.report import charts
from meter_batch_analytics.report.facts import NOTES, Facts, Note, TariffPeriod
from meter_batch_analytics.report.page import Page
from meter_batch_analytics.report.story import WORDS, Voice
from tests.conftest import need

from . import example_facts

EXAMPLES = {"monthly": example_facts.monthly, "daily": example_facts.daily, "bare": example_facts.bare}
EXAMPLES |= {"empty": example_facts.empty}
ALL = [(name, language) for name in EXAMPLES for language in ("en", "zh-Hans")]
VOID = {"meta", "link", "br", "input", "img", "hr"}


class Parsed(HTMLParser):
    """Tags that are closed in order, texts, and every address that a browser would ask for."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.texts: list[str] = []
        self.asked: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asked += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)


@pytest.mark.parametrize(("name", "language"), ALL)
def test_a_page_is_well_formed_and_asks_for_nothing_from_outside(name: str, language: str) -> None:
    html = Page(EXAMPLES[name](), language).html
    parsed = Parsed(html)
    assert parsed.open == []
    assert [one for one in parsed.asked if not one.startswith("data:")] == []
    assert "url(" not in html and "@import" not in html and "script" not in parsed.tags
    assert f'<html lang="{"zh-CN" if language == "zh-Hans" else "en"}">' in html
    assert not re.search(r"\bNone\b|\bnan\b|\{[a-z_]*\}", " ".join(parsed.texts))


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_the_first_page_says_use_cost_comparison_demand_and_quality(language: str) -> None:
    facts = example_facts.monthly()
    voice = Voice(facts, language)
    said = "".join(voice.headline())
    assert facts.cost is not None and facts.total.previous.change is not None
    for number in (
        voice.kwh(facts.total.kwh), voice.amount(facts.cost.total), voice.label("2026-09"), voice.label("2025-10"),
        voice.share(facts.total.previous.change), voice.share(facts.completeness), voice.kw(facts.total.demand.max_kw),
    ):  # fmt: skip
        assert number in said
    html = Page(facts, language).html
    assert html.index(voice.headline()[0]) < html.index('id="use"')


def test_every_point_and_every_area_stands_on_the_page() -> None:
    facts = example_facts.monthly()
    text = " ".join(Parsed(Page(facts, "en").html).texts)
    for one in (*facts.points, *facts.areas, *facts.lines):
        assert one.name in text
    voice = Voice(facts, "en")
    for point in facts.points:
        assert voice.kwh(point.kwh) in text and voice.kw(point.demand.max_kw) in text


@settings(max_examples=25, deadline=None)
@given(name=st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=40))
def test_a_name_stands_as_it_is_whatever_it_is_made_of(name: str) -> None:
    facts = example_facts.bare()
    html = Page(replace(facts, points=(replace(facts.points[0], name=name),)), "en").html
    parsed = Parsed(html)
    assert parsed.open == []
    assert name in parsed.texts


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
@pytest.mark.parametrize("key", NOTES)
def test_every_note_has_words_that_need_nothing_but_its_facts(key: str, language: str) -> None:
    given_facts: dict[str, str | float] = {
        "until": "2026-10-09T10:20:00+08:00", "share": 0.02, "points": 3, "intervals": 7, "tariff": "night",
        "day": "2026-10-05", "attribute": "contract_kw", "problem": "night.toml: is no TOML",
    }  # fmt: skip
    told = set(re.findall(r"`(\w+)`", NOTES[key]))
    note = Note(key, {name: value for name, value in given_facts.items() if name in told})
    text = Voice(example_facts.monthly(), language).note(note)
    assert len(text) > 5 and "{" not in text


def test_both_languages_are_given_the_same_facts_in_every_sentence() -> None:
    table = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    formatter = string.Formatter()
    for key, texts in table.items():
        en, zh = ({field for _, field, _, _ in formatter.parse(text) if field} for text in texts.values())
        if key != "alarm_phase":  # L1 here, A 相 there
            assert en == zh, key


def test_what_needs_attention_comes_worst_first_and_nothing_is_said_of_what_is_well() -> None:
    facts = example_facts.daily()
    tones = [one.tone for one in Voice(facts, "en").needs()]
    assert tones == sorted(tones, key=["bad", "warning", "info"].index) and tones[0] == "bad"
    well = replace(
        facts, alarms=(), points=(),
        total=replace(
            facts.total, balances=(), demand=replace(facts.total.demand, contract_kw=Decimal(10_000)),
            power_factor=replace(facts.total.power_factor, value=Decimal("0.95")),
        ),
    )  # fmt: skip
    assert [one.tone for one in Voice(well, "en").needs()] == ["good"]


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_the_first_page_says_of_which_points_its_total_is_and_how_many_others_lack_data(language: str) -> None:
    facts = example_facts.monthly()
    silent = tuple(replace(one, kwh=None) if one.id == "office" else one for one in facts.points)
    voice = Voice(
        replace(facts, points=silent, total=replace(facts.total, completeness=1.0, estimated_share=0.0)), language
    )
    whole, others = voice.headline()[-2:]
    assert whole == voice.say("said_quality_whole", names="Incomer 10 kV")
    assert others == voice.say("said_quality_points", count=7, silent=1, partly=1)


def test_estimates_and_differences_below_zero_are_marked_and_the_marks_explained() -> None:
    facts = example_facts.monthly()
    points = [replace(one, estimated_share=0.0) for one in facts.points]
    sure = replace(facts, points=tuple(points), areas=(), lines=())
    assert not re.search("[≈‡]", Page(sure, "en").html)
    points[0] = replace(points[0], estimated_share=1.0)
    points[1] = replace(points[1], virtual=True, by_period={"peak": Decimal(-5)})
    page = Page(replace(facts, points=tuple(points)), "en")
    assert f"≈\u00a0{page.voice.kwh(points[0].kwh)}" in page.html and "‡\u00a0" in page.html
    assert page.voice.say("mark_estimated") in page.html and page.voice.say("mark_negative") in page.html


def test_a_tariff_period_in_which_nothing_was_used_has_no_column() -> None:
    facts = example_facts.monthly()
    more = replace(facts, tariff_periods=(*facts.tariff_periods, TariffPeriod("deep", {"en": "Deep valley"})))
    assert "Deep valley" not in Page(more, "en").html and ">Valley<" in Page(more, "en").html


def test_without_data_it_is_not_said_that_a_tariff_is_missing_where_there_is_one() -> None:
    facts = example_facts.empty()
    assert Voice(facts, "en").no_cost() == Voice(facts, "en").say("no_cost")
    voice = Voice(replace(facts, notes=(Note("no_data"),)), "en")
    assert voice.no_cost() == voice.say("nothing_to_bill")


def test_titles_name_what_was_chosen() -> None:
    facts = replace(example_facts.monthly(), about=("Roof",), site="Works")
    assert "<title>Works · Monthly energy report · Roof · October 2026</title>" in Page(facts, "en").html


def test_a_share_that_is_not_nothing_never_reads_as_nothing() -> None:
    voice = Voice(example_facts.daily(), "en")
    assert voice.share(0.0002) == "<\u00a00.1\u00a0%"
    assert voice.share(0.0) == "0.0\u00a0%"
    assert voice.share(0.99999) == "99.9\u00a0%"
    assert voice.change(-0.077) == "−7.7\u00a0%" and voice.change(0.00001) == "0.0\u00a0%"


# --- charts ---


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-1e7, 1e7)), min_size=1, max_size=31))
def test_columns_stay_within_their_frame(values: list[float | None]) -> None:
    steps = [charts.Step(str(at)) for at in range(len(values))]
    svg = charts.columns("a chart", steps, [charts.Series("kWh", values, 0)], number=str, unit="kWh")
    for y, height in re.findall(r'<rect class="c0" x="[\d.-]+" y="([\d.-]+)" width="[\d.]+" height="([\d.-]+)"', svg):
        assert float(y) >= -0.01 and float(height) >= 0 and float(y) + float(height) <= 190.01
    assert svg.count('class="unknown"') == sum(one is None for one in values)


def test_stacked_columns_are_as_high_as_their_sum() -> None:
    steps = [charts.Step("1")]
    whole = charts.columns("a", steps, [charts.Series("x", [60.0], 0)], number=str, unit="kWh")
    parts = [charts.Series("x", [20.0], 0), charts.Series("y", [40.0], 1)]
    split = charts.columns("a", steps, parts, number=str, unit="kWh")

    def heights(svg: str) -> list[float]:
        return [float(one) for one in re.findall(r'<rect class="c\d".*?height="([\d.]+)"', svg)]

    assert sum(heights(split)) == pytest.approx(sum(heights(whole)), abs=0.02)


# --- paper ---


def pages(pdf: bytes, tmp_path: Path) -> list[str]:
    file = tmp_path / "report.pdf"
    file.write_bytes(pdf)
    text = subprocess.run(["pdftotext", "-layout", file, "-"], check=True, capture_output=True, text=True).stdout
    return text.removesuffix("\f").split("\f")


def tool(name: str, file: Path) -> str:
    return subprocess.run([name, file], check=True, capture_output=True, text=True).stdout


def hundred(facts: Facts) -> Facts:
    """A hundred points."""
    some = [one for one in facts.points if not one.in_total]
    more = [replace(some[at % len(some)], id=f"p{at}", name=f"Meter {at:03} 电表", area="Hall") for at in range(100)]
    return replace(facts, points=tuple(more))


def test_on_paper_a_hundred_points_have_a_head_on_every_page_and_pages_are_numbered(tmp_path: Path) -> None:
    need("pdftotext", shutil.which("pdftotext") is not None)
    facts = hundred(example_facts.monthly())
    page = Page(facts, "zh-Hans")
    found = pages(page.pdf(), tmp_path)
    voice = page.voice
    for number, text in enumerate(found, 1):
        assert re.search(rf"\b{number} ?/ ?{len(found)}\b", text)
        assert (voice.title in text and voice.period in text) or number == 1
    rows = [re.findall(r"Meter (\d{3}) 电表 +(?:≈.)?[\d,.]+ .* [\d,.]+ ", text) for text in found]
    of_points = [text for text, some in zip(found, rows, strict=True) if some]
    assert len(of_points) >= 3 and all(voice.say("on_last_year") in text for text in of_points)
    assert sorted(one for some in rows for one in some) == [f"{number:03}" for number in range(100)]


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_on_paper_there_is_one_face_and_title_language_and_bookmarks_are_given(language: str, tmp_path: Path) -> None:
    need("pdffonts", shutil.which("pdffonts") is not None)
    page = Page(example_facts.daily(), language)
    data = page.pdf()
    file = tmp_path / "report.pdf"
    file.write_bytes(data)
    names = [line.split()[0] for line in tool("pdffonts", file).splitlines()[2:]]
    assert names and all("Noto-Sans-CJK-SC" in name for name in names)
    info = tool("pdfinfo", file)
    assert f"{page.voice.title} · {page.voice.period}" in info and re.search(r"Tagged: +yes", info)
    parts = b"".join(map(unpacked, re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL)))
    assert f"/Lang ({'zh-CN' if language == 'zh-Hans' else 'en'})".encode() in parts + data
    assert b"/Outlines" in parts + data and b"/Alt" in parts + data


def unpacked(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


@pytest.mark.parametrize("name", ["bare", "empty"])
def test_there_is_a_page_where_next_to_nothing_is_known(name: str, tmp_path: Path) -> None:
    need("pdftotext", shutil.which("pdftotext") is not None)
    page = Page(EXAMPLES[name](), "en")
    text = " ".join("\n".join(pages(page.pdf(), tmp_path)).split())
    assert page.voice.headline()[0].replace("\u00a0", " ") in text.replace("\u00a0", " ")
    assert page.voice.say("no_cost") in text
