"""What the engine says reaches people in the language of the house."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from pytest_homeassistant_custom_component.common import MockConfigEntry

import custom_components.meter_batch as package
from custom_components.meter_batch.engine.sentences import SENTENCES, listed, say, together
from custom_components.meter_batch.wording import PREFIX, async_in_words

from .conftest import StartFleet, port_of, wait_for
from .test_config_flow import DLT645, MODBUS, begin, go
from .test_live import act, set_up

CHINESE = re.compile(r"[一-鿿]")
ENGLISH = re.compile(r"\b(the|is|to|no|and|of|check|meter|line|it)\b", re.IGNORECASE)


def translated(language: str) -> dict[str, str]:
    """The sentences in a language, by the engine's keys."""
    file = Path(package.__file__).parent / "translations" / f"{language}.json"
    texts = json.loads(file.read_text(encoding="utf-8"))["exceptions"]
    return {key.removeprefix(PREFIX): one["message"] for key, one in texts.items() if key.startswith(PREFIX)}


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def is_chinese(text: str) -> bool:
    return bool(CHINESE.search(text)) and not ENGLISH.search(text)


def test_english_is_what_the_engine_says() -> None:
    assert translated("en") == SENTENCES


def test_chinese_has_every_sentence_with_the_same_facts() -> None:
    chinese = translated("zh-Hans")
    assert chinese.keys() == SENTENCES.keys()
    for key, text in chinese.items():
        assert placeholders(text) == placeholders(SENTENCES[key]), key
        assert is_chinese(re.sub(r"{\w+}", "", text)) or key in ("list", "sequence", "meter_flaw"), f"{key}: {text}"


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_titles_of_menus_hold_no_facts_which_the_frontend_does_not_fill_in(language: str) -> None:
    file = Path(package.__file__).parent / "translations" / f"{language}.json"
    texts = json.loads(file.read_text(encoding="utf-8"))
    menus = [step for flow in ("config", "options") for step in texts[flow]["step"].values() if "menu_options" in step]
    assert len(menus) >= 4
    assert [menu["title"] for menu in menus if "{" in menu["title"]] == []


def test_keys_are_what_home_assistant_takes_for_keys() -> None:
    for key in SENTENCES:
        assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", PREFIX + key)


async def test_sentences_inside_sentences_are_translated_too(hass: HomeAssistant) -> None:
    hass.config.language = "zh-Hans"
    refused = say(
        "dlt645_refused",
        meter="000000000012",
        question=say("dlt645_own_address"),
        reasons=listed([say("dlt645_reason_no_such_data"), say("dlt645_reason_bit", bit=7)]),
        code="82",
    )
    words = await async_in_words(hass, together([refused, say("line_closed", line="{East}")]))
    assert words == ("电表 000000000012 拒绝读取 通信地址：无请求数据、错误位 7（错误字 82）。线路 {East} 已关闭。")


async def test_in_english_and_in_languages_we_do_not_have_people_read_the_engine_itself(hass: HomeAssistant) -> None:
    sentence = say("meter_flaw", name="Hall", error=say("bad_unit", address="x", most=247))
    for language in ("en", "de"):
        hass.config.language = language
        assert await async_in_words(hass, sentence) == sentence
    assert await async_in_words(hass, "plain {text}") == "plain {text}"


async def test_the_test_of_a_line_speaks_chinese(
    hass: HomeAssistant, start_fleet: StartFleet, socket_enabled: None
) -> None:
    hass.config.language = "zh-Hans"
    result = await begin(hass, "tcp", host="127.0.0.1", port=1, protocol="modbus-tcp")
    result = await go(hass, result, {})
    assert result["description_placeholders"]["problem"].startswith("127.0.0.1:1 没有程序在监听")

    fleet = await start_fleet(MODBUS.format(protocol="modbus-tcp"))
    result = await begin(hass, "tcp", host="127.0.0.1", port=port_of(fleet), protocol="modbus-tcp")
    result = await go(hass, result, {"test_address": "9"})
    assert is_chinese(result["description_placeholders"]["problem"]), result["description_placeholders"]

    fleet = await start_fleet(MODBUS.format(protocol="modbus-rtu"))
    result = await begin(hass, "tcp", host="127.0.0.1", port=port_of(fleet), protocol="modbus-tcp")
    result = await go(hass, result, {"test_address": "7"})
    assert result["description_placeholders"]["problem"] == translated("zh-Hans")["test_answers_rtu"]
    assert is_chinese(result["description_placeholders"]["hint"])

    fleet = await start_fleet(DLT645.format(listen="tcp://127.0.0.1:0", protocol="dlt645-2007", template="dlt645-1ph"))
    result = await begin(hass, "tcp", host="127.0.0.1", port=port_of(fleet), protocol="dlt645-2007")
    result = await go(hass, result, {"baud": "9600", "parity": "even", "stop_bits": "1"})
    result = await go(hass, result, {"test_address": "13"})
    problem = result["description_placeholders"]["problem"]
    assert problem.startswith("向电表 000000000013 读取 00010000 时没有应答；请检查电表的供电、地址、")
    assert is_chinese(problem)


async def test_a_serial_server_without_a_port_is_told_and_not_a_failure_of_ours(hass: HomeAssistant) -> None:
    hass.config.language = "zh-Hans"
    result = await begin(hass, "serial", serial_port="rfc2217://gateway", protocol="modbus-rtu")
    result = await go(hass, result, {"baud": "9600", "parity": "none", "stop_bits": "1"})
    result = await go(hass, result, {})
    assert result["description_placeholders"]["problem"].startswith("“rfc2217://gateway”需要主机")


async def test_a_line_that_cannot_be_opened_says_so_in_chinese(
    hass: HomeAssistant, add_line: Callable[..., MockConfigEntry], socket_enabled: None
) -> None:
    hass.config.language = "zh-Hans"
    entry = add_line("东区", port=1)
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert entry.error_reason_translation_key == "line_unavailable"
    assert entry.error_reason_translation_placeholders is not None
    assert entry.error_reason_translation_placeholders["error"].startswith("127.0.0.1:1 没有程序在监听")


@pytest.mark.parametrize("point", ["Dead", "Flat"])
async def test_a_failed_read_is_told_in_chinese(
    hass: HomeAssistant, start_fleet: StartFleet, add_line: Callable[..., MockConfigEntry], point: str
) -> None:
    hass.config.language = "zh-Hans"
    fleet, _, south = await set_up(hass, start_fleet, add_line)
    if point == "Flat":
        await fleet.stop()
        await wait_for(lambda: not south.runtime_data.coordinator.last_update_success)
    with pytest.raises(HomeAssistantError) as failed:
        await act(hass, "read_now", point=point)
    assert failed.value.translation_placeholders is not None
    assert is_chinese(failed.value.translation_placeholders["error"]), failed.value.translation_placeholders


async def test_two_meters_at_one_address_are_told_in_chinese(hass: HomeAssistant) -> None:
    hass.config.language = "zh-Hans"
    words = await async_in_words(hass, say("unit_shared", names='"Hall", "Pump"', address="1"))
    assert words.startswith('"Hall", "Pump" 在此线路上的站号同为 1')
