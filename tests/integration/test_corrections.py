"""A person corrects an interval: it counts everywhere, says who and why, and can be taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from homeassistant.auth.models import User
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import LedgerError
from custom_components.meter_batch.engine.ledger import Boundary, Ledger
from custom_components.meter_batch.engine.model.interval import Quality
from custom_components.meter_batch.engine.model.point import Term
from custom_components.meter_batch.operation_log import OperationLog
from custom_components.meter_batch.site import Site, async_get_site
from custom_components.meter_batch.wording import async_message

from .conftest import make_point
from .test_history import stored

T0 = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
IMPORT, EXPORT = "1-0:1.8.0", "1-0:2.8.0"


@pytest.fixture
async def site(hass: HomeAssistant, add_line: Callable[..., MockConfigEntry], freezer: Any) -> Site:
    """A hall that took 1.25 kWh in each of eight quarters and gave back none; of the office two hours are one sum."""
    freezer.move_to(T0 - timedelta(hours=1))
    await hass.config.async_set_time_zone("Asia/Shanghai")
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    await site.registry.async_apply(
        {
            "p1": make_point("p1", "Hall", "1"),
            "p2": make_point("p2", "Office", "2"),
            "p3": make_point("p3", "New", "3"),
            "v1": make_point("v1", "Rest", meters=(), routes=(), formula=(Term(1, "p1"), Term(-1, "p2"))),
        },
        SYSTEM,
        "add",
    )
    records = [
        Boundary("p1", T0 + n * QUARTER, {IMPORT: 100 + Decimal("1.25") * n, EXPORT: Decimal("7.000")})
        for n in range(9)
    ]
    records += [Boundary("p2", T0 + n * QUARTER, {IMPORT: Decimal(n)}) for n in range(9)]
    await site.ledger.async_call(lambda ledger: ledger.take(records), {"p1", "p2"})
    return site


async def act(hass: HomeAssistant, name: str, user: User | None = None, **data: Any) -> dict[str, Any]:
    context = Context(user_id=user.id if user else None)
    answer = await hass.services.async_call(DOMAIN, name, data, True, context, return_response=True)
    assert answer is not None
    return dict(answer)


async def correct(hass: HomeAssistant, user: User | None = None, **data: Any) -> dict[str, Any]:
    given = {"point": "Hall", "start": "2026-07-01T18:15", "reason": "bypassed", **data}
    return await act(hass, "correct_interval", user, **{key: one for key, one in given.items() if one is not None})


def log(hass: HomeAssistant) -> list[dict[str, Any]]:
    path = Path(hass.config.path("meter_batch", "operations.jsonl"))
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [one for one in found if one["action"].startswith("correct")]


async def test_a_correction_says_what_was_and_what_is_and_who_did_it_and_why(
    hass: HomeAssistant, site: Site, hass_admin_user: User
) -> None:
    done = await correct(hass, hass_admin_user, energies={"energy_import": "12.50"})
    before = {
        "start": "2026-07-01T18:15:00+08:00",
        "end": "2026-07-01T18:30:00+08:00",
        "energies": {"energy_import": "1.25", "energy_export": "0.000"},
        "flags": ["measured"],
        "source": "poll",
        "revision": 1,
    }
    now = {
        **before,
        "energies": {"energy_import": "12.50", "energy_export": "0.000"},
        "flags": ["edited"],
        "source": "edit",
        "revision": 2,
    }
    assert done == {"id": "p1", "name": "Hall", "revision": 2, "before": before, "now": now}
    back = await correct(hass, hass_admin_user, take_back=True, reason=" it was not ")
    assert (back["revision"], back["before"], back["now"]) == (3, now, before)

    told = await act(hass, "get_revisions", hass_admin_user, point="p1", start="2026-07-01T10:15:00Z")
    assert told["start"] == "2026-07-01T18:15:00+08:00"
    assert [(one["author"], one["reason"], one["flags"], one["current"]) for one in told["revisions"]] == [
        ("meter_batch", "closed", ["measured"], True),
        (hass_admin_user.name, "bypassed", ["edited"], False),
        (hass_admin_user.name, "it was not", ["edited", "withdrawn"], False),
    ]
    assert told["revisions"][1]["energies"] == now["energies"]
    assert told["revisions"][1]["at"] == "2026-07-01T09:00:00+00:00"

    entries = [{key: one for key, one in entry.items() if key not in ("at", "user")} for entry in log(hass)]
    start = (T0 + QUARTER).isoformat()
    common = {"who": hass_admin_user.name, "action": "correct_interval", "point": "p1", "start": start}
    assert entries == [
        {**common, "reason": "bypassed", "before": before["energies"], "after": now["energies"]},
        {**common, "reason": "it was not", "before": now["energies"], "after": None},
    ]
    assert log(hass)[0]["user"] == hass_admin_user.id


@pytest.mark.usefixtures("recorder_mock")
async def test_the_hour_in_the_statistic_changes_and_comes_back(hass: HomeAssistant, site: Site) -> None:
    before = [(T0, 5), (T0 + timedelta(hours=1), 5)]
    assert await stored(hass) == before
    await correct(hass, energies={"energy_import": 12.5})
    assert await stored(hass) == [(T0, 16.25), (T0 + timedelta(hours=1), 5)]
    await correct(hass, take_back=True)
    assert await stored(hass) == before


async def test_subscribers_hear_of_it_and_history_and_virtual_points_follow(hass: HomeAssistant, site: Site) -> None:
    await site.ledger.async_call(lambda ledger: ledger.subscribe("archive", since_revision=ledger.revision))
    await correct(hass, energies={"energy_import": 12.5})
    found = await site.ledger.async_call(lambda ledger: ledger.changes("archive"))
    assert [(one.point, one.energies[IMPORT], one.flags) for one in found.intervals] == [
        ("p1", Decimal("12.5"), {Quality.EDITED})
    ]
    answer = await act(
        hass, "get_history", points=["Hall", "Rest"], since="2026-07-01T18:00", until="2026-07-01T19:00",
        resolution="hour",
    )  # fmt: skip
    assert {id_: one["rows"][0]["energy_import"] for id_, one in answer["points"].items()} == {"p1": 16.25, "v1": 12.25}
    assert answer["points"]["p1"]["rows"][0]["flags"] == ["edited", "measured"]
    verdict = await site.ledger.async_call(lambda ledger: ledger.verify())
    assert verdict.ok and verdict.edited == 1


async def test_corrections_of_registers_add_up_one_by_one_and_are_taken_back_together(
    hass: HomeAssistant, site: Site
) -> None:
    await correct(hass, energies={"energy_import": 3})
    now = (await correct(hass, energies={EXPORT: "0.5"}))["now"]
    assert now["energies"] == {"energy_import": "3", "energy_export": "0.5"}
    assert (await correct(hass, take_back=True))["now"]["energies"] == {
        "energy_import": "1.25",
        "energy_export": "0.000",
    }


@pytest.mark.parametrize(
    ("asked", "key", "said"),
    [
        ({"point": "Hull"}, "unknown_point", "Hull"),
        ({"point": "Rest"}, "virtual_no_intervals", "Hall, Office"),
        ({"point": "New"}, "no_interval", "18:15"),
        ({"start": "2026-07-02T18:15"}, "no_interval", "2026-07-02 18:15"),
        ({"start": "2026-07-01T18:20"}, "no_interval_but", "from 2026-07-01 18:15+08:00 to 2026-07-01 18:30+08:00"),
        ({"start": "yesterday"}, "bad_instant", "yesterday"),
        ({"energies": {"energy_imports": 1}}, "unknown_register", "energy_imports"),
        ({"energies": {"reactive_energy_import": 1}}, "register_not_there", "energy_import, energy_export"),
        ({"energies": {"active_power": 1}}, "no_energy", "active_power"),
        ({"energies": {"energy_import": -1}}, "bad_energy", "-1"),
        ({"energies": {"energy_import": "much"}}, "bad_energy", "kWh"),
        ({"energies": {"energy_import": "nan"}}, "bad_energy", "nan"),
        ({"energies": {"energy_import": "1e9999999"}}, "bad_energy", "1e9999999"),
        ({"energies": {"energy_import": "0.0000000001"}}, "bad_energy", "9 decimals"),
        ({"energies": {"energy_import": True}}, "bad_energy", "True"),
        ({"energies": None}, "energies_or_take_back", "take_back"),
        ({"energies": {}}, "energies_or_take_back", "take_back"),
        ({"take_back": True}, "energies_or_take_back", "take_back"),
        ({"energies": None, "take_back": True}, "not_corrected", "nothing to take back"),
        ({"reason": " "}, "reason_missing", "reason"),
    ],
)
async def test_what_cannot_be_is_refused_in_words_and_changes_nothing(
    hass: HomeAssistant, site: Site, asked: dict[str, Any], key: str, said: str
) -> None:
    with pytest.raises(ServiceValidationError) as refused:
        await correct(hass, **{"energies": {"energy_import": 2}, **asked})
    assert refused.value.translation_key == key
    assert said in await async_message(hass, key, **(refused.value.translation_placeholders or {}))
    assert await site.ledger.async_call(lambda ledger: ledger.revision) == 1
    assert log(hass) == []


async def test_revisions_are_asked_for_by_the_start_of_an_interval(hass: HomeAssistant, site: Site) -> None:
    for asked, key in (({"start": "2026-07-01T18:20"}, "no_interval_but"), ({"point": "Rest"}, "virtual_no_intervals")):
        with pytest.raises(ServiceValidationError) as refused:
            await act(hass, "get_revisions", **{"point": "Hall", "start": "2026-07-01T18:15", **asked})
        assert refused.value.translation_key == key


async def test_what_automations_correct_says_so(hass: HomeAssistant, site: Site) -> None:
    await correct(hass, energies={"energy_import": 2})
    told = await act(hass, "get_revisions", point="Hall", start="2026-07-01T18:15")
    assert told["revisions"][-1]["author"] == "system"


async def test_nothing_is_corrected_that_cannot_be_written_to_the_log(
    hass: HomeAssistant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OperationLog, "_append", full)
    with pytest.raises(ServiceValidationError, match="No space left"):
        await correct(hass, energies={"energy_import": 2})
    assert await site.ledger.async_call(lambda ledger: ledger.revision) == 1


async def test_an_interval_that_changes_while_it_is_corrected_is_left_alone(
    hass: HomeAssistant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meter's memory cuts it: a correction of all of it must not land on its first minutes."""
    write = OperationLog.async_write
    half = Boundary("p1", T0 + QUARTER + timedelta(minutes=5), {IMPORT: Decimal("101.5")}, source="memory")

    async def meanwhile(*given: Any, **more: Any) -> None:
        await write(*given, **more)
        await site.ledger.async_call(lambda ledger: ledger.take([half]), {"p1"})

    monkeypatch.setattr(OperationLog, "async_write", meanwhile)
    with pytest.raises(ServiceValidationError) as refused:
        await correct(hass, energies={"energy_import": 12.5})
    assert refused.value.translation_key == "changed_meanwhile"
    assert [entry["action"] for entry in log(hass)] == ["correct_interval", "correct_interval_failed"]
    done = await correct(hass, energies={"energy_import": 12.5})
    assert done["before"]["energies"]["energy_import"] == "0.25"


async def test_a_ledger_that_fails_is_said_in_words_and_stands_in_the_log(
    hass: HomeAssistant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> int:
        raise LedgerError("the disk is gone")

    monkeypatch.setattr(Ledger, "edit", broken)
    with pytest.raises(HomeAssistantError) as failed:
        await correct(hass, energies={"energy_import": 2})
    assert (failed.value.translation_key, failed.value.translation_placeholders) == (
        "ledger_failed",
        {"error": "the disk is gone"},
    )
    assert [entry["action"] for entry in log(hass)] == ["correct_interval", "correct_interval_failed"]
