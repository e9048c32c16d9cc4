"""Reports: made by an action, told of when ready, found in the media browser, their files for who sees the points."""

from __future__ import annotations

from typing import Any

import pytest
from homeassistant.auth.models import User
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator, WebSocketGenerator

from custom_components.meter_batch import access, reports
from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.reports import last_period
from custom_components.meter_batch.site import async_get_site

from .analytics_server import StandIn, a_report
from .conftest import make_point
from .test_analytics import server as server  # a fixture
from .test_proxy import ask

EVENT = "/api/meter_batch/analytics_server/event"


@pytest.fixture
async def entry(hass: HomeAssistant, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> MockConfigEntry:
    monkeypatch.setattr(reports, "LOOK_S", 0.01)
    made = MockConfigEntry(
        domain=DOMAIN,
        title="Analytics",
        unique_id="analytics",
        data={"kind": "analytics", "url": server.url, "token": server.token},
    )
    made.add_to_hass(hass)
    assert await async_setup_component(hass, "media_source", {})
    assert await async_setup_component(hass, DOMAIN, {})
    await hass.async_block_till_done()
    site = await async_get_site(hass)
    await site.registry.async_apply({id_: make_point(id_, name, address) for id_, name, address in POINTS}, SYSTEM, "x")
    return made


POINTS = [("p1", "Hall 1", "1"), ("p2", "Hall 2", "2")]


async def make(hass: HomeAssistant, user: User | None = None, **data: Any) -> dict[str, Any]:
    context = Context(user_id=user.id if user else None)
    answer = await hass.services.async_call(
        DOMAIN, "generate_report", {"report": "monthly", **data}, True, context, return_response=True
    )
    assert answer is not None
    return dict(answer)


async def test_a_report_is_made_and_its_files_can_be_opened(
    hass: HomeAssistant, entry: MockConfigEntry, server: StandIn, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    answer = await make(hass, period="2026-10", points=["hall 1"], formats=["pdf", "xlsx"], tariff="industry")
    assert (answer["title"], answer["facts"]) == ("Energy October 2026", {"kwh": "1234.5"})
    (job,) = server.jobs.values()
    assert {key: job[key] for key in ("kind", "report", "period", "points", "formats", "language", "scope", "by")} == {
        "kind": "report", "report": "monthly", "period": "2026-10", "points": ["p1"], "formats": ["pdf", "xlsx"],
        "language": "en", "scope": None, "by": "system",
    }  # fmt: skip
    assert job["tariff"] == "industry" and "areas" not in job
    for file in answer["files"]:
        opened = await client.get(file["url"])
        assert opened.status == 200 and (await opened.read()).startswith(b"%PDF")
        assert (await client.get(file["url"].partition("?")[0])).status == 401
    pdf, xlsx = answer["files"]
    assert (await client.get(pdf["url"])).headers["Content-Disposition"].startswith("inline")
    shown = await client.get(xlsx["url"])
    assert shown.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%E8%83%BD%E8%80%97_2026-10.xlsx"


async def test_who_asks_gets_what_they_see_and_no_more(
    hass: HomeAssistant, entry: MockConfigEntry, server: StandIn, hass_read_only_user: User, monkeypatch: Any
) -> None:
    monkeypatch.setattr(access, "scope", lambda user: frozenset({"p1"}) if user is hass_read_only_user else None)
    await make(hass, hass_read_only_user)
    (job,) = server.jobs.values()
    assert (job["scope"], job["by"]) == (["p1"], hass_read_only_user.name)
    from homeassistant.exceptions import Unauthorized

    with pytest.raises(Unauthorized):
        await make(hass, hass_read_only_user, points=["Hall 2"])


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"points": ["nobody"]}, "unknown_point"),
        ({"lines": ["nowhere"]}, "unknown_line"),
        ({"formats": []}, "report_no_formats"),
    ],
)
async def test_what_is_not_there_is_told_before_anything_is_made(
    hass: HomeAssistant, entry: MockConfigEntry, server: StandIn, data: dict[str, Any], key: str
) -> None:
    with pytest.raises(ServiceValidationError) as refused:
        await make(hass, **data)
    assert refused.value.translation_key == key and server.jobs == {}


async def test_what_goes_wrong_is_told_in_words(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    server: StandIn,
    hass_read_only_user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.job_fails = "the tariff has no price for 2026"
    with pytest.raises(ServiceValidationError, match=r"no price for 2026") as refused:
        await make(hass)
    assert refused.value.translation_key == "report_failed"
    server.refuses = "there is no tariff `x`"
    with pytest.raises(ServiceValidationError, match=r"no tariff") as refused:
        await make(hass)
    server.refuses = None
    server.job_fails = None
    monkeypatch.setattr(reports, "WAIT_S", 0.0)
    with pytest.raises(ServiceValidationError) as refused:
        await make(hass)
    assert refused.value.translation_key == "report_takes_long"
    await server.stop()
    with pytest.raises(ServiceValidationError) as refused:
        await make(hass)
    assert refused.value.translation_key == "analytics_unreachable"
    with pytest.raises(ServiceValidationError) as refused:
        await make(hass, hass_read_only_user)
    assert refused.value.translation_key == "analytics_unusable" and not refused.value.translation_placeholders
    await hass.config_entries.async_remove(entry.entry_id)
    with pytest.raises(ServiceValidationError) as refused:
        await make(hass)
    assert refused.value.translation_key == "analytics_none"


def test_the_last_whole_period() -> None:
    from datetime import date

    assert last_period("daily", date(2026, 3, 1)) == "2026-02-28"
    assert last_period("monthly", date(2026, 1, 31)) == "2025-12"


# --- files


async def test_files_are_for_who_sees_all_their_points(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    server: StandIn,
    hass_client: ClientSessionGenerator,
    hass_read_only_access_token: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.reports = [a_report("whole"), a_report("mine", ["p1"]), a_report("both", ["p1", "p2"])]
    await entry.runtime_data.async_fresh()
    reader = await hass_client(hass_read_only_access_token)
    name = "energy_2026-10.pdf"
    assert {id_: (await reader.get(f"{reports.FILES}/{id_}/{name}")).status for id_ in ("whole", "mine")} == {
        "whole": 200,
        "mine": 200,
    }
    monkeypatch.setattr(access, "scope", lambda user: None if user.is_admin else frozenset({"p1"}))
    got = {id_: (await reader.get(f"{reports.FILES}/{id_}/{name}")).status for id_ in ("whole", "mine", "both")}
    assert got == {"whole": 404, "mine": 200, "both": 404}
    hidden = await (await reader.get(f"{reports.FILES}/both/{name}")).json()
    absent = await (await reader.get(f"{reports.FILES}/nothing/{name}")).json()
    assert hidden == absent and hidden["error"] == "unknown_report"
    assert (await reader.get(f"{reports.FILES}/mine/other.pdf")).status == 404


async def test_files_of_a_server_that_is_away_are_told_in_words(
    hass: HomeAssistant, entry: MockConfigEntry, server: StandIn, hass_client: ClientSessionGenerator
) -> None:
    server.reports = [a_report()]
    await entry.runtime_data.async_fresh()
    client = await hass_client()
    await server.stop()
    answer = await client.get(f"{reports.FILES}/r1/energy_2026-10.pdf")
    assert answer.status == 502 and (await answer.json())["error"] == "analytics_unreachable"


async def test_the_list_of_reports_shows_what_the_user_may_see(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    server: StandIn,
    hass_ws_client: WebSocketGenerator,
    hass_read_only_access_token: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.reports = [a_report("whole"), a_report("mine", ["p1"], made_at="2026-11-05T00:00:00+00:00"), {"id": "bad"}]
    monkeypatch.setattr(access, "scope", lambda user: None if user.is_admin else frozenset({"p1"}))
    admin, reader = await hass_ws_client(hass), await hass_ws_client(hass, hass_read_only_access_token)
    assert [one["id"] for one in (await ask(admin, "reports/list"))["reports"]] == ["mine", "whole"]
    assert [one["id"] for one in (await ask(reader, "reports/list"))["reports"]] == ["mine"]
    await server.stop()
    assert await ask(admin, "reports/list") == {"reports": [], "away": True}


# --- the media browser


async def browse(socket: Any, path: str = "") -> Any:
    await socket.send_json_auto_id(
        {"type": "media_source/browse_media", "media_content_id": f"media-source://{DOMAIN}{path}"}
    )
    return await socket.receive_json()


async def test_reports_are_in_the_media_browser_by_kind_and_period(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    server: StandIn,
    hass_ws_client: WebSocketGenerator,
    hass_client_no_auth: ClientSessionGenerator,
) -> None:
    server.reports = [a_report(), a_report("d", kind="daily", period="2026-10-31"), a_report("s", period="2026-09")]
    await entry.runtime_data.async_fresh()
    client = await hass_client_no_auth()
    socket = await hass_ws_client(hass)

    async def titles(path: str = "") -> list[str]:
        return [one["title"] for one in (await browse(socket, path))["result"]["children"]]

    assert sorted(await titles()) == ["Daily report", "Monthly report"]
    assert await titles("/monthly") == ["2026-10", "2026-09"]
    assert await titles("/monthly/2026-10") == ["PDF · Energy October 2026", "XLSX · Energy October 2026"]
    file = (await browse(socket, "/monthly/2026-10"))["result"]["children"][0]
    await socket.send_json_auto_id({"type": "media_source/resolve_media", "media_content_id": file["media_content_id"]})
    found = (await socket.receive_json())["result"]
    assert found["mime_type"] == "application/pdf"
    assert (await (await client.get(found["url"])).read()).startswith(b"%PDF")
    assert not (await browse(socket, "/yearly"))["success"]
    await hass.config_entries.async_unload(entry.entry_id)
    away = await browse(socket)
    assert not away["success"] and "analytics server" in away["error"]["message"]


async def test_the_media_browser_shows_and_opens_nothing_of_what_one_may_not_see(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    server: StandIn,
    hass_ws_client: WebSocketGenerator,
    hass_client_no_auth: ClientSessionGenerator,
    hass_read_only_access_token: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.reports = [a_report("whole"), a_report("mine", ["p1"], period="2026-09")]
    await entry.runtime_data.async_fresh()
    client = await hass_client_no_auth()
    reader = await hass_ws_client(hass, hass_read_only_access_token)
    resolve = {
        "type": "media_source/resolve_media",
        "media_content_id": f"media-source://{DOMAIN}/monthly/2026-10/whole/energy_2026-10.pdf",
    }
    await reader.send_json_auto_id(resolve)
    before = (await reader.receive_json())["result"]["url"]
    monkeypatch.setattr(access, "scope", lambda user: None if user.is_admin else frozenset({"p1"}))
    listed = (await browse(reader, "/monthly"))["result"]["children"]
    assert [one["title"] for one in listed] == ["2026-09"]
    await reader.send_json_auto_id(resolve)
    refused = await reader.receive_json()
    assert not refused["success"] and refused["error"]["message"] == "There is no such report."
    assert (await client.get(before)).status == 404  # looked at again where it is opened


# --- what the server tells


async def test_a_report_that_is_ready_is_told_to_automations_and_shown(
    hass: HomeAssistant, entry: MockConfigEntry, server: StandIn, hass_client: ClientSessionGenerator
) -> None:
    client = await hass_client()
    events = async_capture_events(hass, "meter_batch_report")
    server.reports = [a_report(schedule="monthly for all")]
    answer = await client.post(EVENT, json={"event": "report_ready", "report": server.reports[0]})
    assert answer.status == 200
    await hass.async_block_till_done()
    (event,) = events
    assert event.data["event"] == "ready" and event.data["schedule"] == "monthly for all"
    assert event.data["files"][0]["path"] == "/api/meter_batch/reports/r1/energy_2026-10.pdf"
    state = hass.states.get("event.analytics_reports")
    assert state is not None and state.attributes["event_type"] == "ready" and state.attributes["period"] == "2026-10"
    assert (await client.get(event.data["files"][0]["path"])).status == 200  # the list is fresh


async def test_a_scheduled_report_that_failed_is_an_alarm_until_one_is_ready(
    hass: HomeAssistant, entry: MockConfigEntry, server: StandIn, hass_client: ClientSessionGenerator
) -> None:
    client = await hass_client()
    site = await async_get_site(hass)
    events = async_capture_events(hass, "meter_batch_report")
    failed = {"event": "report_failed", "kind": "daily", "period": "2026-10-31", "reason": "the disk is full"}

    async def tell(**body: Any) -> list[str]:
        assert (await client.post(EVENT, json=body)).status == 200
        await hass.async_block_till_done()
        return [one.kind for one in site.alarms.open if one.until is None]

    assert await tell(**failed) == []  # who asked for it was told
    assert events[0].data == {
        "event": "failed", "report": "daily", "period": "2026-10-31", "schedule": None, "reason": "the disk is full",
    }  # fmt: skip
    state = hass.states.get("event.analytics_reports")
    assert state is not None and state.attributes["event_type"] == "failed"
    assert await tell(**failed, schedule="every day") == ["report_failed"]
    assert len(await tell(**failed, schedule="monthly for all")) == 2
    assert len(await tell(event="report_ready", report=a_report(schedule="another"))) == 2
    assert len(await tell(event="report_ready", report=a_report(schedule=None))) == 2
    assert await tell(event="report_ready", report=a_report(schedule="monthly for all")) == ["report_failed"]


async def test_the_alarm_of_a_schedule_that_is_no_more_ends(
    hass: HomeAssistant, entry: MockConfigEntry, server: StandIn, hass_client: ClientSessionGenerator
) -> None:
    client = await hass_client()
    site = await async_get_site(hass)
    failed = {"event": "report_failed", "kind": "daily", "period": "2026-10-31", "reason": "full", "schedule": "gone"}
    assert (await client.post(EVENT, json=failed)).status == 200

    async def after(**status: Any) -> list[str]:
        server.schedules = status
        await entry.runtime_data.async_fresh()
        return [one.kind for one in site.alarms.open if one.active]

    assert await after(schedules=None) == ["report_failed"]  # it has not read them yet
    assert await after(schedules=[{"name": "gone"}]) == ["report_failed"]
    assert await after(schedules=[], problems=["schedules.toml: line 3"]) == ["report_failed"]
    assert await after(schedules=[{"name": "other"}]) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"event": "other"},
        {"event": "report_ready"},
        {"event": "report_ready", "report": {"id": "r"}},
        {"event": "report_ready", "report": a_report(points="p1")},
        {"event": "report_ready", "report": a_report(files=[{"name": "../x", "format": "pdf", "size": 1}])},
        {"event": "report_failed", "kind": "daily"},
    ],
)
async def test_what_is_no_event_is_refused(
    hass: HomeAssistant, entry: MockConfigEntry, hass_client: ClientSessionGenerator, body: dict[str, Any]
) -> None:
    answer = await (await hass_client()).post(EVENT, json=body)
    assert answer.status == 400 and (await answer.json())["error"] == "analytics_bad_event"
