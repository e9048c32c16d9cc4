"""The day or month that a report is of, and those it is compared with. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from meter_batch_engine.errors import ConfigError

from ..periods import begin_of
from .facts import Kind

KINDS: tuple[Kind, ...] = ("daily", "monthly")
_MONTH = re.compile(r"(\d{4})-(\d\d?)")
_ONE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ReportPeriod:
    """A local day or calendar month of a place."""

    kind: Kind
    first: date
    zone: ZoneInfo

    @property
    def label(self) -> str:
        """ "2026-10" or "2026-10-05"."""
        return self.first.isoformat() if self.kind == "daily" else f"{self.first:%Y-%m}"

    @property
    def last(self) -> date:
        """Its last day."""
        return self.first if self.kind == "daily" else (self.first + timedelta(days=31)).replace(day=1) - _ONE

    @property
    def days(self) -> list[date]:
        """All its days; some places once skipped one."""
        every = [self.first + number * _ONE for number in range((self.last - self.first).days + 1)]
        return [one for one in every if day_begins(one, self.zone).date() == one]

    @property
    def start(self) -> datetime:
        """The instant at which it begins, by the clocks of its zone."""
        return day_begins(self.first, self.zone)

    @property
    def end(self) -> datetime:
        """The instant at which the next one begins."""
        return day_begins(self.last + _ONE, self.zone)

    def previous(self) -> ReportPeriod:
        """The one before."""
        day = self.first - _ONE
        return ReportPeriod(self.kind, day if self.kind == "daily" else day.replace(day=1), self.zone)

    def last_year(self) -> ReportPeriod:
        """The same of the year before; of 29 February the 28th."""
        leap = self.first.month == 2 and self.first.day == 29
        year = self.first.year - 1
        return ReportPeriod(self.kind, self.first.replace(year=year, day=28 if leap else self.first.day), self.zone)


def kind_of(text: str) -> Kind:
    """The kind of that name; ConfigError where there is none."""
    for one in KINDS:
        if one == text:
            return one
    raise ConfigError(f'"{text}" is no report; there are {", ".join(KINDS)}')


def period_of(kind: Kind, text: str, now: datetime, zone: ZoneInfo) -> ReportPeriod:
    """The period of a text: "2026-10-05", "yesterday", "today" of a day; "2026-10", "this" of a month; "last" of both.

    ConfigError where it is none of these or has not begun.
    """
    today, wanted = now.astimezone(zone).date(), text.strip().lower()
    if kind == "daily":
        yesterday = (day_begins(today, zone) - timedelta(hours=1)).astimezone(zone).date()
        found = {"yesterday": yesterday, "last": yesterday, "today": today, "this": today}.get(wanted)
        examples = "2026-10-05, yesterday or today"
    else:
        this = today.replace(day=1)
        found = {"last": (this - _ONE).replace(day=1), "this": this}.get(wanted)
        examples = "2026-10, last or this"
    if found is None:
        try:
            if kind == "daily":
                found = date.fromisoformat(wanted)
            elif match := _MONTH.fullmatch(wanted):
                found = date(int(match[1]), int(match[2]), 1)
        except ValueError:
            pass
    if found is None:
        what = "day" if kind == "daily" else "month"
        raise ConfigError(f'"{text}" is no {what} for a {kind} report; write {examples}')
    if not 2000 <= found.year <= 2199:
        raise ConfigError(f"{text} is before 2000 or after 2199")
    period = ReportPeriod(kind, found, zone)
    if until_of(period, now) <= period.start:
        raise ConfigError(f"{period.label} has only just begun or is still to come: nothing can be said of it yet")
    return period


def until_of(period: ReportPeriod, now: datetime) -> datetime:
    """As far as a report made now reaches: to its end, or to the last full hour."""
    return min(period.end, local(begin_of(now, "hour", period.zone), period.zone))


def local(at: datetime, zone: tzinfo) -> datetime:
    """An instant as the zone's clocks show it, with its offset fixed: what is between two such is time, not what the
    clocks show, also on days on which they change.
    """
    found = at.astimezone(zone)
    return found.replace(tzinfo=timezone(found.utcoffset() or timedelta()), fold=0)


def day_begins(day: date, zone: ZoneInfo) -> datetime:
    """The instant at which a local day begins, as its clocks show it: not always midnight."""
    begin = local(datetime(day.year, day.month, day.day, tzinfo=zone), zone)
    # Where clocks skip midnight, what is named midnight is before or after the change; noon is always of the day.
    if begin.hour or begin.date() != day:
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone)
        begin = local(begin_of(noon, "day", zone), zone)
    return begin
