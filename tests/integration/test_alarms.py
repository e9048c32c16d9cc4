"""From a fault at a virtual meter to entities, events, automations and people, and back again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from homeassistant.components.automation import DOMAIN as AUTOMATION
from homeassistant.components.persistent_notification import _async_get_or_create_notifications
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import area_registry as ar
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.site import SITE, Site
from meter_batch_virtual.config import parse_fleet
from meter_batch_virtual.fleet import VirtualFleet

from .conftest import StartFleet, port_of, wait_for
from .test_live import act, device_at, value

FLEET = """
[[line]]
name = "East"
listen = "tcp://127.0.0.1:0"
protocol = "modbus-tcp"
[[line.meter]]
name = "Lathe"
address = 1
template = "eastron/sdm630"
load = "office"
faults = []
[[line.meter]]
name = "Press"
address = 2
template = "eastron/sdm630"
load = "office"
"""
LIST = """name,line,address,template,area,nominal_v
Lathe,East,1,eastron/sdm630,Hall,230
Press,East,2,eastron/sdm630,Yard,230
"""
SWELL = 'faults = [{ kind = "voltage", factor = 1.2 }]'

type AddLine = Callable[..., MockConfigEntry]


class Rig:
    """A line with two meters, whose faults can be scripted, in a Home Assistant."""

    def __init__(self, hass: HomeAssistant, fleet: VirtualFleet, entry: MockConfigEntry, tmp_path: Path) -> None:
        self.hass, self.fleet, self.entry, self._path = hass, fleet, entry, tmp_path

    @property
    def site(self) -> Site:
        return self.hass.data[SITE]

    def fault(self, toml: str) -> None:
        """The faults of the lathe, from now on."""
        self.fleet.reload_faults(parse_fleet(FLEET.replace("faults = []", toml, 1), self._path / "fleet.toml"))

    def point(self, name: str) -> str:
        point = self.site.registry.find(name)
        assert point is not None
        return point.id

    def entity(self, platform: str, unique_id: str) -> str:
        entity_id = er.async_get(self.hass).async_get_entity_id(platform, DOMAIN, unique_id)
        assert entity_id is not None, unique_id
        return entity_id

    def alarm(self, name: str) -> Any:
        """The state of a point's alarm."""
        return self.hass.states.get(self.entity("binary_sensor", f"{self.point(name)}_alarm"))

    def count(self, key: str) -> str:
        state = self.hass.states.get(self.entity("sensor", f"{DOMAIN}_site_alarms_{key}"))
        assert state is not None
        return state.state

    async def at_once(self, kind: str, **where: str) -> None:
        """The rule without delays."""
        await act(self.hass, "set_alarm_rule", kind=kind, on_delay_s=0, off_delay_s=0, **where)

    async def restart(self) -> None:
        """Home Assistant stops and starts again, as far as we are concerned."""
        assert await self.hass.config_entries.async_unload(self.entry.entry_id)
        before = self.hass.data.pop(SITE)
        await before.alarms.async_stop()
        await before.intake.async_stop()
        await before.ledger.async_stop()
        assert await self.hass.config_entries.async_setup(self.entry.entry_id)
        await self.hass.async_block_till_done()


@pytest.fixture
async def rig(hass: HomeAssistant, start_fleet: StartFleet, add_line: AddLine, tmp_path: Path) -> Rig:
    fleet = await start_fleet(FLEET, hold=False)
    entry = add_line("East", port=port_of(fleet), options={"fast_s": 1, "slow_s": 10})
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert (await act(hass, "import_points", content=LIST))["applied"] == 2
    await hass.async_block_till_done()
    rig = Rig(hass, fleet, entry, tmp_path)
    await wait_for(lambda: value(hass, "sensor.hall_lathe_voltage_l1"))
    await wait_for(lambda: hass.states.async_entity_ids_count("event") == 4)  # line, site, two areas
    return rig


def events_of(hass: HomeAssistant, entity_id: str) -> list[Any]:
    """Collects what an event entity tells from now on."""
    found: list[Any] = []

    @callback
    def take(event: Event[Any]) -> None:
        state = event.data["new_state"]
        if event.data["entity_id"] == entity_id and state is not None and "event_type" in state.attributes:
            found.append(state.attributes)

    hass.bus.async_listen("state_changed", take)
    return found


async def test_a_fault_becomes_an_alarm_within_a_cycle_is_acknowledged_and_returns(rig: Rig) -> None:
    hass = rig.hass
    await rig.at_once("over_voltage")
    assert rig.alarm("Lathe").state == "off"
    area = ar.async_get(hass).async_get_area_by_name("Hall")
    assert area is not None
    line = events_of(hass, rig.entity("event", f"{rig.entry.entry_id}_alarms"))
    hall = events_of(hass, rig.entity("event", f"{DOMAIN}_site_area_{area.id}_alarms"))
    whole = events_of(hass, rig.entity("event", f"{DOMAIN}_site_alarms"))

    rig.fault(SWELL)
    begun = asyncio.get_running_loop().time()
    await wait_for(lambda: rig.alarm("Lathe").state == "on")
    assert asyncio.get_running_loop().time() - begun < 2 * 1.0 + 0.5  # two cycles: one may be under way
    shown = rig.alarm("Lathe").attributes
    assert (shown["severity"], shown["count"], shown["unacknowledged"]) == ("warning", 1, 1)
    assert "Lathe" in shown["alarms"][0] and "V" in shown["alarms"][0]
    assert (rig.count("warning"), rig.count("critical"), rig.count("unacknowledged")) == ("1", "0", "1")
    assert rig.alarm("Press").state == "off"
    (told,) = line
    assert (
        [told["event_type"]]
        == [one["event_type"] for one in hall]
        == [one["event_type"] for one in whole]
        == ["raised"]
    )
    assert (told["point"], told["kind"], told["severity"], told["area"], told["line"]) == (
        "Lathe", "over_voltage", "warning", "Hall", "East"
    )  # fmt: skip
    assert told["value"] > told["limit"] == pytest.approx(230 * 1.07)
    assert told["link"].startswith("/config/devices/device/")

    (listed,) = (await act(hass, "list_alarms", points=["Lathe"]))["alarms"]
    assert listed["state"] == "unacknowledged"
    done = await act(hass, "acknowledge_alarms", alarms=[listed["id"]], comment="seen")
    assert [one["state"] for one in done["alarms"]] == ["acknowledged"]
    assert rig.alarm("Lathe").state == "on" and rig.count("unacknowledged") == "0"
    assert (line[-1]["event_type"], line[-1]["by"], line[-1]["comment"]) == ("acknowledged", "system", "seen")

    rig.fault("faults = []")
    await wait_for(lambda: rig.alarm("Lathe").state == "off")
    assert [one["event_type"] for one in line] == ["raised", "acknowledged", "returned"]
    assert (await act(hass, "list_alarms"))["alarms"] == []
    (kept,) = (await act(hass, "list_alarms", state="all", journal=True))["alarms"]
    assert [one["event"] for one in kept["journal"]] == ["raised", "acknowledged", "returned"]
    assert kept["state"] == "normal" and kept["until"] is not None


async def test_a_restart_keeps_what_was_found_and_tells_nobody_again(rig: Rig) -> None:
    hass = rig.hass
    await rig.at_once("over_voltage")
    await rig.at_once("under_voltage")
    rig.fault(SWELL)
    await wait_for(lambda: rig.alarm("Lathe").state == "on")
    (first,) = (await act(hass, "list_alarms"))["alarms"]
    until = {"minutes": 30}
    await act(hass, "shelve_alarms", alarms=[first["id"]], duration=until, comment="works")
    line = events_of(hass, rig.entity("event", f"{rig.entry.entry_id}_alarms"))
    await rig.restart()
    told: list[Any] = []
    rig.site.alarms.async_listen_events(told.append)
    (again,) = (await act(hass, "list_alarms"))["alarms"]
    assert again["id"] == first["id"]
    assert (again["state"], again["comment"], again["shelved_until"] is not None) == ("shelved", "works", True)
    await asyncio.sleep(2.5)  # two cycles in which the voltage is still high
    assert [one.what for one in told] == []
    assert [one for one in line if one["event_type"] == "raised"] == []
    assert rig.alarm("Lathe").state == "off"  # shelved
    await act(hass, "unshelve_alarms", points=["Lathe"])
    assert rig.alarm("Lathe").state == "on"
    rig.fault("faults = []")
    await wait_for(lambda: rig.alarm("Lathe").state == "off")
    (kept,) = (await act(hass, "list_alarms", state="all", journal=True))["alarms"]
    assert [one["event"] for one in kept["journal"]] == ["raised", "shelved", "unshelved", "returned"]


async def automate(hass: HomeAssistant, **triggers: dict[str, Any]) -> dict[str, Any]:
    """An automation with these triggers; which of them fired, and what they told."""
    told: dict[str, Any] = {}
    hass.bus.async_listen("told", lambda event: told.update({event.data["id"]: event.data}))
    data = {"id": "{{ trigger.id }}", "text": "{{ trigger.text }}", "link": "{{ trigger.link }}"}
    config = {
        "id": "a",
        "alias": "Alarm",
        "mode": "parallel",
        "triggers": [{"id": id_, **trigger} for id_, trigger in triggers.items()],
        "actions": [{"event": "told", "event_data": data}],
    }
    assert await async_setup_component(hass, AUTOMATION, {AUTOMATION: config})
    await hass.async_block_till_done()
    return told


async def test_an_automation_starts_for_what_it_asked_for_and_for_nothing_else(rig: Rig) -> None:
    raised = {"trigger": "meter_batch.alarm_raised"}
    told = await automate(
        rig.hass,
        everything=raised,
        area={**raised, "target": {"area_id": "hall"}, "options": {"severity": "warning", "kinds": ["over_voltage"]}},
        point={**raised, "target": {"entity_id": "binary_sensor.hall_lathe_alarm"}, "options": {"severity": "info"}},
        problem={**raised, "target": {"entity_id": "binary_sensor.hall_lathe_problem"}},
        line={**raised, "target": {"entity_id": "event.east_alarms"}},
        device={**raised, "target": {"device_id": [device_at(rig.hass, "sensor.hall_lathe_voltage_l1").id]}},
        another_area={**raised, "target": {"area_id": "yard"}},
        critical={**raised, "options": {"severity": "critical"}},
        another_kind={**raised, "options": {"kinds": ["phase_loss"]}},
        over={"trigger": "meter_batch.alarm_returned", "target": {"area_id": "hall"}},
    )
    await rig.at_once("over_voltage")
    rig.fault(SWELL)
    await wait_for(lambda: rig.alarm("Lathe").state == "on")
    await rig.hass.async_block_till_done()
    assert set(told) == {"everything", "area", "point", "problem", "line", "device"}
    assert all("Lathe" in one["text"] for one in told.values())
    assert all(one["link"].startswith("/config/devices/device/") for one in told.values())
    told.clear()
    rig.fault("faults = []")
    await wait_for(lambda: told)
    assert set(told) == {"over"}


@pytest.mark.parametrize(
    ("name", "title", "message", "link"),
    [
        ("alarm_notification.yaml", "Warning: Lathe", " Hall, since 20", "[Open](/config/devices/device/"),
        ("alarm_notification_zh-Hans.yaml", "警告：Lathe", "Hall，自 20", "[打开](/config/devices/device/"),
    ],
)
async def test_the_blueprint_tells_people_with_a_link_and_takes_it_back(
    rig: Rig, name: str, title: str, message: str, link: str
) -> None:
    hass = rig.hass
    folder = Path(hass.config.path("blueprints", "automation", DOMAIN))
    await wait_for(lambda: len(list(folder.glob("*.yaml"))) == 2)
    use = {"path": f"{DOMAIN}/{name}", "input": {"places": {"area_id": "hall"}, "severity": "info"}}
    assert await async_setup_component(hass, "persistent_notification", {})
    assert await async_setup_component(hass, AUTOMATION, {AUTOMATION: {"id": "a", "alias": "a", "use_blueprint": use}})
    await hass.async_block_till_done()
    assert hass.states.async_entity_ids("automation") == ["automation.a"]
    await rig.at_once("over_voltage")
    rig.fault(SWELL)
    notifications = _async_get_or_create_notifications(hass)
    await wait_for(lambda: notifications)
    (one,) = notifications.values()
    assert one["title"] == title
    assert "Lathe" in one["message"] and message in one["message"] and link in one["message"]
    rig.fault("faults = []")
    await wait_for(lambda: not notifications)


async def test_each_time_that_an_alarm_comes_back_unseen_is_told_and_noted_under_its_one_id(rig: Rig) -> None:
    hass = rig.hass
    await rig.at_once("over_voltage")
    whole = events_of(hass, rig.entity("event", f"{DOMAIN}_site_alarms"))
    for state, faults in (("on", SWELL), ("off", "faults = []"), ("on", SWELL)):
        rig.fault(faults)
        await wait_for(lambda state=state: rig.alarm("Lathe").state == state)
    await wait_for(lambda: len(whole) == 3)
    assert [one["event_type"] for one in whole] == ["raised", "returned", "raised"]
    assert len({one["id"] for one in whole}) == 1
    (listed,) = (await act(hass, "list_alarms", journal=True))["alarms"]
    assert [one["event"] for one in listed["journal"]] == ["raised", "returned", "reraised"]
    assert len({one["at"] for one in listed["journal"]}) == 3
    assert (listed["active"], listed["state"], listed["times"]) == (True, "unacknowledged", 2)


async def test_what_the_user_made_of_a_blueprint_or_threw_away_stays_so(rig: Rig) -> None:
    folder = Path(rig.hass.config.path("blueprints", "automation", DOMAIN))
    await wait_for(lambda: len(rig.site.alarms.rules.copied) == 2)
    (folder / "alarm_notification.yaml").write_text("mine")
    (folder / "alarm_notification_zh-Hans.yaml").unlink()
    await rig.restart()
    await rig.hass.async_block_till_done()
    assert [one.read_text() for one in folder.glob("*.yaml")] == ["mine"]  # noqa: ASYNC240


async def test_what_a_rule_of_a_point_needs_is_read_although_it_has_no_entity(rig: Rig) -> None:
    hass = rig.hass
    await act(hass, "import_points", content="name,detail\nLathe,lean\nPress,lean\n")
    await hass.async_block_till_done()
    await asyncio.sleep(1.5)  # what was asked already has come
    rig.fault(SWELL)
    await asyncio.sleep(1.5)

    async def rests() -> list[str]:
        rules = (await act(hass, "list_alarm_rules", point="Lathe"))["rules"]
        assert rules["high_power"]["rests"] == ["It has no limit: set its pick-up."]
        assert rules["overload"]["rests"] == ["The point has no transformer_kva / rated_kw: fill that in."]
        assert rules["stuck_meter"]["rests"] == [] and "rests" not in rules["line_lost"]
        return list(rules["over_voltage"]["rests"])

    (why,) = await rests()
    assert why.startswith("The meter has voltage_l1 / voltage / voltage_l1_l2, but it is not read at this detail")
    await rig.at_once("over_voltage", line="East")
    await rig.at_once("over_voltage")
    await act(hass, "set_alarm_rule", kind="over_voltage", line="East", reset=True)
    await wait_for(lambda: rig.alarm("Lathe").state == "on")  # a rule for the site is one for each point
    assert await rests() == []
    await act(hass, "set_alarm_rule", kind="over_voltage", reset=True)
    await wait_for(lambda: rig.alarm("Lathe").state == "off")
    await rig.at_once("over_voltage", point="Lathe")
    await wait_for(lambda: rig.alarm("Lathe").state == "on")
    assert hass.states.get("sensor.hall_lathe_voltage_l1") is None
    await act(hass, "set_alarm_rule", kind="over_voltage", point="Lathe", reset=True)
    await wait_for(lambda: rig.alarm("Lathe").state == "off")  # nobody reads its voltages any more


async def test_alarms_follow_a_point_that_is_moved_to_another_area(rig: Rig) -> None:
    hass = rig.hass
    await rig.at_once("over_voltage")
    await act(hass, "import_points", content="name,area\nLathe,Attic\n")
    areas = ar.async_get(hass)
    attic = await wait_for(lambda: areas.async_get_area_by_name("Attic"))
    unique_id = f"{DOMAIN}_site_area_{attic.id}_alarms"
    entities = er.async_get(hass)
    await wait_for(lambda: entities.async_get_entity_id("event", DOMAIN, unique_id))
    assert entities.async_get_entity_id("event", DOMAIN, f"{DOMAIN}_site_area_hall_alarms") is None
    told = events_of(hass, rig.entity("event", unique_id))
    rig.fault(SWELL)
    await wait_for(lambda: told)
    assert (told[0]["point"], told[0]["area"]) == ("Lathe", "Attic")
    (listed,) = (await act(hass, "list_alarms", areas=["Attic"]))["alarms"]
    assert listed["area"] == "Attic"
