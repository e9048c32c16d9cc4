"""Who may do what: each action and command asks the one gate."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from homeassistant.auth.models import User
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError, Unauthorized, UnknownUser
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

import custom_components.meter_batch as package
from custom_components.meter_batch.access import SYSTEM, Operation, async_check
from custom_components.meter_batch.const import DOMAIN

LIST = "name,line,address,template\nHall,East,1,eastron/sdm630\n"

READING = [
    ("get_values", {}),
    ("export_points", {}),
    ("get_history", {"period": "today"}),
    ("list_commissioning", {}),
    ("commissioning_sheet", {}),
]
CHANGING = [
    ("read_now", {"point": "Hall"}),
    ("import_points", {"content": LIST}),
    ("export_points", {"path": "points.csv"}),
    ("undo", {}),
    ("undo", {"again": True}),
    ("commission_point", {"point": "Hall", "displayed": "1"}),
    ("correct_interval", {"point": "Hall", "start": "2026-07-01T10:15", "take_back": True, "reason": "why"}),
    ("get_revisions", {"point": "Hall", "start": "2026-07-01T10:15"}),
]


@pytest.fixture
async def site(hass: HomeAssistant, add_line: Callable[..., MockConfigEntry]) -> None:
    add_line("East", disabled=True)
    assert await async_setup_component(hass, DOMAIN, {})


async def act(hass: HomeAssistant, name: str, data: dict[str, Any], user: User | None = None) -> dict[str, Any]:
    context = Context(user_id=user.id if user else None)
    answer = await hass.services.async_call(DOMAIN, name, data, True, context, return_response=True)
    assert answer is not None
    return dict(answer)


async def test_administrators_may_do_everything(hass: HomeAssistant, site: None, hass_admin_user: User) -> None:
    done = await act(hass, "import_points", {"content": LIST}, hass_admin_user)
    assert (done["applied"], done["new"]) == (1, 1)
    for name, data in READING:
        await act(hass, name, data, hass_admin_user)
    await act(hass, "undo", {}, hass_admin_user)


@pytest.mark.parametrize(("name", "data"), READING)
async def test_everybody_may_read(
    hass: HomeAssistant, site: None, hass_read_only_user: User, name: str, data: dict[str, Any]
) -> None:
    await act(hass, name, data, hass_read_only_user)


@pytest.mark.parametrize(("name", "data"), CHANGING)
async def test_nobody_else_may_change_or_occupy_a_line(
    hass: HomeAssistant, site: None, hass_read_only_user: User, name: str, data: dict[str, Any]
) -> None:
    await act(hass, "import_points", {"content": LIST})
    ordinary = MockUser(groups=[]).add_to_hass(hass)
    for user in (hass_read_only_user, ordinary):
        with pytest.raises(Unauthorized):
            await act(hass, name, data, user)


async def test_automations_act_as_the_system_and_unknown_users_not_at_all(hass: HomeAssistant) -> None:
    assert await async_check(hass, Context(), Operation.CONFIGURE) is SYSTEM
    with pytest.raises(UnknownUser):
        await async_check(hass, Context(user_id="nobody"), Operation.READ)


async def test_websocket_commands_that_change_are_refused_to_others(
    hass: HomeAssistant, site: None, hass_ws_client: WebSocketGenerator, hass_read_only_access_token: str
) -> None:
    client = await hass_ws_client(hass, hass_read_only_access_token)
    for command in ({"type": "meter_batch/points/import", "content": LIST}, {"type": "meter_batch/log/list"}):
        await client.send_json_auto_id(command)
        answer = await client.receive_json()
        assert (answer["success"], answer["error"]["code"]) == (False, "unauthorized")
    await client.send_json_auto_id({"type": "meter_batch/points/list"})
    assert (await client.receive_json())["result"] == {"points": {}}


async def test_websocket_commands_list_import_and_log(
    hass: HomeAssistant, site: None, hass_ws_client: WebSocketGenerator, hass_admin_user: User
) -> None:
    client = await hass_ws_client(hass)

    async def ask(**command: Any) -> Any:
        await client.send_json_auto_id(command)
        answer = await client.receive_json()
        assert answer["success"], answer
        return answer["result"]

    dry = await ask(type="meter_batch/points/import", content=LIST)
    assert (dry["new"], dry["applied"]) == (1, 0)
    assert await ask(type="meter_batch/points/list") == {"points": {}}
    done = await ask(type="meter_batch/points/import", content=LIST, dry_run=False)
    assert done["applied"] == 1
    ((id_, point),) = (await ask(type="meter_batch/points/list"))["points"].items()
    assert id_ == done["rows"][0]["id"]
    assert point["name"] == "Hall"
    (entry,) = (await ask(type="meter_batch/log/list"))["entries"]
    assert (entry["action"], entry["user"]) == ("import_points", hass_admin_user.id)

    await client.send_json_auto_id({"type": "meter_batch/values/subscribe", "points": ["hall"]})
    assert (await client.receive_json())["success"]
    event = (await client.receive_json())["event"]
    assert event["points"][id_] == {
        "name": "Hall",
        "available": False,
        "problem": "line",
        "explanation": None,
        "registers": {},
    }

    await client.send_json_auto_id(
        {"type": "meter_batch/points/import", "content": "name,address\nHall,x\n", "dry_run": False}
    )
    answer = await client.receive_json()
    assert answer["error"]["translation_key"] == "import_refused"


async def test_bad_arguments_of_actions_are_told_in_words(hass: HomeAssistant, site: None, tmp_path: Path) -> None:
    await act(hass, "import_points", {"content": LIST})
    for name, data, key in (
        ("get_values", {"points": ["nobody"]}, "unknown_point"),
        ("get_values", {"registers": ["nothing"]}, "unknown_register"),
        ("read_now", {"point": "Hall"}, "line_not_running"),
        ("import_points", {}, "file_or_content"),
        ("import_points", {"content": LIST, "line": "Nowhere"}, "unknown_line"),
        ("import_points", {"path": "/etc/passwd"}, "path_not_allowed"),
        ("import_points", {"path": str(tmp_path / "none.csv")}, "path_failed"),
        ("import_points", {"content": "name,address\nHall,x\n"}, "import_refused"),
        ("export_points", {"path": "/etc/points.csv"}, "path_not_allowed"),
        ("export_points", {"path": str(tmp_path / "no" / "points.csv")}, "path_failed"),
    ):
        with pytest.raises(ServiceValidationError) as refused:
            await act(hass, name, data)
        assert refused.value.translation_key == key


async def test_a_refused_list_says_which_numbers_are_rows(hass: HomeAssistant, site: None) -> None:
    with pytest.raises(ServiceValidationError) as refused:
        await act(hass, "import_points", {"content": "name,address\nHall,x\n"})
    assert (refused.value.translation_placeholders or {})["problems"].startswith("row 2: ")


async def test_a_list_goes_out_and_in_again_by_file(hass: HomeAssistant, site: None, tmp_path: Path) -> None:
    await act(hass, "import_points", {"content": LIST})
    for name in ("points.csv", "points.xlsx"):
        path = str(tmp_path / name)
        assert await act(hass, "export_points", {"path": path}) == {"points": 1, "path": path}
        again = await act(hass, "import_points", {"path": path})
        assert (again["unchanged"], again["applied"]) == (1, 0)


async def test_bad_rows_are_left_out_only_when_that_is_asked_for(hass: HomeAssistant, site: None) -> None:
    content = LIST + "Bad,East,1,eastron/sdm360\n"
    dry = await act(hass, "import_points", {"content": content, "dry_run": True})
    assert dry["problems"][0] == {
        "row": 3,
        "column": "template",
        "problem": "import_unknown_template_like",
        "text": 'There is no template "eastron/sdm360"; did you mean "eastron/sdm630"?',
    }
    with pytest.raises(ServiceValidationError):
        await act(hass, "import_points", {"content": content})
    assert (await act(hass, "get_values", {}))["points"] == {}
    assert (await act(hass, "import_points", {"content": content, "skip_bad": True}))["applied"] == 1


async def test_problems_are_told_in_the_language_of_home_assistant(hass: HomeAssistant, site: None) -> None:
    hass.config.language = "zh-Hans"
    dry = await act(hass, "import_points", {"content": LIST.replace("East", "West"), "dry_run": True})
    assert "没有线路“West”" in dry["problems"][0]["text"]


def test_every_action_and_command_asks_the_gate() -> None:
    folder = Path(package.__file__).parent
    for name in (
        "services.py",
        "websocket.py",
        "alarm_actions.py",
        "alarm_rule_actions.py",
        "commissioning_actions.py",
    ):
        source = (folder / name).read_text(encoding="utf-8")
        handlers = re.findall(r"^async def ([a-z]\w*)\((?:call|hass)[^)]*\)[^:]*:\n((?:    .*\n|\n)+)", source, re.M)
        assert len(handlers) >= 2
        for handler, body in handlers:
            assert "access.async_check(" in body or "access.check_user(" in body, f"{name}: {handler}"
    # of the HTTP API each view is asked in test_api.py
    described = json.loads((folder / "icons.json").read_text(encoding="utf-8"))["services"]
    assert len(described) >= 19
