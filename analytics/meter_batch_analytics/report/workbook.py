"""The report as a workbook: every number in full, totals as formulas, native charts.

Formulas carry the value of the facts, so that a program that does not work them out shows it all the same; one that
does comes to the same. A text is written as a text, whatever it begins with.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from xlsxwriter.utility import xl_range_abs, xl_rowcol_to_cell

from .charts import SERIES, colours
from .facts import Bill, CostLine, Facts, PointFacts
from .sheets import Column, Sheets


class Workbook(Sheets):
    """Writes a report's sheets."""

    def __init__(self, facts: Facts, language: str) -> None:
        super().__init__(facts, language)
        self._periods = [(key, self.voice.tariff_period(key)) for key in self.voice.dearest_first()]

    def bytes(self) -> bytes:
        """The file; the same facts give the same bytes."""
        facts, say = self.facts, self.say
        self.book.set_properties(
            {
                "title": f"{self.voice.title} · {self.voice.period}",
                "subject": say("description"),
                "author": "Meter Batch",
                "created": facts.made_at.astimezone(UTC).replace(tzinfo=None),
            }
        )
        # In the order of their tabs; the summary, which refers to all others, is written last.
        summary = self.sheet("summary")
        total = self._points()
        use = None if facts.kind == "daily" else self._days()
        hours = self._hours()
        cost = self._cost()
        self._alarms()
        self._quality()
        self._summary(summary, total, cost, use or hours)
        self.book.close()
        return self.buffer.getvalue()

    # --- sheets ---

    def _summary(self, sheet: Any, kwh_at: str | None, cost_at: str | None, chart: Any) -> None:
        facts, voice, say = self.facts, self.voice, self.say
        total = facts.total
        sheet.set_column(0, 0, 34)
        sheet.set_column(1, 5, 17)
        sheet.write_string(0, 0, f"{voice.title} · {voice.period}", self.title)
        row = 1
        for text in (*voice.headline(), say("made_at", at=voice.instant(facts.made_at))):
            sheet.write_string(row, 0, text)
            row += 1
        row += 1
        figures: list[tuple[str, str, Any, str, str | None]] = [
            (say("energy_used"), "kwh", total.kwh, "kWh", kwh_at),
            (say("exported"), "kwh", total.export_kwh, "kWh", None),
            (say("max_demand"), "kw", total.demand.max_kw, "kW", None),
            (say("time"), "at", total.demand.at, "", None),
            (say("power_factor"), "factor", total.power_factor.value, "", None),
            (say("measured"), "percent", total.completeness, "", None),
            (say("estimated"), "percent", total.estimated_share, "", None),
            (say("alarms"), "whole", len(facts.alarms), "", None),
        ]
        if facts.cost is not None:
            figures.insert(2, (say("cost_total"), "money", facts.cost.total, voice.currency(), cost_at))
        for label, kind, value, unit, formula in figures:
            sheet.write_string(row, 0, label, self.bold)
            if formula is not None:
                sheet.write_formula(row, 1, formula, self.plain[kind], _number(value))
            else:
                self.cell(sheet, row, 1, kind, value, self.plain)
            sheet.write_string(row, 2, f" {unit}")
            row += 1
        row += 1
        compared = (total.previous, total.last_year)
        columns = [
            Column(say("other_energy"), "text", lambda one: voice.label(one.period), 34),
            Column("kWh", "kwh", lambda one: one.kwh, 17),
            Column(f"{say('this_period')} kWh", "kwh", lambda one: one.this_kwh, 17),
            Column(say("change"), "percent", lambda one: one.change, 17),
            Column(f"{say('alike_energy')} kWh", "kwh", lambda one: one.comparable_kwh, 17),
            Column(f"{say('alike_this')} kWh", "kwh", lambda one: one.comparable_this_kwh, 17),
            Column(f"{say('change')}, {say('comparable')}", "percent", lambda one: one.comparable_change, 17),
        ]
        row = self.table(sheet, row, columns, compared) + 1
        sheet.write_string(row, 0, say("attention"), self.section)
        for number, need in enumerate(voice.needs(), row + 1):
            sheet.write_string(number, 0, need.text)
            row = number
        row += 2
        if chart is not None:
            sheet.insert_chart(row, 0, chart)
            row += 17
        if not voice.notes():
            return
        sheet.write_string(row, 0, say("notes"), self.section)
        for number, text in enumerate(voice.notes(), row + 1):
            sheet.write_string(number, 0, text)

    def _points(self) -> str | None:
        """Returns where the total of energy stands, as a formula."""
        facts, say = self.facts, self.say
        sheet = self.sheet("points")
        columns = [
            Column(say("point"), "text", lambda one: one.name, 32),
            Column(say("identifier"), "text", lambda one: one.id, 14),
            Column(say("area"), "text", lambda one: one.area),
            Column(say("line"), "text", lambda one: one.line),
            Column(say("in_total"), "text", lambda one: say("yes" if one.in_total else "no"), 11),
            Column("kWh", "kwh", lambda one: one.kwh),
            *(Column(f"{name} kWh", "kwh", _of_period(key)) for key, name in self._periods),
            Column(f"{say('exported')} kWh", "kwh", lambda one: one.export_kwh),
            Column(say("share"), "percent", lambda one: one.share),
            Column(f"{say('previous_period')} kWh", "kwh", lambda one: one.previous.kwh),
            Column(say("on_previous"), "percent", lambda one: one.previous.change),
            Column(f"{say('last_year')} kWh", "kwh", lambda one: one.last_year.kwh),
            Column(say("on_last_year"), "percent", lambda one: one.last_year.change),
            Column(f"{say('max_demand')} kW", "kw", lambda one: one.demand.max_kw),
            Column(say("time"), "at", lambda one: one.demand.at),
            Column(say("power_factor"), "factor", lambda one: one.power_factor.value),
            Column(say("measured"), "percent", lambda one: one.completeness),
            Column(say("estimated"), "percent", lambda one: one.estimated_share),
        ]
        if facts.cost is not None:
            columns.append(
                Column(f"{say('energy_cost')} {self.voice.currency()}", "money", lambda one: one.energy_cost)
            )
        end = self.table(sheet, 0, columns, facts.points, filtered=True)
        sheet.freeze_panes(1, 1)
        sheet.write_string(end, 0, say("sum_of_rows"), self.strong["text"])
        which = xl_range_abs(1, 4, max(1, end - 1), 4)
        found = None
        for place, column in enumerate(columns):
            if column.kind != "kwh" or column.head.startswith((say("previous_period"), say("last_year"))):
                if place:
                    sheet.write_blank(end, place, None, self.strong["text"])
                continue
            values = [column.value(one) for one in facts.points if one.in_total]
            value = sum((one for one in values if one is not None), Decimal(0))
            formula = f'=SUMIFS({xl_range_abs(1, place, max(1, end - 1), place)},{which},"{say("yes")}")'
            sheet.write_formula(end, place, formula, self.strong["kwh"], float(value))
            if column.head == "kWh" and value == facts.total.kwh and any(one is not None for one in values):
                found = f"='{sheet.get_name()}'!{xl_rowcol_to_cell(end, place)}"
        return found

    def _days(self) -> Any:
        say = self.say
        sheet = self.sheet("days")
        columns = [
            Column(say("day"), "day", lambda one: one.day),
            Column(say("day_class"), "text", lambda one: say(f"class_{one.day_class}")),
            *self._energies(),
            Column(say("measured"), "percent", lambda one: one.completeness),
            Column(say("estimated"), "percent", lambda one: one.estimated_share),
            Column(f"{say('max_demand')} kW", "kw", lambda one: one.demand_max_kw),
        ]
        self.summed(sheet, columns, self.facts.days)
        sheet.insert_chart(1, len(columns) + 1, self._use_chart(sheet, 2, len(self.facts.days), say("use_by_day")))
        return self._use_chart(sheet, 2, len(self.facts.days), say("use_by_day"))

    def _hours(self) -> Any:
        say, zone = self.say, self.facts.start.tzinfo
        sheet = self.sheet("hours")
        columns = [
            Column(say("hour"), "at", lambda one: one.start),
            # The hour that a clock shows twice in autumn is told apart by this.
            Column("UTC", "text", lambda one: f"{one.start.astimezone(zone):%:z}", 9),
            *self._energies(),
            Column(say("measured"), "percent", lambda one: one.completeness),
        ]
        daily = self.facts.kind == "daily"
        if daily:
            columns.append(Column(f"{say('usual')} kWh", "kwh", lambda one: one.comparable_kwh))
        self.summed(sheet, columns, self.facts.hours)
        if not daily:
            return None
        chart = self._use_chart(sheet, 2, len(self.facts.hours), say("use_by_hour"))
        sheet.insert_chart(1, len(columns) + 1, chart)
        return self._use_chart(sheet, 2, len(self.facts.hours), say("use_by_hour"))

    def _cost(self) -> str | None:
        """Returns where the total stands, as a formula."""
        facts, say = self.facts, self.say
        sheet = self.sheet("cost")
        if facts.cost is None:
            sheet.write_string(0, 0, self.voice.no_cost())
            return None
        currency = self.voice.currency()
        heads = [
            say("item"),
            say("quantity"),
            say("unit"),
            say("price"),
            f"{say('tariff_period')} {currency}",
            f"{say('amount')} {currency}",
        ]
        for place, (head, width) in enumerate(zip(heads, (40, 14, 9, 12, 16, 16), strict=True)):
            sheet.set_column(place, place, width)
            sheet.write_string(0, place, head, self.head if place in (0, 2) else self.number_head)
        sheet.freeze_panes(1, 1)
        sheet.repeat_rows(0)
        row, totals = 1, []
        for bill in facts.cost.bills:
            row = self._bill(sheet, row, bill)
            totals.append(xl_rowcol_to_cell(row - 2, 5))
        if len(totals) > 1:
            sheet.write_string(row, 0, say("cost_total"), self.strong["text"])
            for place in range(1, 5):
                sheet.write_blank(row, place, None, self.strong["text"])
            formula = "=" + "+".join(totals)
            sheet.write_formula(row, 5, formula, self.strong["money"], float(facts.cost.total))
            return f"='{sheet.get_name()}'!{xl_rowcol_to_cell(row, 5)}"
        return f"='{sheet.get_name()}'!{totals[0]}" if totals else None

    def _bill(self, sheet: Any, row: int, bill: Bill) -> int:
        """Writes a bill from a row on; returns the row after it and an empty one."""
        say = self.say
        sheet.write_string(row, 0, self.voice.bill(bill), self.section)
        row += 1
        first, chart_rows = row, None
        for line in bill.lines:
            begin = row
            parts = self.voice.parts(line)
            for part in parts:
                sheet.write_string(row, 0, "   " + self.voice.tariff_period(part.period))
                self.cell(sheet, row, 1, "kwh", part.kwh, self.plain)
                sheet.write_string(row, 2, " kWh")
                self.cell(sheet, row, 3, "price", part.price, self.plain)
                self._product(sheet, row, 4, part.kwh * part.price == part.amount, part.amount)
                row += 1
            if parts:
                chart_rows = (begin, row - 1)
            self._line(sheet, row, line, begin)
            row += 1
        sheet.write_string(row, 0, say("cost_total"), self.strong["text"])
        for place in range(1, 5):
            sheet.write_blank(row, place, None, self.strong["text"])
        formula = f"=SUM({xl_range_abs(first, 5, max(first, row - 1), 5)})"
        if sum((line.amount for line in bill.lines), Decimal(0)) == bill.total:
            sheet.write_formula(row, 5, formula, self.strong["money"], float(bill.total))
        else:
            self.cell(sheet, row, 5, "money", bill.total, self.strong)
        if chart_rows is not None:
            chart = self.book.add_chart({"type": "bar"})
            name = sheet.get_name()
            chart.add_series(
                {
                    "categories": [name, chart_rows[0], 0, chart_rows[1], 0],
                    "values": [name, chart_rows[0], 4, chart_rows[1], 4],
                    "fill": {"color": SERIES[3]},
                    "gap": 60,
                }
            )
            chart.set_title({"name": say("energy_cost"), "name_font": {"size": 11}})
            chart.set_legend({"none": True})
            chart.set_y_axis({"reverse": True})
            chart.set_x_axis({"num_format": "#,##0", "major_gridlines": {"visible": False}})
            chart.set_size({"width": 480, "height": 220})
            sheet.insert_chart(first, 7, chart, {"description": say("alt_shares")})
        return row + 2

    def _line(self, sheet: Any, row: int, line: CostLine, begin: int) -> None:
        label = self.voice.line(line)
        if line.base is not None:
            label += f" ({self.say('of_base', base=self.voice.amount(line.base))})"
        sheet.write_string(row, 0, label)
        kind = "kwh" if line.unit == "kWh" else "number"
        self.cell(sheet, row, 1, kind, line.quantity, self.plain)
        sheet.write_string(row, 2, f" {self.voice.unit(line)}" if line.quantity is not None else "")
        self.cell(sheet, row, 3, "price", line.price, self.plain)
        digits = self.facts.cost.digits if self.facts.cost else 2

        def rounded(value: Decimal) -> bool:
            return value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) == line.amount

        if self.voice.parts(line) and rounded(sum((one.amount for one in line.parts), Decimal(0))):
            formula = f"=ROUND(SUM({xl_range_abs(begin, 4, row - 1, 4)}),{digits})"
        elif line.quantity is not None and line.price is not None and rounded(line.quantity * line.price):
            formula = f"=ROUND({xl_rowcol_to_cell(row, 1)}*{xl_rowcol_to_cell(row, 3)},{digits})"
        else:
            self.cell(sheet, row, 5, "money", line.amount, self.plain)
            return
        sheet.write_formula(row, 5, formula, self.plain["money"], float(line.amount))

    def _product(self, sheet: Any, row: int, place: int, exact: bool, amount: Decimal) -> None:
        if exact:
            formula = f"={xl_rowcol_to_cell(row, 1)}*{xl_rowcol_to_cell(row, 3)}"
            sheet.write_formula(row, place, formula, self.plain["money"], float(amount))
        else:
            self.cell(sheet, row, place, "money", amount, self.plain)

    def _alarms(self) -> None:
        voice, say = self.voice, self.say
        known = {one.id: one for one in self.facts.alarms}

        def cause(one: Any) -> str | None:
            found = known.get(one.cause)
            return None if found is None else f"{voice.alarm(found)}, {voice.subject(found)}"

        columns = [
            Column(say("severity"), "text", lambda one: say(f"severity_{one.severity}"), 12),
            Column(say("alarm"), "text", voice.alarm, 30),
            Column(say("where"), "text", voice.subject, 28),
            Column(say("since"), "at", lambda one: one.since),
            Column(say("until"), "at", lambda one: one.until),
            Column(say("lasted"), "text", voice.lasted, 14),
            Column(say("state"), "text", lambda one: say(f"state_{one.state}"), 24),
            Column(say("value"), "number", lambda one: one.value),
            Column(say("limit"), "number", lambda one: one.limit),
            Column(say("extreme"), "number", lambda one: one.extreme),
            Column(say("unit"), "text", lambda one: one.unit, 8),
            Column(say("because"), "text", cause, 30),
        ]
        sheet = self.sheet("alarms")
        self.table(sheet, 0, columns, self.facts.alarms, filtered=True)
        sheet.freeze_panes(1, 0)

    def _quality(self) -> None:
        say = self.say
        rows: list[PointFacts] = sorted(self.facts.points, key=lambda one: (one.completeness, -one.estimated_share))
        columns = [
            Column(say("point"), "text", lambda one: one.name, 32),
            Column(say("area"), "text", lambda one: one.area),
            Column(say("line"), "text", lambda one: one.line),
            Column(say("measured"), "percent", lambda one: one.completeness),
            Column(say("estimated"), "percent", lambda one: one.estimated_share),
        ]
        if any(one.since for one in rows):
            columns.append(Column(say("known_since"), "at", lambda one: one.since))
        sheet = self.sheet("quality")
        end = self.table(sheet, 0, columns, rows, filtered=True)
        sheet.freeze_panes(1, 1)
        if rows:
            bars = {"type": "data_bar", "bar_color": "#BBD3E4", "bar_solid": True}
            bars |= {"min_type": "num", "min_value": 0, "max_type": "num", "max_value": 1}
            sheet.conditional_format(1, 3, end - 1, 3, bars)

    def _energies(self) -> list[Column]:
        return [
            Column("kWh", "kwh", lambda one: one.kwh),
            *(Column(f"{name} kWh", "kwh", _of_period(key)) for key, name in self._periods),
        ]

    def _use_chart(self, sheet: Any, place: int, count: int, title: str) -> Any:
        """Stacked columns of energy by tariff period."""
        chart = self.book.add_chart({"type": "column", "subtype": "stacked"})
        name = sheet.get_name()
        each = (
            [(place + 1 + number, colour) for number, colour in enumerate(colours(len(self._periods)))]
            if self._periods
            else [(place, 3)]
        )
        # The first of stacked columns is the lowest: the cheapest.
        for column, colour in reversed(each or [(place, 3)]):
            chart.add_series(
                {
                    "name": [name, 0, column],
                    "categories": [name, 1, 0, max(1, count), 0],
                    "values": [name, 1, column, max(1, count), column],
                    "fill": {"color": SERIES[colour]},
                    "gap": 40,
                }
            )
        chart.set_title({"name": title, "name_font": {"size": 11}})
        chart.set_y_axis({"num_format": "#,##0", "major_gridlines": {"visible": True, "line": {"color": "#DFE3E8"}}})
        chart.set_x_axis({"num_format": "d" if self.facts.kind == "monthly" else "hh", "text_axis": True})
        chart.set_legend({"position": "bottom"} if self._periods else {"none": True})
        chart.set_size({"width": 760, "height": 300})
        return chart


def _of_period(key: str) -> Callable[[Any], Any]:
    return lambda one: one.by_period.get(key)


def _number(value: Any) -> float:
    return 0.0 if value is None else float(value)
