"""Meters and gateways that answer each question with the reply to the one before never give a wrong value."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from bench.simulated import VirtualSite, run_simulated
from meter_batch_engine.fleet import Poller, PollMeter, PollReport, PollSettings
from meter_batch_engine.fleet.instep import InStep
from meter_batch_engine.fleet.once import read_once
from meter_batch_engine.model.quantity import BY_KEY, QUANTITIES
from meter_batch_engine.recording import RecordedMeter, readings_of, record
from meter_batch_engine.template import ModbusRequest, load

START = datetime(2026, 11, 25, 9, 0, 20, tzinfo=UTC)
VOLTS, ENERGY = BY_KEY["voltage_l1"].obis, BY_KEY["energy_import"].obis


def request(address: int, count: int = 2) -> ModbusRequest:
    return ModbusRequest(4, address, count, ())


def test_before_the_first_pair_that_cannot_be_told_apart_a_short_question_goes_between() -> None:
    step = InStep()
    assert step.proof(request(0)) is None
    step.answered(request(0))
    assert step.proof(request(0)) is None, "the same question again has the same answer"
    proof = step.proof(request(72))
    assert proof is not None
    assert proof.count != 2
    step.asked(proof)
    step.answered(request(72))
    assert step.proof(request(0)) is None, "once is enough"


def test_a_reply_of_another_form_proves_that_the_meter_is_in_step_until_a_question_is_missed() -> None:
    step = InStep()
    step.answered(request(0))
    step.answered(request(10, 4))
    step.answered(request(0))
    assert step.proof(request(72)) is None
    step.failed(request(72))
    assert step.proof(request(0)) is not None


@pytest.mark.parametrize("place", ["fault", "faults"])
@pytest.mark.parametrize("from_s", [0.1, 31.0])
def test_a_line_that_is_one_reply_behind_gives_no_value_of_another_register(place: str, from_s: float) -> None:
    fault = f'{place} = [{{ kind = "previous", from_s = {from_s} }}]\n'
    fleet = (
        '[[line]]\nname = "line"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "modbus-rtu"\nbaud = 9600\n'
        + fault * (place == "fault")
        + "".join(
            f'[[line.meter]]\naddress = {unit}\ntemplate = "eastron/sdm630"\nripple = 0\n{fault * (place == "faults")}'
            for unit in (1, 2)
        )
    )

    async def main(loop: Any) -> list[PollReport]:
        site = VirtualSite(loop, fleet, START)
        reports: list[PollReport] = []
        settings = PollSettings(fast_s=5, slow_s=5, budget=0)
        poller = Poller(site.lines["line"], settings, reports.append, now=site.clock.now, monotonic=loop.time)
        poller.set_meters(
            PollMeter(one.address, one.address, one.template, one.address, "modbus", frozenset((VOLTS, ENERGY)))
            for one in site.meters["line"].values()
        )
        task = asyncio.create_task(poller.run())
        await asyncio.sleep(180)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        truth = {one.address: one.truth(site.clock.now()) for one in site.meters["line"].values()}
        late = [report for report in reports if (report.at - START).total_seconds() > 60]
        assert any(ENERGY in {one.obis for one in report.readings.get("1", ())} for report in late), "it is read still"
        for report in reports:
            for key, readings in report.readings.items():
                for one in readings:
                    if one.good:
                        right = float(truth[key][one.obis])
                        assert float(one.value) == pytest.approx(right, rel=0.05, abs=2), (report.at, key, one)
        return reports

    run_simulated(main)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("model", ["schneider/pm5xxx", "eastron/sdm630", "carlo-gavazzi/em340", "chint/dtsu666"])
def test_a_single_reading_over_a_line_that_falls_behind_takes_no_value_of_another_register(
    model: str, every: int
) -> None:
    template = load(model)
    fleet = (
        '[[line]]\nname = "line"\nlisten = "tcp://127.0.0.1:0"\nprotocol = "modbus-rtu"\nbaud = 9600\n'
        f'[[line.meter]]\naddress = 41\ntemplate = "{model}"\nload = "constant"\nripple = 0\n'
        f'faults = [{{ kind = "previous", every = {every} }}]\n'
    )

    async def main(loop: Any) -> None:
        site = VirtualSite(loop, fleet, START)
        line = site.lines["line"]
        await line.open()
        (meter,) = site.meters["line"].values()
        poll, step = PollMeter("41", "41", template, "41", "modbus"), InStep(always=True)
        passed = []
        for _ in range(2):
            found = await read_once(line, poll, retries=2, who=True, step=step)
            passed += line.trace
            line.forget_trace()
            truth = meter.truth(site.clock.now())
            assert {one.obis for one in found.found} | set(found.absent) == {one.obis for one in template.registers}
            for one in found.found:
                assert float(one.value) == pytest.approx(float(truth[one.obis]), rel=0.05, abs=0.5), one
        recording = record(line.name, line.settings, [RecordedMeter("41", "modbus", model)], passed)
        right = {QUANTITIES[obis].key: float(value) for obis, value in truth.items() if obis in QUANTITIES}
        recorded = [one for read in readings_of(recording, load) for one in (read or {}).items() if one[0] in right]
        assert recorded
        for key, text in recorded:
            assert float(text) == pytest.approx(right[key], rel=0.05, abs=0.5), key
        await line.close()

    run_simulated(main)


def test_where_lag_may_come_and_go_no_two_replies_of_one_form_follow_one_another() -> None:
    step = InStep(always=True)
    long = request(200, 8)
    assert step.proof(request(0), (request(72), long)) == long, "it is known to be answered"
    step.asked(long)
    step.answered(request(0))
    assert step.proof(request(72), (request(0), long)) == long, "nothing is proven for good"
    assert step.proof(request(0)) is None
    assert step.proof(request(72, 4)) is None
