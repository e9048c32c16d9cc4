"""The page Analytics stands in the sidebar in the house's language, and is told what it needs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from homeassistant.auth.models import User
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator, WebSocketGenerator

from custom_components.meter_batch import panel
from custom_components.meter_batch.const import DOMAIN

from .analytics_server import StandIn
from .test_analytics import server as server  # a fixture
from .test_proxy import ask
from .test_proxy import entry as entry
from .test_proxy import socket as socket

PANEL = "meter-batch-analytics"


def shown(hass: HomeAssistant) -> Any:
    return hass.data["frontend_panels"].get(PANEL)


async def test_the_page_stands_in_the_sidebar_for_everybody(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    one = shown(hass)
    assert (one.sidebar_title, one.require_admin) == ("Analytics", False)
    assert one.config["_panel_custom"]["name"] == "meter-batch-analytics-panel"


async def test_its_title_is_in_the_language_of_the_house(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    await hass.config.async_update(language="zh-Hans")
    await hass.async_block_till_done()
    assert shown(hass).sidebar_title == "分析"


async def test_its_module_is_served_under_a_name_that_changes_with_it(
    hass: HomeAssistant, entry: MockConfigEntry, hass_client_no_auth: ClientSessionGenerator
) -> None:
    url = shown(hass).config["_panel_custom"]["module_url"]
    assert re.fullmatch(r"/meter_batch_static/meter-batch-analytics-[0-9a-f]{12}\.js", url)
    answer = await (await hass_client_no_auth()).get(url)
    assert answer.status == 200 and "javascript" in answer.headers["Content-Type"]
    assert "max-age" in answer.headers["Cache-Control"]
    assert await answer.text() == panel._SOURCE.read_text(encoding="utf-8")


async def test_without_a_server_there_is_no_page(hass: HomeAssistant) -> None:
    assert await async_setup_component(hass, DOMAIN, {})
    assert "frontend_panels" not in hass.data or shown(hass) is None


async def test_the_page_is_told_the_apps_with_their_names_in_each_language(socket: Any) -> None:
    found = await ask(socket, "analytics/status")
    assert found["state"] == "ok"
    assert [(one["key"], one["path"], one["name"]["zh-Hans"]) for one in found["apps"]] == [
        ("explorer", "/api/meter_batch/analytics/apps/explorer", "浏览"),
        ("trends", "/api/meter_batch/analytics/apps/trends", "趋势"),
    ]


async def test_the_page_is_told_why_the_server_does_not_answer(
    hass: HomeAssistant, socket: Any, server: StandIn, entry: MockConfigEntry
) -> None:
    server.token = "another"
    assert (await ask(socket, "analytics/status"))["state"] == "refused"
    await server.stop()
    away = await ask(socket, "analytics/status")
    assert away["state"] == "away" and server.url in away["message"]
    assert [one["key"] for one in away["apps"]] == ["explorer", "trends"]  # they stay known
    await hass.config_entries.async_remove(entry.entry_id)
    assert (await ask(socket, "analytics/status"))["state"] == "none"


async def test_a_session_speaks_the_users_language(
    hass: HomeAssistant, socket: Any, hass_admin_user: User, hass_storage: dict[str, Any]
) -> None:
    from homeassistant.components.frontend.storage import async_user_store

    from custom_components.meter_batch.analytics_session import async_language, sessions

    assert await async_language(hass, hass_admin_user) == "en"
    await (await async_user_store(hass, hass_admin_user.id)).async_set_item("language", {"language": "zh-Hans"})
    assert await async_language(hass, hass_admin_user) == "zh-Hans"
    found = await ask(socket, "analytics/session")
    assert sessions(hass)._visits[found["session"]].language == "zh-Hans"


async def test_a_reader_is_told_neither_addresses_nor_what_the_network_said(
    hass: HomeAssistant,
    server: StandIn,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
    hass_read_only_access_token: str,
) -> None:
    reader = await hass_ws_client(hass, hass_read_only_access_token)
    server.token = "another"
    refused = await ask(reader, "analytics/status")
    await server.stop()
    away = await ask(reader, "analytics/status")
    assert (refused["state"], away["state"]) == ("refused", "away")
    assert (
        refused["message"]
        == away["message"]
        == ("The analytics server cannot be used at present. An administrator can see why.")
    )


async def test_the_language_of_the_page_counts_before_the_house_s(hass: HomeAssistant, socket: Any) -> None:
    from custom_components.meter_batch.analytics_session import sessions

    assert hass.config.language == "en"
    for asked, spoken in (("zh-Hans", "zh-Hans"), ("zh-CN", "zh-Hans"), ("zh-Hans-CN", "zh-Hans"), ("zh-TW", "en")):
        found = await ask(socket, "analytics/session", language=asked)
        assert sessions(hass)._visits[found["session"]].language == spoken


@pytest.mark.parametrize("text", ["de", "zh-Hant", None, ""])
def test_what_we_do_not_speak_is_english(text: str | None) -> None:
    from custom_components.meter_batch.analytics_session import language_of

    assert language_of(text) == "en"


async def test_readers_get_a_session_too(
    hass: HomeAssistant, entry: MockConfigEntry, hass_ws_client: WebSocketGenerator, hass_read_only_access_token: str
) -> None:
    reader = await hass_ws_client(hass, hass_read_only_access_token)
    assert len((await ask(reader, "analytics/session"))["session"]) > 40
