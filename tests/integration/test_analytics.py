"""The analytics server makes itself known, or is given by hand; it is watched, and nobody takes it for a line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory
from homeassistant.components.diagnostics import REDACTED
from homeassistant.config_entries import SOURCE_REAUTH, SOURCE_USER, ConfigEntry, ConfigEntryDisabler, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.meter_batch import access, analytics
from custom_components.meter_batch.analytics import origin_of
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.diagnostics import async_get_config_entry_diagnostics
from custom_components.meter_batch.link import lines
from custom_components.meter_batch.site import async_get_site
from custom_components.meter_batch.system_health import async_health

from .analytics_server import TOKEN, StandIn, a_report

SERVER = "/api/meter_batch/analytics_server"
type Client = Any


@pytest.fixture
async def server(socket_enabled: None) -> AsyncIterator[StandIn]:
    made = StandIn()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def there(hass: HomeAssistant, add_line: Callable[..., MockConfigEntry]) -> None:
    """A site whose only line is disabled."""
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})


@pytest.fixture
async def client(there: None, server: StandIn, hass_client: ClientSessionGenerator) -> Client:
    return await hass_client()


type Announce = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]


@pytest.fixture
def announce(client: Client, server: StandIn) -> Announce:
    async def do(**more: Any) -> tuple[int, dict[str, Any]]:
        answer = await client.post(SERVER, json={"url": server.url, "token": server.token, "version": "1", **more})
        return answer.status, await answer.json()

    return do


@pytest.fixture
async def entry(hass: HomeAssistant, announce: Announce) -> ConfigEntry[Any]:
    """The entry of a server that announced itself."""
    assert await announce() == (200, {"state": "added"})
    await hass.async_block_till_done()
    found = analytics.analytics_entry(hass)
    assert found is not None and found.state is ConfigEntryState.LOADED
    return found


async def test_a_server_that_announces_itself_is_added_without_a_question(
    hass: HomeAssistant, entry: ConfigEntry[Any], server: StandIn
) -> None:
    assert (entry.title, entry.unique_id) == ("Analytics", "analytics")
    assert dict(entry.data) == {"kind": "analytics", "url": server.url, "token": TOKEN}
    assert entry.runtime_data.data.version == "1.2.3"
    log = await (await async_get_site(hass)).log.async_read(5)
    assert log[0]["action"] == "add_analytics" and TOKEN not in json.dumps(log)


async def test_announced_again_it_is_the_same(hass: HomeAssistant, entry: ConfigEntry[Any], announce: Announce) -> None:
    assert await announce() == (200, {"state": "unchanged"})
    assert len(hass.config_entries.async_entries(DOMAIN)) == 2


async def test_a_server_that_moved_is_followed(
    hass: HomeAssistant, entry: ConfigEntry[Any], announce: Announce, server: StandIn
) -> None:
    await server.stop()
    server.port, server.token = 0, "another"
    await server.start()
    assert await announce() == (200, {"state": "updated"})
    await hass.async_block_till_done()
    assert (entry.data["url"], entry.data["token"]) == (server.url, "another")
    assert entry.state is ConfigEntryState.LOADED and entry.runtime_data.client.url == server.url


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"url": "ftp://x"}, 400, "analytics_bad_url"),
        ({"url": "http://127.0.0.1:1/elsewhere"}, 400, "analytics_bad_url"),
        ({"url": "http://user:secret@127.0.0.1:1"}, 400, "analytics_bad_url"),
        ({"url": 7}, 400, "analytics_bad_announcement"),
        ({"token": ""}, 400, "analytics_bad_announcement"),
        ({"url": "http://127.0.0.1:9"}, 502, "analytics_unreachable"),
        ({"token": "wrong"}, 502, "analytics_refused"),
    ],
)
async def test_what_is_no_server_of_ours_is_refused_in_words(
    hass: HomeAssistant, announce: Announce, body: dict[str, Any], status: int, error: str
) -> None:
    said, answer = await announce(**body)
    assert (said, answer["error"]) == (status, error) and len(answer["message"]) > 20
    assert analytics.analytics_entry(hass) is None


async def test_something_else_at_the_address_is_refused(announce: Announce, unused_tcp_port_factory: Any) -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    said, answer = await announce(url=f"http://127.0.0.1:{port}")
    assert (said, answer["error"]) == (502, "analytics_not_ours")
    other.close()


async def test_only_administrators_say_which_server_is_ours(
    there: None, server: StandIn, hass_client: ClientSessionGenerator, hass_read_only_access_token: str
) -> None:
    reader = await hass_client(hass_read_only_access_token)
    body = {"url": server.url, "token": TOKEN}
    assert (await reader.post(SERVER, json=body)).status == 403
    assert (await reader.delete(SERVER)).status == 403
    assert (await reader.post(f"{SERVER}/event", json={"event": "report_failed"})).status == 403


async def test_a_server_that_is_forgotten_is_gone_with_its_page(
    hass: HomeAssistant, entry: ConfigEntry[Any], client: Client
) -> None:
    assert (await (await client.delete(SERVER)).json()) == {"state": "removed"}
    assert analytics.analytics_entry(hass) is None
    assert "meter-batch-analytics" not in hass.data["frontend_panels"]
    assert (await client.delete(SERVER)).status == 400


async def test_a_disabled_server_is_not_enabled_by_its_announcement(
    hass: HomeAssistant, entry: ConfigEntry[Any], announce: Announce
) -> None:
    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    said, answer = await announce()
    assert (said, answer["error"]) == (400, "analytics_disabled")
    assert "meter-batch-analytics" not in hass.data["frontend_panels"]


async def test_the_server_is_no_line(hass: HomeAssistant, entry: ConfigEntry[Any]) -> None:
    assert [one.title for one in lines(hass)] == ["East"]
    site = await async_get_site(hass)
    assert [one.title for one in site.known().lines.values()] == ["East"]
    assert not entry.supports_options


# --- by hand


async def start(hass: HomeAssistant, source: str = SOURCE_USER, entry_id: str | None = None) -> Any:
    context: Any = {"source": source, **({"entry_id": entry_id} if entry_id else {})}
    return await hass.config_entries.flow.async_init(DOMAIN, context=context)


async def go_on(hass: HomeAssistant, result: Any, answer: dict[str, Any]) -> Any:
    return await hass.config_entries.flow.async_configure(result["flow_id"], answer)


async def test_a_server_is_added_by_hand_after_a_real_test(hass: HomeAssistant, there: None, server: StandIn) -> None:
    result = await start(hass)
    assert "analytics" in result["menu_options"]
    result = await go_on(hass, result, {"next_step_id": "analytics"})
    result = await go_on(hass, result, {"url": "nonsense", "token": TOKEN})
    assert result["errors"] == {"url": "bad_url"}
    result = await go_on(hass, result, {"url": server.url, "token": "wrong"})
    assert result["errors"] == {"token": "bad_token"}
    result = await go_on(hass, result, {"url": "http://127.0.0.1:9", "token": TOKEN})
    assert result["errors"] == {"base": "analytics_away"}
    assert "127.0.0.1:9" in result["description_placeholders"]["problem"]
    result = await go_on(hass, result, {"url": f" {server.url}/ ", "token": TOKEN})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"] == {"kind": "analytics", "url": server.url, "token": TOKEN}
    await hass.async_block_till_done()


async def test_there_is_one_server(hass: HomeAssistant, entry: ConfigEntry[Any]) -> None:
    assert "analytics" not in (await start(hass))["menu_options"]


async def test_its_address_can_be_changed(hass: HomeAssistant, entry: ConfigEntry[Any], server: StandIn) -> None:
    await server.stop()
    server.port = 0
    await server.start()
    result = await entry.start_reconfigure_flow(hass) if hasattr(entry, "start_reconfigure_flow") else None
    result = result or await start(hass, "reconfigure", entry.entry_id)
    assert result["step_id"] == "analytics"
    result = await go_on(hass, result, {"url": server.url, "token": TOKEN})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "analytics_changed")
    await hass.async_block_till_done()
    assert entry.data["url"] == server.url and entry.state is ConfigEntryState.LOADED


async def test_a_refused_token_is_asked_for(
    hass: HomeAssistant, entry: ConfigEntry[Any], server: StandIn, freezer: FrozenDateTimeFactory
) -> None:
    server.token = "new"
    await entry.runtime_data.async_refresh()
    await hass.async_block_till_done()
    (flow,) = hass.config_entries.flow.async_progress()
    assert (flow["context"]["source"], flow["step_id"]) == (SOURCE_REAUTH, "reauth_confirm")
    result = await go_on(hass, flow, {"token": "still wrong"})
    assert result["errors"] == {"token": "bad_token"}
    result = await go_on(hass, flow, {"token": "new"})
    assert result["reason"] == "reauth_successful"
    await hass.async_block_till_done()
    assert entry.data["token"] == "new" and entry.state is ConfigEntryState.LOADED


async def test_a_new_token_that_is_announced_ends_the_question(
    hass: HomeAssistant, entry: ConfigEntry[Any], server: StandIn, announce: Announce
) -> None:
    server.token = "new"
    await entry.runtime_data.async_refresh()
    await hass.async_block_till_done()
    assert await announce() == (200, {"state": "updated"})
    await hass.async_block_till_done()
    assert entry.state is ConfigEntryState.LOADED and not hass.config_entries.flow.async_progress()


# --- away


async def test_away_at_start_it_is_tried_again_and_its_page_stands_already(
    hass: HomeAssistant, entry: ConfigEntry[Any], server: StandIn, announce: Announce
) -> None:
    await server.stop()
    await hass.config_entries.async_reload(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert hass.data["frontend_panels"]["meter-batch-analytics"].sidebar_title == "Analytics"
    await server.start()
    assert await announce() == (200, {"state": "unchanged"})
    await hass.async_block_till_done()
    assert entry.state is ConfigEntryState.LOADED


async def test_away_for_long_it_is_worth_a_repair_until_it_is_back(
    hass: HomeAssistant, entry: ConfigEntry[Any], server: StandIn, freezer: FrozenDateTimeFactory
) -> None:
    await server.stop()

    async def later(by: timedelta) -> None:
        freezer.tick(by)
        await entry.runtime_data.async_refresh()

    issues = ir.async_get(hass)
    await later(timedelta(seconds=31))
    assert issues.async_get_issue(DOMAIN, "analytics_away") is None
    await later(timedelta(minutes=16))
    issue = issues.async_get_issue(DOMAIN, "analytics_away")
    assert issue is not None and issue.translation_placeholders is not None
    assert issue.translation_placeholders["url"] == server.url
    await server.start()
    await later(timedelta(minutes=1))
    assert issues.async_get_issue(DOMAIN, "analytics_away") is None


# --- who somebody is


async def test_whoami_says_what_the_server_must_know(
    there: None,
    hass: HomeAssistant,
    hass_client: ClientSessionGenerator,
    hass_read_only_access_token: str,
    hass_read_only_user: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = await hass_client(hass_read_only_access_token)
    who = await (await reader.get("/api/meter_batch/whoami")).json()
    assert who == {
        "user": hass_read_only_user.id,
        "name": hass_read_only_user.name,
        "admin": False,
        "language": "en",
        "scope": None,
    }
    monkeypatch.setattr(access, "scope", lambda _user: frozenset({"p2", "p1"}))
    assert (await (await reader.get("/api/meter_batch/whoami")).json())["scope"] == ["p1", "p2"]


async def test_whoami_is_for_who_is_signed_in(there: None, hass_client_no_auth: ClientSessionGenerator) -> None:
    assert (await (await hass_client_no_auth()).get("/api/meter_batch/whoami")).status == 401


# --- what it is sent when something does not work


async def test_diagnostics_hide_the_token_and_system_information_says_whether_it_answers(
    hass: HomeAssistant, entry: ConfigEntry[Any], server: StandIn
) -> None:
    server.reports.append(a_report())
    await entry.runtime_data.async_fresh()
    found = await async_get_config_entry_diagnostics(hass, entry)
    assert found["data"]["token"] == REDACTED and TOKEN not in json.dumps(found)
    assert found["reports"] == {"monthly": 1} and found["answers"] is True
    assert (await async_health(hass))["analytics_server"] == "ok"
    await server.stop()
    await hass.config_entries.async_reload(entry.entry_id)
    found = await async_get_config_entry_diagnostics(hass, entry)
    assert found["answers"] is False and TOKEN not in json.dumps(found)
    assert (await async_health(hass))["analytics_server"] == {"type": "failed", "error": "unreachable"}


@pytest.mark.parametrize("text", ["http://h:8130", "http://h:8130/", "http://h:8130/api/meter_batch/analytics/"])
def test_an_address_may_name_the_pages(text: str) -> None:
    assert origin_of(text) == "http://h:8130"
