"""What all apps have alike: words, look, controls from the address, one notice, work in the background, files."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from meter_batch_engine.errors import ConfigError, MeterBatchError
from meter_batch_engine.model.day import DayCalendar, DayClass

from ..export import CSV, XLSX, Sheet, as_csv, as_xlsx
from ..plots import Look
from ..session import Session
from ..widgets import Chart, Controls, Figures, Notice, Table, is_period, period_days
from ..words import CHINESE, Words
from .reading import Reader
from .work import Step, Worker

WORDS = Path(__file__).parent / "words.toml"
NAME = "meter-batch"


class Page(ABC):
    """Base of the apps: a page of widgets for one session. `kind` names its files."""

    kind: str

    def __init__(self, session: Session) -> None:
        self.session = session
        self.words = Words.load(WORDS, session.language)
        self.reader = Reader(session)
        self.look = Look(session.theme, session.language == CHINESE)
        self.calendar = DayCalendar(session.site.country)
        # Of other countries no holidays are known, so none are named.
        self.country = "CN" if session.site.country == "CN" else None
        language = session.language
        self.notice = Notice(language=language)
        self.figures = Figures(language=language)
        self.chart = Chart(language=language, height=440)
        self.table = Table(language=language)
        self._warnings: list[str] = []
        self._facts: list[str] = []
        self._unknown = self._unknown_points()
        fields = self.fields()
        self._misread = self._not_understood(fields)
        self.controls = Controls(fields, self.defaults(), language=language)
        self.controls.take_query(session.query)
        self.controls.on_change(self._changed)
        self._worker = Worker(self._told, self._failed)
        self.renew()

    # --- what an app says of itself ---

    @abstractmethod
    def fields(self) -> list[dict[str, Any]]:
        """Its controls."""

    @abstractmethod
    def defaults(self) -> dict[str, Any]:
        """The values of its controls where the address says none."""

    @abstractmethod
    def work(self, values: Mapping[str, Any], told: Callable[[float], None]) -> Iterator[Step]:
        """Reads and works out what is to be shown, and yields what to do to the widgets."""

    @abstractmethod
    def sheets(self) -> list[Sheet]:
        """The tables of its files, the one that is shown first."""

    @abstractmethod
    def about(self) -> list[tuple[str, str]]:
        """What was asked, for the last sheet of a workbook."""

    # --- life ---

    def renew(self) -> None:
        """Shows what the controls say."""
        self._warnings = [self.words("unknown_points", points=", ".join(self._unknown))] if self._unknown else []
        if self._misread:
            self._warnings.append(self.words("not_understood", texts=", ".join(self._misread.values())))
        self._facts = []
        self._busy(True)
        self.notice.say(self.words("reading"), progress=-1.0)
        values = dict(self.controls.values)
        self._worker.start(lambda told: self._work(values, told))

    def _work(self, values: Mapping[str, Any], told: Callable[[float], None]) -> Iterator[Step]:
        yield from self.work(values, told)
        yield self._done

    def _done(self) -> None:
        self._busy(False)
        text = " ".join(dict.fromkeys([*self._warnings, *self._facts]))
        self.notice.say(text, "warning" if self._warnings else "info")

    def join(self) -> None:
        """Waits until all is shown; only where there is no loop."""
        self._worker.join()

    async def ready(self) -> None:
        """Waits until all is shown."""
        await self._worker.ready()

    def _changed(self, _values: Mapping[str, Any], key: str) -> None:
        match key:
            case "png":
                self.chart.download_png(self.file_name("png"))
            case "csv" | "xlsx":
                self.send(key)
            case _:
                # What the reader has chosen now is no longer what the address said.
                self._misread.pop(key, None)
                self.renew()

    def _told(self, share: float) -> None:
        self.notice.say(self.words("reading"), progress=share)

    def _failed(self, error: MeterBatchError | None) -> None:
        self._clear()
        self._busy(False)
        self.notice.say(self.words("fault") if error is None else self.said(error), "error")

    def _busy(self, busy: bool) -> None:
        for one in (self.chart, self.figures, self.table):
            one.busy = busy

    def warn(self, text: str) -> None:
        """Something the reader should know beside what is shown."""
        self._warnings.append(text)

    def tell(self, text: str) -> None:
        """Something that is as it should be, and worth a line."""
        self._facts.append(text)

    def empty(self, text: str) -> None:
        """Nothing to show, and why."""
        self._clear()
        self.warn(text)

    def _clear(self) -> None:
        self.figures.items = []
        self.chart.figure = {}
        self.table.show([], {})

    def said(self, error: MeterBatchError) -> str:
        """An error in the reader's language, as far as it has words of ours; its own text beside."""
        text = str(getattr(error, "text", "") or error)
        key = "error_config" if isinstance(error, ConfigError) else "error_data"
        return self.words(key, text=text)

    # --- files ---

    def send(self, kind: str) -> None:
        """Gives the reader a file of what is shown."""
        sheets = self.sheets()
        if not sheets or not any(one.count for one in sheets):
            self.notice.say(self.words("nothing_to_save"), "warning")
            return
        zone = self.session.site.time_zone
        if kind == "csv":
            self.table.send_file(self.file_name("csv"), CSV, as_csv(sheets[0], zone))
        else:
            about = [*self.about(), (self.words("time_zone"), zone), (self.words("made_at"), self._now())]
            content = as_xlsx(sheets, zone, about=about, about_name=self.words("about"))
            self.table.send_file(self.file_name("xlsx"), XLSX, content)

    def file_name(self, ending: str) -> str:
        """A name that tells what and which period."""
        first, last = self.period()
        return f"{NAME}-{self.kind}-{first}-{last}.{ending}"

    def _now(self) -> str:
        return self.words.instant(self.session.now().astimezone(self.reader.zone))

    # --- controls ---

    def period(self, values: Mapping[str, Any] | None = None) -> tuple[date, date]:
        """First and last day of the chosen period."""
        text = (values or self.controls.values)["period"]
        first, after = period_days(text, self.reader.today(), self.reader.first_day())
        return first, after - timedelta(days=1)

    def period_text(self, first: date, last: date) -> str:
        """A period in words."""
        if first == last:
            return self.words.day(first)
        return f"{self.words.day(first)} – {self.words.day(last)}"

    def points_field(self, **more: Any) -> dict[str, Any]:
        """The control that chooses points."""
        site = self.session.site
        areas = {one: name for name, ids in site.areas.items() for one in ids}
        lines = {one: name for name, ids in site.lines.items() for one in ids}
        options = [
            {
                "value": id_, "label": point.name, "group": areas.get(id_, ""), "line": lines.get(id_, ""),
                "virtual": point.virtual,
            }
            for id_, point in sorted(site.points.items(), key=lambda one: _natural(one[1].name))
        ]  # fmt: skip
        return {"key": "points", "kind": "points", "label": self.words("points"), "options": options, **more}

    def choice(self, key: str, options: Sequence[str], **more: Any) -> dict[str, Any]:
        """A control of some options, whose labels are words `<key>_<option>`."""
        labels = [{"value": one, "label": self.words(f"{key}_{one}" if one else f"{key}_none")} for one in options]
        return {"key": key, "kind": "choice", "label": self.words(key), "options": labels, **more}

    def period_field(self) -> dict[str, Any]:
        """The control of the period."""
        first, last = self.reader.first_day(), self.reader.today()
        return {
            "key": "period", "kind": "period", "label": self.words("period"), "first": min(first, last).isoformat(),
            "last": last.isoformat(),
        }  # fmt: skip

    def file_buttons(self) -> list[dict[str, Any]]:
        """Buttons for files, at the end of the row."""
        icons = {"csv": "download", "xlsx": "table", "png": "picture"}
        buttons = [{"key": one, "kind": "button", "label": one.upper(), "icon": icon} for one, icon in icons.items()]
        return [{"key": "files", "kind": "break"}, *buttons]

    def _unknown_points(self) -> list[str]:
        """Points of the address that are not there, or that this reader may not see: the same to them."""
        known = self.session.site.points
        asked = [one for text in self.session.query.get("points", ())[-1:] for one in text.split(",")]
        return [one[:60] for one in asked if one and one != "*" and not one.startswith("@") and one not in known][:5]

    def _not_understood(self, fields: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Choices and periods of the address that are none, by their field; the default is shown for them."""
        found = {}
        for field in fields:
            key, text = field["key"], (self.session.query.get(field["key"]) or [""])[-1]
            known = (
                is_period(text) if field["kind"] == "period"
                else field["kind"] != "choice" or text in [one["value"] for one in field["options"]]
            )  # fmt: skip
            if text and not known:
                found[key] = f"{key}={text[:60]}"
        return found

    # --- days ---

    def day_class(self, day: date) -> DayClass:
        """Work, rest or holiday."""
        return self.calendar.day_class(day)

    def names_of(self, points: Sequence[str], most: int = 3) -> str:
        """Names of points, the first few."""
        names = [self.session.site.name(one) for one in points[:most]]
        more = len(points) - most
        separator = "、" if self.session.language == CHINESE else ", "
        return separator.join(names) + (self.words("and_more", n=more) if more > 0 else "")


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Machine 9 before Machine 10."""
    return [(0, int(one), "") if one.isdigit() else (1, 0, one.casefold()) for one in re.split(r"(\d+)", name) if one]
