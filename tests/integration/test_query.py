"""History answers what people ask, by name and at the time of the place, and says in words what it cannot answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.meter_batch import query
from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine.ledger import Boundary
from custom_components.meter_batch.site import Site, async_get_site

from .conftest import make_point

IMPORT, EXPORT = "1-0:1.8.0", "1-0:2.8.0"
QUARTER = timedelta(minutes=15)


def quarters(point: str, since: datetime, count: int, each: str = "0.25", skip: range = range(0)) -> list[Boundary]:
    """A load of `each` kWh in every quarter of an hour; some boundaries were not read."""
    return [
        Boundary(point, since + n * QUARTER, {IMPORT: Decimal(each) * n, EXPORT: Decimal(0)})
        for n in range(count + 1)
        if n not in skip
    ]


type GetSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def site(hass: HomeAssistant, add_line: Callable[..., Any]) -> Site:
    """Two lines, neither set up, and three points."""
    add_line("East", entry_id="l1", disabled=True)
    add_line("West", entry_id="l2", port=503, disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    await site.registry.async_apply(
        {
            "p1": make_point("p1", "Hall 1", "1", "l1", area="Production"),
            "p2": make_point("p2", "Hall 2", "2", "l1", area="Production"),
            "p3": make_point("p3", "Office", "1", "l2", area="Office"),
        },
        SYSTEM,
        "add",
    )
    await hass.async_block_till_done()
    return site


async def take(site: Site, boundaries: list[Boundary]) -> None:
    await site.ledger.async_call(lambda ledger: ledger.take(boundaries), {one.point for one in boundaries})


async def ask(hass: HomeAssistant, **asked: Any) -> dict[str, Any]:
    answer = await hass.services.async_call(DOMAIN, "get_history", asked, blocking=True, return_response=True)
    assert answer is not None
    return answer


def energies(answer: dict[str, Any], point: str = "p1") -> list[float]:
    return [row["energy_import"] for row in answer["points"][point]["rows"]]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Asia/Shanghai", "2026-10-25", 24),
        ("Asia/Kolkata", "2026-10-25", 24),
    ],
)
async def test_a_local_day_has_the_hours_it_has(
    hass: HomeAssistant, site: Site, zone: str, day: str, hours: int
) -> None:
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1)
    await take(site, quarters("p1", begin, 4 * 24 * 3))
    until = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    asked = {"points": "Hall 1", "since": day, "until": until, "time_zone": zone}
    answer = await ask(hass, **asked, resolution="day")
    (row,) = answer["points"]["p1"]["rows"]
    assert row["energy_import"] == hours
    assert row["completeness"] == 1.0
    assert row["start"].startswith(f"{day}T00:00:00") and row["end"].startswith(f"{until}T00:00:00")
    by_hour = await ask(hass, **asked, resolution="hour")
    assert energies(by_hour) == [1.0] * hours
    assert len({row["start"] for row in by_hour["points"]["p1"]["rows"]}) == hours
    assert len(energies(await ask(hass, **asked))) == 4 * hours


async def test_all_resolutions_hold_the_same_energy_across_a_year_end(hass: HomeAssistant, site: Site) -> None:
    await take(site, quarters("p1", datetime(2025, 11, 1, tzinfo=UTC), 96 * 100, "0.01"))
    await hass.config.async_update(time_zone="Europe/Berlin")
    for resolution, count in (("interval", 8640), ("hour", 2160), ("day", 90), ("week", 14), ("month", 3), ("year", 2)):
        answer = await ask(hass, points=["p1"], since="2025-11-02", until="2026-01-31", resolution=resolution)
        assert (len(energies(answer)), round(sum(energies(answer)), 6)) == (count, 86.4), resolution


async def test_each_row_says_where_it_came_from_and_how_much_is_known(hass: HomeAssistant, site: Site) -> None:
    begin = datetime(2026, 6, 1, tzinfo=UTC)
    await take(site, quarters("p1", begin, 8, skip=range(5, 7)))
    answer = await ask(hass, points=["p1"], since="2026-06-01", until="2026-06-02", time_zone="UTC")
    rows = answer["points"]["p1"]["rows"]
    assert [row["flags"] for row in rows] == [["measured"]] * 4 + [["estimated"]] * 3 + [["measured"]]
    assert [row["completeness"] for row in rows] == [1.0] * 4 + [0.0] * 3 + [1.0]
    assert {row["source"] for row in rows} == {"poll"}
    assert rows[0] | {"demand_mean_kw": 1.0} == rows[0]
    assert answer["units"]["energy_import"] == "kWh"
    by_hour = await ask(hass, points=["p1"], since="2026-06-01", until="2026-06-02", time_zone="UTC", resolution="hour")
    assert [row["completeness"] for row in by_hour["points"]["p1"]["rows"]] == [1.0, 0.25]


async def test_points_areas_and_lines_are_found_by_name_and_add_up(hass: HomeAssistant, site: Site) -> None:
    async def points(**asked: Any) -> set[str]:
        return set((await ask(hass, period="today", **asked))["points"])

    assert await points() == {"p1", "p2", "p3"}
    assert await points(points="hall 2") == {"p2"}
    assert await points(lines=["east"]) == {"p1", "p2"}
    assert await points(areas=["office"]) == {"p3"}
    assert await points(areas=["Office"], lines="West", points=["p1"]) == {"p1", "p3"}


@pytest.mark.parametrize(
    ("name", "since", "until"),
    [
        ("today", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("yesterday", "2026-03-28T00:00:00+01:00", "2026-03-29T00:00:00+01:00"),
        ("This week", "2026-03-23T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("last_week", "2026-03-16T00:00:00+01:00", "2026-03-23T00:00:00+01:00"),
        ("this_month", "2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00"),
        ("last_month", "2026-02-01T00:00:00+01:00", "2026-03-01T00:00:00+01:00"),
        ("this_year", "2026-01-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00"),
        ("last_year", "2025-01-01T00:00:00+01:00", "2026-01-01T00:00:00+01:00"),
    ],
)
async def test_periods_have_names_and_begin_at_local_midnight(
    hass: HomeAssistant, site: Site, freezer: FrozenDateTimeFactory, name: str, since: str, until: str
) -> None:
    freezer.move_to("2026-03-29T16:00:00+00:00")
    answer = await ask(hass, period=name, time_zone="Europe/Berlin")
    assert (answer["since"], answer["until"]) == (since, until)


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ({"points": "Hall 9"}, "unknown_point"),
        ({"areas": "Moon"}, "unknown_area"),
        ({"lines": "North"}, "unknown_line"),
        ({"quantities": "active_power"}, "unknown_quantity"),
        ({"quantities": "energy"}, "unknown_quantity"),
        ({"period": "someday"}, "unknown_period"),
        ({"resolution": "minute"}, "unknown_resolution"),
        ({"time_zone": "Moon/Crater"}, "unknown_time_zone"),
        ({"time_zone": "../../etc/passwd"}, "unknown_time_zone"),
        ({"period": ""}, "period_missing"),
        ({"since": "2026-07-01"}, "period_or_since"),
        ({"period": "", "since": "the first"}, "bad_instant"),
        ({"period": "", "since": "2026-07-02", "until": "2026-07-01"}, "period_empty"),
        ({"period": "", "since": "2026-07-01", "until": "2026-07-01"}, "period_empty"),
        ({"period": "", "since": "2999-07-01"}, "period_empty"),
    ],
)
async def test_what_cannot_be_answered_is_refused_in_words(
    hass: HomeAssistant, site: Site, asked: dict[str, Any], key: str
) -> None:
    with pytest.raises(ServiceValidationError) as refused:
        await ask(hass, **{"period": "today", **asked})
    assert refused.value.translation_key == key
    assert "{" not in str(refused.value) and str(refused.value)


async def test_an_answer_that_is_too_large_for_an_action_says_what_to_do(
    hass: HomeAssistant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "MOST_ROWS", 100)
    await take(site, quarters("p1", datetime(2026, 6, 1, tzinfo=UTC), 101))
    with pytest.raises(ServiceValidationError, match="export"):
        await ask(hass, points=["p1"], since="2026-06-01T00:00Z", until="2026-07-01T00:00Z")
    assert await ask(hass, points=["p1"], since="2026-06-01T00:00Z", until="2026-07-01T00:00Z", resolution="day")


async def test_only_the_quantities_that_were_asked_for_are_given(hass: HomeAssistant, site: Site) -> None:
    await take(site, quarters("p1", datetime(2026, 6, 1, tzinfo=UTC), 4))
    answer = await ask(
        hass, points=["p1"], since="2026-06-01T00:00Z", until="2026-06-02T00:00Z", quantities=["1-0:2.8.0"]
    )
    assert answer["units"] == {"energy_export": "kWh"}
    row = answer["points"]["p1"]["rows"][0]
    assert row["energy_export"] == 0 and "energy_import" not in row and "demand_mean_kw" not in row


async def test_who_may_read_may_read_history(hass: HomeAssistant, site: Site, hass_read_only_user: MockUser) -> None:
    answer = await hass.services.async_call(
        DOMAIN,
        "get_history",
        {"period": "today"},
        blocking=True,
        return_response=True,
        context=Context(user_id=hass_read_only_user.id),
    )
    assert answer is not None and isinstance(answer["points"], dict)
    assert set(answer["points"]) == {"p1", "p2", "p3"}


async def test_the_websocket_answers_as_the_action_does(
    hass: HomeAssistant, site: Site, hass_ws_client: Callable[..., Awaitable[Any]]
) -> None:
    await take(site, quarters("p1", datetime(2026, 6, 1, tzinfo=UTC), 96))
    asked = {"points": ["p1"], "since": "2026-06-01", "until": "2026-06-03", "resolution": "day"}
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "meter_batch/history", **asked})
    message = await client.receive_json()
    assert message["success"], message
    assert message["result"] == await ask(hass, **asked)
    await client.send_json_auto_id({"type": "meter_batch/history", "period": "someday"})
    message = await client.receive_json()
    assert not message["success"] and "someday" in message["error"]["message"]
