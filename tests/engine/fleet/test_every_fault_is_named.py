"""Every fault of the virtual fleet, switched on one by one, is named rightly; and nobody else is accused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bench.simulated import VirtualSite, run_simulated
from meter_batch_engine import Examined, examine
from meter_batch_engine.fleet import Poller, PollMeter, PollReport, PollSettings
from meter_batch_engine.fleet.diagnose import Diagnosis
from meter_batch_engine.model.quantity import BY_KEY
from meter_batch_virtual.fault import KINDS, ON_LINE_ONLY

START = datetime(2026, 11, 25, 9, 0, 20, tzinfo=UTC)
FAULT_AT_S = 70
AT_ONCE = {"clock_jump"}
"""Clocks are read once a day: this one is wrong from the beginning."""
SECONDS = 260

CAUSES = {
    "silent": "meter_off",
    "noise": "noise",
    "flip": "noise",
    "half": "truncated",
    "late": "slow_meter",
    "slow": "slow_meter",
    "echo": "echo",
    "glitch": "glitch",
    "prefix": "dtu_prefix",
    "glued": "glued",
    "previous": "previous",
    "no_transaction": "gateway_transaction",
    "baud": "baud",
    "parity": "parity",
    "wiring": "wiring",
    "address": "meter_off",
    "refuses": "refuses",
    "access": "access_denied",
    "word_order": "word_order",
    "scale": "scale",
    "clock_jump": "clock",
    "reboot": "restarted",
    "swap": "swapped",
    "phase_lost": "phase_lost",
    "voltage": "voltage",
    "load": "load",
    "reversed": "reversed_ct",
    "stuck": "stuck",
    "cut": "line_cut",
}
"""The first cause that is named. Who falls silent in service is off: nobody can see that it has another address."""

EXTRA = {
    "noise": 'place = "instead"',
    "wiring": 'heard = "garbage"',
    "refuses": 'registers = ["frequency"]',
    "reboot": f"to_s = {SECONDS}",
}
MODELS = {"clock_jump": "generic/dlt645-3ph", "access": "generic/dlt645-3ph"}
WANTED = frozenset(
    BY_KEY[key].obis
    for key in (
        *(f"{what}_l{phase}" for what in ("voltage", "current", "active_power") for phase in (1, 2, 3)),
        *("active_power", "frequency", "energy_import", "energy_export"),
    )
)


def fleet(kind: str, extra: str, *, model: str | None = None, protocol: str | None = None, baud: int = 9600) -> str:
    """Three meters on one line, the second or the line with the fault."""
    model = model or MODELS.get(kind, "eastron/sdm630")
    dlt645 = "dlt645" in model
    protocol = protocol or ("modbus-tcp" if kind == "no_transaction" else "dlt645-2007" if dlt645 else "modbus-rtu")
    from_s = 0.1 if kind in AT_ONCE else FAULT_AT_S
    fault = f'faults = [{{ kind = "{kind}", from_s = {from_s}{", " + extra if extra else ""} }}]'
    on_line = kind in ON_LINE_ONLY
    meters = "".join(
        f'[[line.meter]]\naddress = {f'"{place:012d}"' if dlt645 else place}\ntemplate = "{model}"\nload = "office"\n'
        f"ripple = 0\n{fault if place == 2 and not on_line else ''}\n"
        for place in (1, 2, 3)
    )
    return (
        f'[[line]]\nname = "line"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "{protocol}"\nbaud = {baud}\n'
        f"{'parity = "E"' if dlt645 else ''}\n{fault.replace('faults', 'fault') if on_line else ''}\n{meters}"
    )


def diagnosed(kind: str, extra: str) -> dict[str, tuple[Diagnosis, ...]]:
    """What is said of each meter in the end."""

    async def main(loop: Any) -> dict[str, tuple[Diagnosis, ...]]:
        site = VirtualSite(loop, fleet(kind, extra), START)
        reports: list[PollReport] = []
        line = site.lines["line"]
        poller = Poller(
            line,
            PollSettings(fast_s=5, slow_s=20, time_zone="Asia/Shanghai"),
            reports.append,
            now=site.clock.now,
            monotonic=loop.time,
        )
        poller.set_meters(
            PollMeter(
                meter.address, meter.address, meter.template, meter.config.address, meter.template.protocol, WANTED
            )
            for meter in site.meters["line"].values()
        )
        task = asyncio.create_task(poller.run())
        await asyncio.sleep(FAULT_AT_S)
        accused = {key: one for report in reports for key, one in report.diagnoses.items() if one}
        assert not accused or kind in AT_ONCE, "nobody is accused while all is well"
        if kind == "cut":
            site.cut("line")
        await asyncio.sleep(SECONDS - FAULT_AT_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        said: dict[str, tuple[Diagnosis, ...]] = {}
        for report in reports:
            # What was named stays named here, although it may be over.
            said |= {key: one for key, one in report.diagnoses.items() if one}
        return said

    return run_simulated(main)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_named(kind: str) -> None:
    said = diagnosed(kind, EXTRA.get(kind, ""))
    keys = sorted(said)
    second = next((key for key in keys if key.endswith("2")), None)
    assert second is not None, "something is said of the meter"
    first = said[second][0]
    assert first.cause == CAUSES[kind], [(one.cause, one.likelihood) for one in said[second]]
    assert sum(one.likelihood for one in said[second]) <= 1
    assert first.text and first.cure
    if kind not in ON_LINE_ONLY | {"echo"}:
        assert not any(said[key] for key in keys if key != second), "the neighbours are well"


@pytest.mark.parametrize(
    ("kind", "extra", "cause"),
    [
        ("no_transaction", 'transaction = "counter"', "gateway_transaction"),
        ("glued", 'frame = "foreign"', "glued"),
        ("baud", "baud = 19200", "baud"),
        ("baud", "baud = 4800", "baud"),
        ("parity", 'parity = "O"', "parity"),
        ("noise", 'place = "before"', "noise"),
        ("flip", "bits = 3", "noise"),
        ("half", "keep = 3", "truncated"),
        ("half", "probability = 0.4", "truncated"),
        ("prefix", 'text = "866123456789012"', "dtu_prefix"),
        ("glitch", 'place = "inside"', "glitch"),
        ("refuses", "max_words = 10", "refuses"),
        ("late", "late_s = 4.0", "slow_meter"),
        ("silent", "probability = 0.35", "noise"),
        ("phase_lost", "phase = 3", "phase_lost"),
        ("scale", "factor = 100", "scale"),
    ],
)
def test_a_fault_in_another_form_is_named(kind: str, extra: str, cause: str) -> None:
    said = diagnosed(kind, extra)
    second = next((key for key in said if key.endswith("2")), None)
    assert second is not None, "something is said of the meter"
    assert said[second][0].cause == cause, [(one.cause, one.likelihood) for one in said[second]]


# --- to who has just come: `examine`, as `meter-batch diagnose` does it

OTHERWISE = {
    "address": "address",
    "wiring": "wiring",
    "load": None,
    "swap": "swapped",
    "clock_jump": "clock",
}
"""By trying more is found out than by polling alone; what load was usual nobody knows who has just come."""


def examined(
    kind: str,
    extra: str,
    *,
    only: str | None = None,
    zone_h: int = 8,
    site_of: dict[str, Any] | None = None,
    prepare: Callable[[VirtualSite], None] = lambda site: None,
    **options: Any,
) -> dict[str, Examined]:
    """What is found at a line on which the second meter, or the line, has had a fault from the beginning."""

    async def main(loop: Any) -> dict[str, Examined]:
        text = re.sub(r"from_s = [\d.]+", "from_s = 0.0", fleet(kind, extra, **(site_of or {})))
        site = VirtualSite(loop, text.replace('load = "office"', 'load = "office"\npeak_kw = 60'), START)
        if kind == "cut":
            site.cut("line")
        prepare(site)
        meters = list(site.meters["line"].values())
        serials = {one.config.address: one.config.serial for one in meters}
        found = await examine(
            lambda settings: site.line_at("line", settings),
            site.lines["line"].settings,
            [
                PollMeter(
                    one.config.address, one.config.address, one.template, one.config.address, one.template.protocol
                )
                for one in meters
                if only is None or one.config.address == only
            ],
            serials=serials,
            local_time=lambda: (site.clock.now() + timedelta(hours=zone_h)).replace(tzinfo=None),
            **options,
        )
        return {one.meter.key: one for one in found}

    return run_simulated(main)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_named_to_who_has_just_come(kind: str) -> None:
    found = examined(kind, {**EXTRA, "wiring": 'heard = "garbage"', "reboot": "to_s = 1000"}.get(kind, ""))
    second = next(one for key, one in found.items() if key.endswith("2"))
    named = second.diagnoses[0].cause if second.diagnoses else None
    expected = OTHERWISE.get(kind, CAUSES[kind])
    assert named == expected, [(one.cause, one.likelihood) for one in second.diagnoses]
    assert sum(one.likelihood for one in second.diagnoses) <= 1
    if kind not in ON_LINE_ONLY | {"echo"}:
        well = [one for key, one in found.items() if not key.endswith("2")]
        assert all(one.answers for one in well)
        assert not any(one.diagnoses for one in well), [one.diagnoses for one in well]


def test_another_speed_is_found_where_the_port_can_be_set_and_suspected_where_it_cannot() -> None:
    found = examined("baud", "")["2"].diagnoses[0]
    assert (found.cause, found.likelihood) == ("baud", 0.95)
    assert "2400" in found.text
    assert examined("baud", "", adjustable=False, search_s=0.0)["2"].diagnoses[0].cause == "baud"


def test_who_is_asked_for_alone_is_missed_in_a_row_of_neighbours() -> None:
    assert examined("silent", "", only="2")["2"].diagnoses[0].cause == "meter_off"


def test_who_answers_elsewhere_may_be_another_meter_unless_the_line_is_listed() -> None:
    off, moved, *_ = examined("address", "", only="2")["2"].diagnoses
    assert (off.cause, moved.cause) == ("meter_off", "address")
    assert off.likelihood >= moved.likelihood
    assert "102" in moved.text
    assert "3" not in moved.text
    listed = examined("address", "")["2"].diagnoses[0]
    assert (listed.cause, listed.likelihood) == ("address", 0.85)


def test_a_single_neighbour_that_answers_is_not_taken_for_the_meter() -> None:
    def alone(site: VirtualSite) -> None:
        meters = site.wires["line"].answers
        site.wires["line"].answers = lambda request: meters(request) if request[0] == 3 else []

    (off, *_) = examined("silent", "", only="2", prepare=alone)["2"].diagnoses
    assert (off.cause, "heard: 3" in off.text) == ("meter_off", True)


def test_a_meter_that_was_never_heard_is_off_before_it_has_another_address() -> None:
    found = examined("silent", "", search_s=0.0)
    causes = [one.cause for one in found["2"].diagnoses]
    assert causes[0] == "meter_off"
    assert "address" in causes
    assert not any("?" in one.text for one in found["2"].diagnoses)


def test_a_search_that_was_cut_short_says_so() -> None:
    cut = examined("silent", "", only="2", search_s=1.0)["2"].diagnoses[0]
    whole = examined("silent", "", only="2", search_s=600.0)["2"].diagnoses[0]
    assert "may be more" in cut.text
    assert "may be more" not in whole.text


def test_who_waits_is_told_what_is_done_and_how_long_is_left_at_most() -> None:
    told: list[Any] = []
    examined("silent", "", progress=told.append)
    keys = list(dict.fromkeys(one.key for one in told))
    assert keys == ["examine_reading", "examine_settings", "examine_addresses"]
    for key in keys:
        steps = [one for one in told if one.key == key]
        assert all(int(one.facts["done"]) <= int(one.facts["count"]) for one in steps)
        assert len({one.facts["done"] for one in steps}) > 1
    left = [int(one.facts["seconds"]) for one in told if one.key == "examine_reading"]
    assert left == sorted(left, reverse=True)


def test_a_clock_that_is_wrong_is_told_and_handled() -> None:
    found = examined("clock_jump", "")
    (clock,) = next(one for key, one in found.items() if key.endswith("2")).diagnoses
    assert (clock.cause, clock.handled) == ("clock", True)


def gateway(site: VirtualSite) -> None:
    """Lets a Modbus TCP gateway stand before the line, which says late where nobody answers."""
    wire = site.wires["line"]
    meters = wire.answers

    def answers(request: bytes) -> Iterable[tuple[float, bytes]]:
        missed = request[:4] + b"\0\3" + request[6:7] + bytes((request[7] | 0x80, 0x0B))
        return list(meters(request)) or [(1.0, missed)]

    wire.answers = answers


@pytest.mark.parametrize("only", [None, "2"])
def test_who_is_missed_by_its_gateway_is_off_and_not_slow(only: str | None) -> None:
    found = examined(
        "silent", "", only=only, site_of={"protocol": "modbus-tcp"}, prepare=gateway, adjustable=False, network=True
    )["2"]
    assert not found.answers
    assert found.diagnoses[0].cause == "meter_off"
    assert "slow_meter" not in [one.cause for one in found.diagnoses]
    if only is None:
        assert "gateway says" in found.diagnoses[0].text


def test_a_gateway_that_says_late_whom_it_missed_is_no_fault_of_the_others() -> None:
    found = examined("silent", "", site_of={"protocol": "modbus-tcp"}, prepare=gateway, adjustable=False, network=True)
    assert found["1"].well
    assert found["3"].well


def test_what_is_unlikely_is_told_as_possible() -> None:
    found = examined("silent", "", search_s=0.0, adjustable=False)["2"].diagnoses
    unlikely = [one for one in found if one.likelihood < 0.2]
    assert unlikely
    assert all("may" in one.text or "Perhaps" in one.text or "perhaps" in one.text for one in unlikely)


@pytest.mark.parametrize(
    ("kind", "extra", "cause"),
    [
        ("phase_lost", "phase = 1", "phase_lost"),
        ("reversed", "", "reversed_ct"),
        ("flip", "every = 3", "noise"),
    ],
)
def test_a_slow_line_is_read_long_enough_to_judge_all_its_meters(kind: str, extra: str, cause: str) -> None:
    found = examined(kind, extra, site_of={"model": "generic/dlt645-3ph", "baud": 2400})
    *_, second, third = (found[key] for key in sorted(found))
    assert second.diagnoses[0].cause == cause
    assert third.well


def test_who_was_hardly_read_is_not_called_well() -> None:
    def one_register(site: VirtualSite) -> None:
        meters = site.wires["line"].answers
        asked: list[bytes] = []

        def answers(request: bytes) -> Iterable[tuple[float, bytes]]:
            asked.append(request)
            return meters(request) if request == asked[0] else []

        site.wires["line"].answers = answers

    found = examined("silent", "", only="1", prepare=one_register)["1"]
    assert found.answers
    assert not found.well


def test_who_asks_for_a_time_is_given_it() -> None:
    stuck = "stuck"
    light = {"model": "carlo-gavazzi/em24"}
    found = examined(stuck, "", site_of=light, watch_s=240.0, least_s=240.0)["2"]
    assert [one.cause for one in found.diagnoses] == [stuck]


TCP = {"protocol": "modbus-tcp"}
SLOW_DLT645 = {"model": "generic/dlt645-3ph", "baud": 2400}


@pytest.mark.parametrize(
    ("kind", "extra", "site_of", "cause"),
    [
        ("access", "", {"model": "schneider/pm5xxx"}, "access_denied"),
        ("half", "keep = 10", SLOW_DLT645, "truncated"),
        ("half", "every = 2", TCP, "truncated"),
        ("half", "every = 2", {"model": "schneider/pm5xxx"} | TCP, "truncated"),
        ("glued", "", TCP, "glued"),
        ("late", "", TCP, "slow_meter"),
    ],
)
def test_a_fault_is_named_on_other_lines_too(kind: str, extra: str, site_of: dict[str, Any], cause: str) -> None:
    found = examined(kind, extra, site_of=site_of)
    second = next(one for key, one in found.items() if key.endswith("2"))
    assert second.diagnoses[0].cause == cause, [(one.cause, one.likelihood) for one in second.diagnoses]


def test_clocks_that_all_differ_by_whole_hours_are_in_another_time_zone_and_that_is_told_last() -> None:
    found = examined("phase_lost", "", zone_h=3, site_of=SLOW_DLT645)
    first, second, third = (found[key] for key in sorted(found))
    assert [one.cause for one in second.diagnoses] == ["phase_lost", "clock"]
    for one in (first, second, third):
        assert "time zone" in one.diagnoses[-1].text
        assert one.diagnoses[-1].handled
    alone = next(one for key, one in examined("clock_jump", "").items() if key.endswith("2"))
    assert "time zone" not in alone.diagnoses[0].text
