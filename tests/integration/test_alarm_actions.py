"""Alarms and their rules in the hands of people and programs: who may what, what is refused, what is noted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from homeassistant.auth.models import User
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError, Unauthorized
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import translation
from homeassistant.helpers.trigger import async_get_all_descriptions
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.meter_batch import access
from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.alarm_rules import AlarmRules
from custom_components.meter_batch.alarms import SiteAlarms
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.engine import LineHealth, PollReport, Reading
from custom_components.meter_batch.engine.model.quantity import BY_KEY
from custom_components.meter_batch.engine.wire import decode_findings
from custom_components.meter_batch.site import Site, async_get_site

from .conftest import make_point

VOLTAGES = tuple(BY_KEY[f"voltage_l{phase}"].obis for phase in (1, 2, 3))
UP, DOWN = LineHealth(connected=True), LineHealth(connected=False, problem="pulled")
type GetClient = Callable[..., Awaitable[Any]]


@pytest.fixture
async def site(hass: HomeAssistant, add_line: Callable[..., MockConfigEntry]) -> Site:
    add_line("East", entry_id="l1", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    points = {
        id_: make_point(id_, name, address, area="Hall", attributes={"nominal_v": "230"})
        for id_, name, address in (("p1", "Lathe", "1"), ("p2", "Press", "2"))
    }
    await site.registry.async_apply({**points}, SYSTEM, "add")
    for kind in ("over_voltage", "communication_lost", "line_lost"):
        await act(hass, "set_alarm_rule", kind=kind, on_delay_s=0, off_delay_s=0)
    return site


async def act(hass: HomeAssistant, name: str, user: User | None = None, **data: Any) -> dict[str, Any]:
    context = Context(user_id=user.id if user else None)
    answer = await hass.services.async_call(DOMAIN, name, data, True, context, return_response=True)
    assert answer is not None
    return dict(answer)


def measure(alarms: SiteAlarms, health: LineHealth = UP, silent: tuple[str, ...] = (), **volts: float) -> None:
    """A report of the line: these voltages."""
    at = dt_util.utcnow()
    readings = {id_: tuple(Reading(obis, value, at) for obis in VOLTAGES) for id_, value in volts.items()}
    report = PollReport(at, readings=readings, snapshots={}, failed={}, silent=frozenset(silent), health=health)
    alarms.async_report("l1", report, ())


async def listed(hass: HomeAssistant, since: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await act(hass, "list_alarms", since=since))["alarms"]
    return found


async def kinds(hass: HomeAssistant, **asked: Any) -> list[tuple[str, str]]:
    return [(one["name"], one["kind"]) for one in (await act(hass, "list_alarms", **asked))["alarms"]]


async def test_readers_may_list_but_not_acknowledge_nor_shelve(
    hass: HomeAssistant, site: Site, hass_read_only_user: User, hass_admin_user: User
) -> None:
    measure(site.alarms, p1=260.0)
    (listed,) = (await act(hass, "list_alarms", hass_read_only_user))["alarms"]
    await act(hass, "list_alarm_rules", hass_read_only_user)
    for name in ("acknowledge_alarms", "shelve_alarms", "unshelve_alarms"):
        with pytest.raises(Unauthorized):
            await act(hass, name, hass_read_only_user, alarms=[listed["id"]])
    with pytest.raises(Unauthorized):
        await act(hass, "set_alarm_rule", hass_read_only_user, kind="over_voltage", enabled=False)
    (done,) = (await act(hass, "acknowledge_alarms", hass_admin_user, alarms=[listed["id"]]))["alarms"]
    assert (done["state"], done["acknowledged_by"]) == ("acknowledged", hass_admin_user.name)


async def test_alarms_are_listed_by_place_kind_severity_and_state(hass: HomeAssistant, site: Site) -> None:
    measure(site.alarms, p1=260.0, p2=261.0)
    assert sorted(await kinds(hass)) == [("Lathe", "over_voltage"), ("Press", "over_voltage")]
    assert await kinds(hass, points=["Lathe"]) == [("Lathe", "over_voltage")]
    assert await kinds(hass, severity="critical") == []
    assert await kinds(hass, kinds=["phase_loss"]) == []
    assert len(await kinds(hass, areas=["hall"])) == len(await kinds(hass, lines=["East"])) == 2
    await act(hass, "acknowledge_alarms", points=["Lathe"])
    assert await kinds(hass, state="unacknowledged") == [("Press", "over_voltage")]
    await act(hass, "shelve_alarms", points=["Press"], duration={"hours": 1})
    assert await kinds(hass, state="shelved") == [("Press", "over_voltage")]
    measure(site.alarms, p1=230.0)
    assert await kinds(hass, state="active") == [("Press", "over_voltage")]
    assert len(await kinds(hass, state="all")) == 2
    lasts, over = (one for _, one in sorted((one["active"], one) for one in (await listed(hass, "2026-01-01")))[::-1])
    until = dt_util.as_local(dt_util.parse_datetime(over["until"]))
    assert over["text"].endswith(f"above 246.1 V. It lasted until {until:%Y-%m-%d %H:%M}.")
    assert lasts["text"].endswith("above 246.1 V.") and lasts["limit"] == 246.1
    assert len(await kinds(hass, since="2026-01-01")) == 2  # of a period all; the lathe is over and seen
    assert len(await kinds(hass, since="2026-01-01", state="open")) == 1
    assert await kinds(hass, until="2026-01-01") == []


@pytest.mark.parametrize(
    ("name", "data", "key"),
    [
        ("acknowledge_alarms", {}, "alarms_missing"),
        ("acknowledge_alarms", {"alarms": ["none"]}, "unknown_alarm"),
        ("acknowledge_alarms", {"points": ["Nobody"]}, "unknown_point"),
        ("shelve_alarms", {"kinds": ["over_voltage"], "duration": {"days": 31}}, "shelved_too_long"),
        ("list_alarms", {"kinds": ["high_tide"]}, "unknown_alarm_kind"),
        ("list_alarms", {"since": "yesterday"}, "bad_instant"),
        ("set_alarm_rule", {"kind": "over_voltage"}, "rule_nothing_set"),
        ("set_alarm_rule", {"kind": "high_tide", "enabled": False}, "engine_rule_unknown"),
        ("set_alarm_rule", {"kind": "over_voltage", "pickup": 1.0, "dropout": 1.2}, "engine_rule_reversed"),
        ("set_alarm_rule", {"kind": "stuck_meter", "on_delay_s": -5}, "engine_rule_number"),
        ("set_alarm_rule", {"kind": "stuck_meter", "pickup": "nan"}, "engine_rule_number"),
        ("set_alarm_rule", {"kind": "over_voltage", "pickup": -1}, "engine_rule_bounds"),
        ("set_alarm_rule", {"kind": "line_lost", "pickup": 3}, "engine_rule_no_level"),
        ("set_alarm_rule", {"kind": "over_voltage", "area": "Moon", "enabled": False}, "unknown_area"),
    ],
)
async def test_what_cannot_be_is_refused_in_words(
    hass: HomeAssistant, site: Site, name: str, data: dict[str, Any], key: str
) -> None:
    measure(site.alarms, p1=260.0)
    with pytest.raises(ServiceValidationError) as refused:
        await act(hass, name, **data)
    assert refused.value.translation_key == key
    assert str(refused.value) != key


async def test_a_dead_line_is_one_alarm_and_its_meters_are_explained_by_it(hass: HomeAssistant, site: Site) -> None:
    told: list[Any] = []
    site.alarms.async_listen_events(told.append)
    measure(site.alarms, p1=230.0, p2=230.0)
    measure(site.alarms, DOWN, silent=("p1", "p2"))
    await hass.async_block_till_done()
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=1))
    assert [(one.name, one.finding.kind) for one in told] == [("East", "line_lost")]
    assert all(one["cause"] for one in (await act(hass, "list_alarms", kinds=["communication_lost"]))["alarms"])
    assert site.alarms.of("p1") == []


async def test_a_rule_holds_where_it_was_set_is_noted_and_taken_back_by_what_was_before(
    hass: HomeAssistant, site: Site, hass_admin_user: User
) -> None:
    measure(site.alarms, p1=240.0)
    assert await kinds(hass) == []
    done = await act(
        hass, "set_alarm_rule", hass_admin_user, kind="over_voltage", point="Lathe", pickup=1.03, severity="critical"
    )
    assert (done["point"], done["before"]) == ("Lathe", {})
    measure(site.alarms, p1=240.0, p2=240.0)
    (raised,) = (await act(hass, "list_alarms"))["alarms"]
    assert (raised["name"], raised["severity"]) == ("Lathe", "critical")
    rule = (await act(hass, "list_alarm_rules", point="Lathe"))["rules"]["over_voltage"]
    assert (rule["pickup"], rule["on_delay_s"], rule["severity"]) == (1.03, 0, "critical")
    assert (await act(hass, "list_alarm_rules"))["rules"]["over_voltage"]["pickup"] == 1.07
    (entry,) = await site.log.async_read(1)
    assert (entry["action"], entry["who"], entry["scope"]) == ("set_alarm_rule", hass_admin_user.name, "point:p1")
    assert entry["after"] == {"pickup": 1.03, "severity": "critical"}
    again = await act(hass, "set_alarm_rule", kind="over_voltage", point="Lathe", reset=True, **done["before"])
    assert again["before"] == done["now"] and again["now"] == {}
    assert (await act(hass, "list_alarm_rules", point="Lathe"))["rules"]["over_voltage"]["pickup"] == 1.07


async def test_a_rule_of_an_area_outlives_its_name(hass: HomeAssistant, site: Site) -> None:
    areas = ar.async_get(hass)
    hall = areas.async_get_or_create("Hall")
    await act(hass, "set_alarm_rule", kind="over_voltage", area="hall", pickup=1.01)
    areas.async_update(hall.id, name="Workshop")
    renamed = make_point("p1", "Lathe", "1", area="Workshop", attributes={"nominal_v": "230"})
    await site.registry.async_apply({"p1": renamed}, SYSTEM, "rename")
    measure(site.alarms, p1=235.0)
    assert await kinds(hass) == [("Lathe", "over_voltage")]
    listed = await act(hass, "list_alarm_rules")
    assert {"area": "Workshop", "kind": "over_voltage", "pickup": 1.01} in listed["overrides"]


async def test_rules_survive_a_restart(hass: HomeAssistant, site: Site, hass_storage: dict[str, Any]) -> None:
    await act(hass, "set_alarm_rule", kind="phase_loss", enabled=False)
    stored = hass_storage[f"{DOMAIN}.alarm_rules"]["data"]["overrides"]
    assert {"scope": "site", "kind": "phase_loss", "enabled": False} in stored
    again = AlarmRules(hass, site.log)
    await again.async_load()
    assert again.settings == site.alarms.rules.settings


async def test_an_inferred_nominal_voltage_survives_a_restart(
    hass: HomeAssistant, site: Site, hass_storage: dict[str, Any]
) -> None:
    plain = make_point("p1", "Lathe", "1", area="Hall")
    await site.registry.async_apply({"p1": plain}, SYSTEM, "change")
    for _ in range(3):
        measure(site.alarms, p1=231.0)
    site.alarms.async_hours((), {})
    await hass.async_block_till_done()
    assert len(hass_storage[f"{DOMAIN}.alarm_rules"]["data"]["overrides"]) == 3  # what was set is kept beside it
    rules = AlarmRules(hass, site.log)
    await rules.async_load()
    assert rules.nominals == {"p1": (230.0, False)}


async def test_a_rule_that_is_no_more_and_a_budget_that_is_no_number_are_left_out(
    hass: HomeAssistant, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.alarms.rules._settings["site", "high_tide"] = {"enabled": False}
    bad = make_point("p1", "Lathe", "1", attributes={"daily_budget_kwh": "nan", "nominal_v": "230"})
    await site.registry.async_apply({"p1": bad}, SYSTEM, "change")
    again = SiteAlarms(hass, site.registry, site.templates, site.alarms.rules, site.alarms.store)
    assert {one.kind for one in again.overrides} == {"over_voltage", "communication_lost", "line_lost"}
    assert "high_tide" in caplog.text
    measure(site.alarms, p1=260.0)
    assert await kinds(hass) == [("Lathe", "over_voltage")]


async def test_findings_of_a_point_that_is_removed_are_closed_and_one_that_is_renamed_is_called_so(
    hass: HomeAssistant, site: Site
) -> None:
    measure(site.alarms, p1=260.0, p2=260.0)
    await site.registry.async_apply(
        {"p1": None, "p2": make_point("p2", "Mill", "2", attributes={"nominal_v": "230"})}, SYSTEM, "change"
    )
    assert await kinds(hass) == [("Mill", "over_voltage")]
    (one,) = (await act(hass, "list_alarms"))["alarms"]
    assert one["text"].startswith("Mill")


async def test_a_budget_of_a_point_is_its_limit_of_the_day(hass: HomeAssistant, site: Site) -> None:
    await site.registry.async_apply(
        {"p1": make_point("p1", "Lathe", "1", attributes={"daily_budget_kwh": "50"})}, SYSTEM, "change"
    )
    site.alarms.async_day({"p1": 49.0, "p2": 1000.0})
    assert await kinds(hass) == []
    site.alarms.async_day({"p1": 51.0, "p2": 1000.0})
    (one,) = (await act(hass, "list_alarms"))["alarms"]
    assert (one["kind"], one["value"], one["limit"]) == ("daily_budget", 51.0, 50.0)
    site.alarms.async_day({"p1": 0.5})
    assert await kinds(hass, state="active") == []


async def test_what_hosts_raise_about_the_site_is_an_alarm_until_they_clear_it(hass: HomeAssistant, site: Site) -> None:
    for part in ("daily", "monthly"):
        site.alarms.async_raise(
            "report_failed", {"schedule": part, "period": "2026-06", "reason": "disk full"}, part=part
        )
    daily, monthly = (await act(hass, "list_alarms"))["alarms"]
    assert daily["subject_kind"] == "site" and "disk full" in daily["text"] and daily["text"] != monthly["text"]
    assert daily["name"] == hass.config.location_name
    site.alarms.async_clear("report_failed", part="daily")
    (left,) = (await act(hass, "list_alarms", state="active"))["alarms"]
    assert left["subject"] == "site:monthly"


async def test_screens_see_what_is_open_and_then_every_change(
    hass: HomeAssistant, site: Site, hass_ws_client: WebSocketGenerator, hass_read_only_access_token: str
) -> None:
    measure(site.alarms, p1=260.0)
    client = await hass_ws_client(hass, hass_read_only_access_token)
    await client.send_json_auto_id({"type": "meter_batch/alarms/subscribe"})
    assert (await client.receive_json())["success"]
    (first,) = (await client.receive_json())["event"]["alarms"]
    assert first["name"] == "Lathe"
    measure(site.alarms, p2=260.0)
    (change,) = (await client.receive_json())["event"]["changes"]
    assert (change["event"], change["notify"], change["alarm"]["name"]) == ("raised", True, "Press")
    await client.send_json_auto_id({"type": "meter_batch/alarms/list", "points": ["Press"]})
    answer = await client.receive_json()
    assert [one["name"] for one in answer["result"]["alarms"]] == ["Press"]
    await act(hass, "acknowledge_alarms", points=["Lathe"])
    measure(site.alarms, p1=230.0)
    await client.receive_json()
    await client.receive_json()
    await client.send_json_auto_id({"type": "meter_batch/alarms/list", "since": "2026-01-01"})
    assert len((await client.receive_json())["result"]["alarms"]) == 2  # also what is over and seen


async def test_programs_get_findings_with_their_journal_over_http(
    hass: HomeAssistant, site: Site, hass_client: GetClient, hass_client_no_auth: GetClient
) -> None:
    measure(site.alarms, p1=260.0, p2=260.0)
    await act(hass, "acknowledge_alarms", points=["Lathe"], comment="seen")
    client = await hass_client()
    answer = await client.get("/api/meter_batch/alarms?since=2026-01-01")
    assert answer.status == 200
    findings, journal = decode_findings(await answer.json())
    assert {one.subject for one in findings} == {"p1", "p2"}
    assert [one.what for one in journal if one.by] == ["acknowledged"]
    answer = await client.get("/api/meter_batch/alarms?points=Lathe")
    findings, journal = decode_findings(await answer.json())
    assert [one.subject for one in findings] == ["p1"] and len(journal) == 2
    assert (await client.get("/api/meter_batch/alarms?points=Nobody")).status == 404
    assert (await client.get("/api/meter_batch/alarms?day=1")).status == 400
    assert (await (await hass_client_no_auth()).get("/api/meter_batch/alarms")).status == 401


async def test_who_may_see_some_points_only_sees_their_alarms_only(
    hass: HomeAssistant,
    site: Site,
    hass_client: GetClient,
    hass_ws_client: WebSocketGenerator,
    hass_admin_user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access, "scope", lambda user: frozenset({"p2"}))
    measure(site.alarms, p1=260.0, p2=260.0)
    site.alarms.async_raise("report_failed", {})
    assert [one["name"] for one in (await act(hass, "list_alarms", hass_admin_user))["alarms"]] == ["Press"]
    findings, _ = decode_findings(await (await (await hass_client()).get("/api/meter_batch/alarms")).json())
    assert [one.subject for one in findings] == ["p2"]
    (lathe,) = site.alarms.of("p1")
    with pytest.raises(ServiceValidationError):
        await act(hass, "acknowledge_alarms", hass_admin_user, alarms=[lathe.id])
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "meter_batch/alarms/subscribe"})
    await client.receive_json()
    assert [one["name"] for one in (await client.receive_json())["event"]["alarms"]] == ["Press"]


async def test_texts_are_in_the_language_of_the_house(hass: HomeAssistant, site: Site) -> None:
    hass.config.language = "zh-Hans"
    await hass.async_block_till_done()
    await translation.async_load_integrations(hass, {DOMAIN})
    measure(site.alarms, p1=260.0)
    (one,) = (await act(hass, "list_alarms"))["alarms"]
    assert "电压" in one["text"], one["text"]


async def test_triggers_are_described_for_the_editor(hass: HomeAssistant, site: Site) -> None:
    described = await async_get_all_descriptions(hass)
    for name in ("alarm_raised", "alarm_returned"):
        one = described[f"{DOMAIN}.{name}"]
        assert one is not None and set(one["fields"]) == {"severity", "kinds"} and one["target"]
        assert set(one["fields"]["kinds"]["selector"]["select"]["options"]) == set(site.alarms.rules.book.rules)
