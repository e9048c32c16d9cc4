"""A scan finds all meters of a line and nobody else, says who they are, and is honest about what it cannot tell.

The meters are virtual ones on their real wire, where replies that meet damage each other; only the clock is simulated.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.half_duplex import HalfDuplexSite
from bench.scan import meter_rows
from bench.simulated import run_simulated
from meter_batch_engine import ScannedMeter, ScanPlan, ScanProgress, ScanResult, available, load, scan
from meter_batch_engine.errors import ConfigError, LineLost, LineUnavailable
from meter_batch_engine.line import Line, LineSettings
from meter_batch_engine.protocol.modbus.pdu import exception_reply
from meter_batch_engine.protocol.modbus.server import ModbusException, ModbusResponder
from meter_batch_engine.protocol.modbus.tcp import TcpFramer
from meter_batch_engine.protocol.modbus.tcp import encode as encode_tcp

MODBUS = LineSettings(baud=9600)
DLT645 = LineSettings(baud=2400, parity="E")
THREE_PHASES, OLD = "generic/dlt645-3ph", "generic/dlt645-1997-3ph"
MODELS = [one for one in available() if load(one).protocol == "modbus"]

type Meters = Iterable[tuple[str, str, float]]


@dataclass
class Scanned:
    """A scan and what it told on its way."""

    result: ScanResult | None = None
    told: list[ScannedMeter] = field(default_factory=list)
    progress: list[ScanProgress] = field(default_factory=list)
    site: Any = None

    @property
    def addresses(self) -> list[str]:
        assert self.result is not None
        return [one.address for one in self.result.meters]

    def of(self, address: str) -> ScannedMeter:
        assert self.result is not None
        [found] = [one for one in self.result.meters if one.address == address]
        return found


def scanned(
    meters: Meters,
    plan: ScanPlan,
    *,
    protocol: str = "modbus-rtu",
    prepare: Callable[[HalfDuplexSite], Any] = lambda site: None,
    more: str = "",
    at: LineSettings | None = None,
) -> Scanned:
    text = meter_rows(list(meters), protocol, at or plan.settings[0], "tcp://127.0.0.1:1") + more
    said = Scanned()

    async def main(loop: Any) -> None:
        said.site = HalfDuplexSite(loop, text)
        prepare(said.site)
        said.result = await scan(said.site.line, plan, said.progress.append, said.told.append)

    run_simulated(main)
    return said


def modbus(last: int = 40, **changes: Any) -> ScanPlan:
    return ScanPlan(("modbus",), last=last, **({"settings": (MODBUS,), "identify": False} | changes))


def dlt645(*, identify: bool = False, protocols: tuple[str, ...] = ("dlt645-2007",)) -> ScanPlan:
    return ScanPlan(protocols, settings=(DLT645,), identify=identify)


def sdm(*units: int, turnround_ms: float = 40.0) -> list[tuple[str, str, float]]:
    return [(str(unit), "eastron/sdm630", turnround_ms) for unit in units]


def meters_645(addresses: Iterable[str], model: str = THREE_PHASES) -> list[tuple[str, str, float]]:
    return [(address, model, 40.0) for address in addresses]


# --- Modbus on a wire


def test_32_meters_among_247_addresses_are_found_within_a_minute_and_nobody_else() -> None:
    units = [number * 7 + 3 for number in range(32)]
    meters = [(str(unit), MODELS[unit % len(MODELS)], 20.0 + unit % 60) for unit in units]
    said = scanned(meters, modbus(247))
    assert said.result is not None
    assert said.addresses == [str(unit) for unit in units]
    assert said.result.took_s["search"] <= 60
    assert said.result.complete
    assert said.result.heard_noise is None
    assert not any(one.clash or one.garbled for one in said.result.meters)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.integers(1, 40), st.floats(5, 500), min_size=1, max_size=20))
def test_whoever_answers_however_late_is_found_and_put_down_to_nobody_else(present: dict[int, float]) -> None:
    meters = [(str(unit), "eastron/sdm630", round(ms, 1)) for unit, ms in present.items()]
    said = scanned(meters, modbus())
    assert said.addresses == [str(unit) for unit in sorted(present)]
    assert said.result is not None
    assert not any(one.clash or one.garbled for one in said.result.meters)


def test_a_unit_that_refuses_every_question_is_there() -> None:
    said = scanned([("5", "eastron/sdm120", 30.0)], modbus())
    assert said.addresses == ["5"]


def test_a_thorough_scan_finds_the_meter_whose_first_reply_was_lost() -> None:
    lost = 'faults = [{ kind = "silent", every = 2 }]\n'
    quick = scanned([*sdm(7), *sdm(3)], modbus(), more=lost)
    said = scanned([*sdm(7), *sdm(3)], modbus(thorough=True), more=lost)
    assert said.addresses == ["3", "7"]
    assert "3" not in quick.addresses or len(quick.addresses) == 2
    done = [one.done for one in said.progress]
    assert done == sorted(done)
    assert said.progress[-1].done == said.progress[-1].total


@pytest.mark.parametrize("other_ms", [40.0, 41.0, 45.0, 60.0, 200.0, 480.0])
def test_two_meters_with_one_unit_are_recognised_and_their_neighbours_left_in_peace(other_ms: float) -> None:
    """At once, a little apart, one after the other, and the second one long after the first."""
    meters = [*sdm(9), *sdm(9, turnround_ms=other_ms), *sdm(8, 10, 11)]
    said = scanned(meters, modbus(identify=True))
    assert said.addresses == ["8", "9", "10", "11"]
    assert said.of("9").clash or said.of("9").garbled
    assert said.of("9").clash == (str(said.of("9").problem).startswith("At least two"))
    assert "unit 9" in str(said.of("9").problem)
    assert [said.of(one).template_id for one in ("8", "10", "11")] == ["eastron/sdm630"] * 3


@pytest.mark.parametrize("kind", ["parity", "baud"])
def test_a_meter_whose_port_is_set_otherwise_is_garbled_and_not_called_a_clash(kind: str) -> None:
    rows = meter_rows([*sdm(7), *sdm(8), *sdm(3)], "modbus-rtu", MODBUS, "tcp://127.0.0.1:1")
    said = Scanned()

    async def main(loop: Any) -> None:
        said.site = HalfDuplexSite(loop, rows + f'faults = [{{ kind = "{kind}" }}]\n')
        said.result = await scan(said.site.line, modbus(12, identify=True), said.progress.append, said.told.append)

    run_simulated(main)
    assert said.of("3").garbled
    assert not said.of("3").clash
    assert said.of("3").as_dict()["garbled"] is True
    assert "baud rate and parity" in str(said.of("3").problem)
    assert not any(said.of(one).garbled or said.of(one).clash for one in ("7", "8"))


def test_a_line_on_which_nobody_answers_has_no_meters_and_no_noise() -> None:
    said = scanned(sdm(50), modbus())
    assert said.result is not None
    assert said.result.meters == ()
    assert said.result.heard_noise is None


def test_bytes_that_nobody_asked_for_are_told_in_words() -> None:
    said = scanned(sdm(3), modbus(), prepare=lambda site: site.babble(b"\x12\x34\x56", 0.3))
    assert said.result is not None
    assert "nobody was asked" in str(said.result.heard_noise)
    assert said.addresses == ["3"]


def test_a_line_that_is_never_silent_ends_the_search_and_says_why() -> None:
    said = scanned(sdm(3), modbus(), prepare=lambda site: site.babble(b"\x55", 0.001))
    assert said.result is not None
    assert not said.result.complete
    assert "never silent" in str(said.result.heard_noise)


def test_meters_at_another_setting_are_found_there_and_what_that_took_is_told_apart() -> None:
    other = LineSettings(baud=9600, parity="E")
    said = scanned(sdm(3, 4), modbus(settings=(MODBUS, other)), at=other)
    assert said.result is not None
    assert said.addresses == ["3", "4"]
    assert {one.settings for one in said.result.meters} == {other}
    assert said.result.took_s["search"] > 0
    assert said.result.took_s["settings"] > 0
    assert {one.phase for one in said.progress} == {"search", "settings"}


def test_a_meter_is_told_as_its_display_shows_it_and_as_plain_fields() -> None:
    meter = scanned(sdm(3), modbus(last=3, identify=True)).of("3")
    volts, energy = meter.glance
    assert volts.endswith(" V") and float(volts.split()[0]) == pytest.approx(230, rel=0.1)
    assert energy.endswith(" kWh")
    plain = json.loads(json.dumps(meter.as_dict()))
    assert (plain["address"], plain["template"], plain["known"]) == ("3", "eastron/sdm630", False)
    shown = {one["key"]: one["value"] for one in plain["readings"]}
    assert f"{float(shown['energy_import']):,.0f} kWh" == energy
    assert ScannedMeter("modbus", "9", MODBUS).glance == ()


def test_progress_counts_up_and_the_time_that_is_left_goes_to_nothing() -> None:
    said = scanned(sdm(3, 7), modbus(identify=True))
    search = [one for one in said.progress if one.phase == "search"]
    assert [one.done for one in search] == sorted(one.done for one in search)
    assert search[0].remaining_s == pytest.approx(40 * 0.22, rel=0.3)
    assert said.progress[-1].remaining_s == 0
    assert said.progress[-1].found == 2
    assert said.progress[-1].phase == "identify"


def test_a_scan_that_is_cancelled_has_told_what_it_found_until_then_and_leaves_the_line_closed() -> None:
    said = Scanned()

    async def main(loop: Any) -> None:
        site = HalfDuplexSite(loop, meter_rows(sdm(1, 2, 200), "modbus-rtu", MODBUS, "tcp://127.0.0.1:1"))
        task = asyncio.create_task(scan(site.line, modbus(247), found=said.told.append))
        await asyncio.sleep(3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert site.on_bytes is None

    run_simulated(main)
    assert [one.address for one in said.told] == ["1", "2"]


def test_meters_that_are_read_already_are_told_as_known_and_not_asked_who_they_are() -> None:
    said = scanned(sdm(3, 7), modbus(identify=True, known=frozenset({("modbus", "3")})))
    assert said.of("3").known
    assert said.of("3").models == ()
    assert not said.of("7").known
    assert said.of("7").template_id == "eastron/sdm630"


def test_a_line_that_cannot_be_opened_is_an_error_and_a_further_setting_that_cannot_is_none() -> None:
    class Unfit(HalfDuplexSite):
        def line(self, how: LineSettings) -> Line:
            if how.baud == unfit:
                raise LineUnavailable("the port cannot do this")
            return super().line(how)

    async def main(loop: Any) -> ScanResult:
        site = Unfit(loop, meter_rows(sdm(3), "modbus-rtu", MODBUS, "tcp://127.0.0.1:1"))
        return await scan(site.line, modbus(settings=(MODBUS, LineSettings(baud=4800))))

    unfit = 4800
    result = run_simulated(main)
    assert [one.address for one in result.meters] == ["3"]
    assert not result.complete
    unfit = 9600
    with pytest.raises(LineUnavailable):
        run_simulated(main)


def test_a_connection_that_breaks_ends_the_scan_with_an_error() -> None:
    told: list[ScannedMeter] = []

    async def main(loop: Any) -> None:
        site = HalfDuplexSite(loop, meter_rows(sdm(1, 200), "modbus-rtu", MODBUS, "tcp://127.0.0.1:1"))
        lines = []

        def line(how: LineSettings) -> Line:
            lines.append(site.line(how))
            return lines[-1]

        task = asyncio.create_task(scan(line, modbus(247), found=told.append))
        await asyncio.sleep(3)
        lines[0]._on_lost(LineLost("unplugged"))
        await task

    with pytest.raises((LineLost, LineUnavailable)):
        run_simulated(main)
    assert [one.address for one in told] == ["1"]


@pytest.mark.parametrize(
    "wrong", [{"protocols": ("m-bus",)}, {"protocols": ()}, {"first": 0}, {"last": 248}, {"first": 9, "last": 8}]
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ScanPlan(**wrong)


# --- which model


@pytest.mark.parametrize("model", available())
def test_the_right_model_is_first_or_tied_with_the_first(model: str) -> None:
    template = load(model)
    if template.protocol == "modbus":
        said = scanned([("7", model, 40.0)], modbus(8, identify=True))
    else:
        said = scanned(
            meters_645(["000012345678"], model),
            dlt645(identify=True, protocols=(template.protocol,)),
            protocol=template.protocol,
        )
    assert said.result is not None
    [meter] = said.result.meters
    assert model in (meter.template_id, *meter.ties)
    assert meter.models[0].score > 0.9
    assert meter.models[0].reasons
    assert meter.readings


def test_models_that_share_a_map_are_told_side_by_side() -> None:
    said = scanned([("7", "eastron/sdm230", 40.0)], modbus(8, identify=True))
    assert said.of("7").template_id is None
    assert {"eastron/sdm120", "eastron/sdm230"} <= set(said.of("7").ties)


def test_a_meter_of_no_known_model_is_found_and_no_model_is_made_up(wire: Any) -> None:
    class Stranger:
        def read(self, function: int, address: int, count: int) -> list[int]:
            return [0xFFF0 + address % 7 for address in range(address, address + count)]

    async def main(loop: Any) -> ScanResult:
        responder = ModbusResponder({4: Stranger()}, "rtu")
        made = wire(lambda request: [(0.03, one.raw) for one in responder.feed(request)], packed=True)
        return await scan(lambda how: Line(made, how), modbus(8, identify=True))

    [meter] = run_simulated(main).meters
    assert meter.address == "4"
    assert meter.template_id is None
    assert meter.ties == ()
    assert "none of the models" in str(meter.problem)


@pytest.mark.parametrize(("fault", "words"), [("word_order", "words in the other order"), ("scale", "would be right")])
def test_nonsense_that_would_be_right_in_another_word_order_or_scale_is_named_so(fault: str, words: str) -> None:
    said = scanned(sdm(3), modbus(8, identify=True), more=f'faults = [{{ kind = "{fault}" }}]\n')
    assert said.of("3").template_id is None
    assert words in str(said.of("3").problem)


def test_a_meter_that_thinks_longer_than_any_should_is_found_and_identified() -> None:
    said = scanned(sdm(3), modbus(20, identify=True), more='faults = [{ kind = "slow", late_s = 0.8 }]\n')
    assert said.of("3").template_id == "eastron/sdm630"


def test_noise_around_every_reply_of_a_meter_is_no_clash() -> None:
    meters = [*sdm(7), *sdm(3)]
    said = scanned(meters, modbus(10, identify=True), more='faults = [{ kind = "noise" }]\n')
    assert said.addresses == ["3", "7"]
    assert not any(one.clash or one.garbled for one in said.result.meters)  # type: ignore[union-attr]


# --- Modbus TCP


class Registers:
    def read(self, function: int, address: int, count: int) -> list[int]:
        if address > 1000:
            raise ModbusException(2)
        return [1] * count


def network(
    wire: Any, units: Iterable[int], *, absent: bytes | None, absent_s: float, any_unit: bool = False
) -> tuple[list[str], ScanResult]:
    """Scans a network device; what it says of absent units (a PDU, None for nothing) after how long."""
    there = set(units)

    async def main(loop: Any) -> ScanResult:
        framer = TcpFramer("server")

        def answers(request: bytes) -> Iterable[tuple[float, bytes]]:
            for frame in framer.feed(request):
                known = frame.unit in there or any_unit
                responder = ModbusResponder({frame.unit: Registers()}, "tcp")
                if known:
                    yield 0.02, responder.feed(frame.raw)[0].raw
                elif absent is not None:
                    yield absent_s, encode_tcp(frame.transaction, frame.unit, absent)

        made = wire(answers, free=True)
        return await scan(
            lambda how: Line(made, how), modbus(20, settings=(LineSettings(framing="tcp"),), identify=False)
        )

    result = run_simulated(main)
    return [one.address for one in result.meters], result


@pytest.mark.parametrize("code", [10, 11])
def test_a_gateway_that_reports_nobody_is_waited_for_as_long_as_it_waits_itself(wire: Any, code: int) -> None:
    found, result = network(wire, [2, 19], absent=exception_reply(3, code), absent_s=1.2)
    assert found == ["2", "19"]
    assert result.took_s["search"] == pytest.approx((18 + 3) * 1.2, rel=0.1)


def test_a_gateway_that_says_nothing_of_absent_meters_is_not_waited_for_long(wire: Any) -> None:
    found, result = network(wire, [2, 19], absent=None, absent_s=0)
    assert found == ["2", "19"]
    assert result.took_s["search"] < 30


def test_a_device_that_takes_any_unit_for_its_own_is_one_meter(wire: Any) -> None:
    plan = ScanPlan(("modbus",), settings=(LineSettings(framing="tcp"),), identify=False)

    async def main(loop: Any) -> ScanResult:
        def answers(request: bytes) -> Iterable[tuple[float, bytes]]:
            responder = ModbusResponder({request[6]: Registers()}, "tcp")
            return [(0.01, one.raw) for one in responder.feed(request)]

        return await scan(lambda how: Line(wire(answers, free=True), how), plan)

    [meter] = run_simulated(main).meters
    assert meter.address == "1"
    assert "one meter" in str(meter.problem)


def test_failures_that_a_gateway_reports_for_every_absent_unit_are_no_meters(wire: Any) -> None:
    plan = ScanPlan(("modbus",), settings=(LineSettings(framing="tcp"),), identify=False)

    async def main(loop: Any) -> ScanResult:
        def answers(request: bytes) -> Iterable[tuple[float, bytes]]:
            if request[6] == 7:
                return [(0.02, one.raw) for one in ModbusResponder({7: Registers()}, "tcp").feed(request)]
            return [(0.05, encode_tcp(request[0] << 8 | request[1], request[6], exception_reply(3, 4)))]

        return await scan(lambda how: Line(wire(answers, free=True), how), plan)

    assert [one.address for one in run_simulated(main).meters] == ["7"]


def test_a_device_that_answers_for_itself_alone_is_found_under_its_own_number(wire: Any) -> None:
    found, result = network(wire, [255], absent=None, absent_s=0)
    assert found == ["255"]
    assert "255" in str(result.meters[0].problem)


# --- DL/T 645


def test_a_search_for_addresses_is_not_done_before_it_began() -> None:
    said = scanned(meters_645(["000012345678", "000087654321"]), dlt645(), protocol="dlt645-2007")
    shares = [one.done / one.total for one in said.progress]
    assert max(shares[:20]) < 0.3
    assert shares[-1] == 1 and said.progress[-1].remaining_s == 0


def test_the_only_meter_of_a_line_takes_two_questions() -> None:
    """Who is there, and whether that one is alone."""
    said = scanned(meters_645(["000012345678"]), dlt645(), protocol="dlt645-2007")
    assert said.addresses == ["000012345678"]
    assert said.result is not None
    assert said.result.questions == 2


def test_a_hundred_meters_of_one_batch_take_one_question_each() -> None:
    addresses = [f"{202311004200 + number:012d}" for number in range(100)]
    said = scanned(meters_645(addresses), dlt645(), protocol="dlt645-2007")
    assert said.addresses == addresses
    assert said.result is not None
    assert said.result.questions <= 105


def doubled(digits: str) -> str:
    return "".join(digit * 2 for digit in digits)


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(
        st.text("0189", min_size=6, max_size=6).map(doubled),
        st.sampled_from([40.0, 41.5, 120.0, 333.0, 500.0]),
        min_size=1,
        max_size=9,
    )
)
def test_meters_whose_numbers_are_alike_are_all_told_apart(addresses: dict[str, float]) -> None:
    meters = [(address, THREE_PHASES, turnround_ms) for address, turnround_ms in addresses.items()]
    said = scanned(meters, dlt645(), protocol="dlt645-2007")
    assert said.addresses == sorted(addresses)
    assert said.result is not None
    assert not any(one.clash or one.garbled for one in said.result.meters)
    assert said.result.heard_noise is None


@pytest.mark.parametrize("other", ["000000008888", "990088881199"])
def test_a_meter_whose_reply_covers_the_others_without_a_trace_does_not_hide_it(other: str) -> None:
    addresses = [{"000000008888": "000000000000", "990088881199": "000000881199"}[other], other]
    said = scanned(meters_645(addresses), dlt645(), protocol="dlt645-2007")
    assert said.addresses == addresses


@pytest.mark.parametrize("other_ms", [40.0, 60.0, 150.0, 400.0])
def test_two_meters_with_one_number_are_a_clash_and_the_third_is_well(other_ms: float) -> None:
    meters = [*meters_645(["000012345678"]), ("000012345678", THREE_PHASES, other_ms), *meters_645(["000000000099"])]
    said = scanned(meters, dlt645(identify=True), protocol="dlt645-2007")
    assert said.addresses == ["000000000099", "000012345678"]
    assert said.of("000012345678").clash or said.of("000012345678").garbled
    assert "000012345678" in str(said.of("000012345678").problem)
    assert not said.of("000000000099").clash


def test_serial_number_and_phases_of_a_meter_are_told() -> None:
    said = scanned(meters_645(["000012345678"]), dlt645(identify=True), protocol="dlt645-2007")
    meter = said.of("000012345678")
    assert meter.template_id == THREE_PHASES
    assert meter.serial == "000012345678"


def test_meters_of_1997_that_know_no_question_for_their_address_are_found_by_reading() -> None:
    addresses = ["000000000075", "000000000161", "000000010075"]
    plan = dlt645(protocols=("dlt645-2007", "dlt645-1997"))
    said = scanned(meters_645(addresses, OLD), plan, protocol="dlt645-1997")
    assert said.addresses == addresses
    assert said.result is not None
    assert {one.protocol for one in said.result.meters} == {"dlt645-1997"}


def test_a_line_with_both_protocols_and_both_editions_is_found_whole() -> None:
    meters = [
        ("5", "eastron/sdm630", 40.0),
        ("6", "chint/dtsu666", 40.0),
        ('"000000000161"', THREE_PHASES, 40.0),
        ('"000000000075"', OLD, 40.0),
    ]
    line = LineSettings(baud=9600, parity="E")
    text = '[[line]]\nname = "l"\nlisten = "tcp://127.0.0.1:1"\nprotocol = "mixed"\nbaud = 9600\nparity = "E"\n'
    for address, model, _ in meters:
        text += f'[[line.meter]]\naddress = {address}\ntemplate = "{model}"\n'

    async def main(loop: Any) -> ScanResult:
        return await scan(HalfDuplexSite(loop, text).line, ScanPlan(last=20, settings=(line,)))

    result = run_simulated(main)
    assert [(one.protocol, one.address, one.template_id) for one in result.meters] == [
        ("modbus", "5", "eastron/sdm630"),
        ("modbus", "6", "chint/dtsu666"),
        ("dlt645-2007", "000000000161", THREE_PHASES),
        ("dlt645-1997", "000000000075", OLD),
    ]
