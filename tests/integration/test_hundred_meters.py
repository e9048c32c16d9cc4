"""A hundred meters from a spreadsheet to live values: every step of a newcomer, through the real flows, with its time.

The machine's seconds are measured; a person's are a model: see `TIME_S`.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field
from typing import Any

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
from openpyxl import Workbook, load_workbook
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import Point
from custom_components.meter_batch.registry import Registry
from custom_components.meter_batch.site import async_get_site

from .conftest import StartFleet, port_of, wait_for
from .test_options_flow import begin, go, href, upload

TIME_S = {
    "choose": 5.0,  # find a menu entry or a button, point, press, and the page comes: 1.35 + 1.1 + 0.3, and 2 s to look
    "field": 8.0,  # look at a label, point, type ten characters: 1.35 + 1.1 + 0.4 + 10 × 0.28, and 2 s to look
    "read": 20.0,  # a page of a flow or a sheet of hints: about 80 words at 4 a second
    "file": 25.0,  # open the dialogue for files, find the file, choose it
    "cure": 30.0,  # read a problem, find its row in the spreadsheet, type the right value, look again
    "save": 10.0,  # save in the spreadsheet
}
"""Seconds of somebody who does it for the first time, after the keystroke-level model (Card, Moran, Newell 1980: key
0.28 s, pointing 1.1 s, to the keyboard 0.4 s, mental preparation 1.35 s), with time to look and to read on top."""

LIMIT_S = 600
COUNT = 100
MODELS = ("eastron/sdm630", "abb/b23", "eastron/sdm120", "janitza/umg96rm")
CALLED = ("Eastron SDM630", "ABB B23", "SDM-120", "janitza/umg96rm")
"""As the owner of the list calls them; one has looked up an id."""
HEADER = ["Metering point", "Riser", "Meter address", "Model", "CT ratio", "Parent point", "Cabinet"]


@dataclass
class Newcomer:
    """Counts what a person does, and the machine's time while that person waits."""

    steps: list[str] = field(default_factory=list)
    machine_s: float = 0.0
    _begun: float = 0.0

    def does(self, *what: str) -> None:
        self.steps += what

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.machine_s += time.perf_counter() - self._begun

    @property
    def seconds(self) -> float:
        return sum(TIME_S[step] for step in self.steps) + self.machine_s


def fleet() -> str:
    meters = "[[line.meter]]\nname = '{line}.{number}'\naddress = {number}\ntemplate = '{model}'\n"
    lines = []
    for line, model in enumerate(MODELS, 1):
        lines.append(f"[[line]]\nname = 'Riser {line}'\nlisten = 'tcp://127.0.0.1:0'\nprotocol = 'modbus-tcp'\n")
        lines += [meters.format(line=line, number=number, model=model) for number in range(1, 26)]
    return "".join(lines)


def own_list() -> Workbook:
    """As somebody has it who keeps a list of meters in Excel: a title, headers and a column of their own, numbers."""
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(["Meters of house 7, as of June"])
    sheet.merge_cells("A1:G1")
    sheet.append([])
    sheet.append(HEADER)
    for line, model in enumerate(CALLED, 1):
        main = f"Riser {line} main"
        sheet.append([main, f"Riser {line}", 1, model, "400/5", None, f"K{line}"])
        for number in range(2, 26):
            sheet.append([f"Flat {line}.{number:02}", f"Riser {line}", number, model, None, main, f"K{line}"])
    return book


MISTAKES = {
    "C12": ("Meter address", 270, 9, "A Modbus unit is a whole number from 1 to 247."),
    "D40": ("Model", "ABB B32", "ABB B23", 'did you mean "abb/b23"?'),
    "F90": ("Parent point", "Riser 4 mian", "Riser 4 main", 'did you mean "Riser 4 main"?'),
}
"""Column, what was typed, what is right, and what the dry run has to say, by cell."""


async def add_line(hass: HomeAssistant, who: Newcomer, title: str, port: int) -> None:
    with who:
        result: Any = await hass.config_entries.flow.async_init(DOMAIN, context={"source": "user"})
    for answer, does in (
        ({"next_step_id": "tcp"}, ("choose", "choose")),  # Add, TCP
        # the port and the protocol stand there already as they usually are
        ({"name": title, "host": "127.0.0.1", "port": port, "protocol": "modbus-tcp"}, ("field", "field", "choose")),
        ({"test_address": "1"}, ("field", "choose")),
    ):
        with who:
            result = await hass.config_entries.flow.async_configure(result["flow_id"], answer)
        who.does(*does)
    assert result["type"] is FlowResultType.CREATE_ENTRY, result
    who.does("choose")  # finish


async def test_a_hundred_meters_are_live_within_ten_minutes_of_a_newcomer(
    hass: HomeAssistant, start_fleet: StartFleet, hass_client: ClientSessionGenerator
) -> None:
    running = await start_fleet(fleet())
    assert await async_setup_component(hass, DOMAIN, {})
    who = Newcomer()
    who.does("read")  # of the flow, once
    for line in range(4):
        await add_line(hass, who, f"Riser {line + 1}", port_of(running, line))
    await hass.async_block_till_done()
    entries = hass.config_entries.async_entries(DOMAIN)
    assert [entry.state for entry in entries] == [ConfigEntryState.LOADED] * 4

    # What the columns are called is looked up in the empty list; one is renamed in the own one.
    who.does("choose", "choose", "choose", "read", "choose", "choose", "read", "read")
    result = await begin(hass, entries[0], "import_points")
    http = await hass_client()
    with who:
        sample = await (await http.get(href(result["description_placeholders"]["sample"]))).read()
    known = [cell.value for cell in load_workbook(io.BytesIO(sample)).worksheets[0][1]]
    assert "line" in known and "Riser" not in known
    book = own_list()
    sheet = book.worksheets[0]
    sheet["B3"] = "line"
    who.does("field", "save")
    for cell, (_, wrong, _, _) in MISTAKES.items():
        sheet[cell] = wrong

    with who:
        result = await go(hass, result, {"file": await upload(hass_client, saved(book), "meters.xlsx")})
    who.does("file", "choose", "read")
    listed = result["description_placeholders"]["list"].splitlines()
    problems = [line for line in listed if line.startswith("- ✗")]
    assert len(problems) == 3, listed
    for line, (cell, (column, _, _, told)) in zip(problems, MISTAKES.items(), strict=True):
        assert f"**{cell[1:]} · {column}**" in line
        assert told in line
    site = await async_get_site(hass)
    assert site.registry.points == {}, "nothing is applied before"

    for cell, (_, _, right, _) in MISTAKES.items():
        sheet[cell] = right
        who.does("cure")
    who.does("save")
    with who:
        result = await go(hass, result, {"file": await upload(hass_client, saved(book), "meters.xlsx")})
    who.does("file", "choose", "read")
    about = result["description_placeholders"]
    assert (about["new"], about["bad"]) == ("100", "0"), about["list"]
    with who:
        result = await go(hass, result, {})
        assert result["type"] is FlowResultType.CREATE_ENTRY
        await hass.async_block_till_done()
        await wait_for(lambda: live(hass, site.registry) == COUNT, 60)
    who.does("choose", "read")

    print(f"{len(who.steps)} steps, machine {who.machine_s:.1f} s, in all {who.seconds:.0f} s")
    assert len(site.registry.points) == COUNT
    assert {point.attributes["Cabinet"] for point in site.registry.points.values()} == {"K1", "K2", "K3", "K4"}
    assert who.seconds < LIMIT_S, f"{len(who.steps)} steps, machine {who.machine_s:.1f} s, in all {who.seconds:.0f} s"


def saved(book: Workbook) -> bytes:
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def live(hass: HomeAssistant, registry: Registry) -> int:
    """How many points show a number as their energy."""
    entities = er.async_get(hass)

    def shows(point: Point) -> bool:
        entity = entities.async_get_entity_id("sensor", DOMAIN, f"{point.id}_energy_import")
        state = hass.states.get(entity) if entity else None
        return state is not None and state.state not in ("unknown", "unavailable")

    return sum(shows(point) for point in registry.points.values())
