"""The real analytics server and Home Assistant find each other; its apps and their kernels pass through the proxy."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import struct
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import WSServerHandshakeError
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator, WebSocketGenerator

from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.analytics import analytics_entry
from custom_components.meter_batch.analytics_session import COOKIE
from custom_components.meter_batch.const import DOMAIN
from custom_components.meter_batch.site import async_get_site

from ..conftest import ROOT, need
from .analytics_server import BASE
from .conftest import make_point, wait_for
from .test_proxy import KERNEL, ask

PYTHON = ROOT / ".venv-plain" / "bin" / "python"


def message(channel: str, kind: str) -> bytes:
    """A message to a kernel, as its WebSocket wants it (v1.kernel.websocket.jupyter.org)."""
    header = {"msg_id": uuid4().hex, "msg_type": kind, "session": "s", "username": "u", "version": "5.3", "date": ""}
    parts = [channel.encode(), *(json.dumps(one).encode() for one in (header, {}, {}, {}))]
    first = 8 * (len(parts) + 2)
    offsets = [first]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


@pytest.mark.parametrize("expected_lingering_timers", [True])
async def test_a_server_that_is_started_is_found_and_its_app_runs_in_home_assistants_frame(
    hass: HomeAssistant,
    socket_enabled: None,
    hass_client_no_auth: ClientSessionGenerator,
    hass_ws_client: WebSocketGenerator,
    hass_access_token: str,
    hass_read_only_access_token: str,
    tmp_path: Path,
) -> None:
    need(".venv-plain", PYTHON.exists())
    assert await async_setup_component(hass, DOMAIN, {})
    site = await async_get_site(hass)
    await site.registry.async_apply({"p1": make_point()}, SYSTEM, "add")
    browser = await hass_client_no_auth()
    token = tmp_path / "token"
    token.write_text(hass_access_token, encoding="utf-8")
    address = f"http://{browser.server.host}:{browser.server.port}"
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "meter_batch_analytics", "serve", "--url", address, "--token-file", token,
        "--data", tmp_path / "data", "--listen", "127.0.0.1:0", "--kernels", "1",
        cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        entry: Any = await wait_for(lambda: analytics_entry(hass), 60)
        await wait_for(lambda: entry.state is ConfigEntryState.LOADED)
        socket, other = await hass_ws_client(hass), await hass_ws_client(hass, hass_read_only_access_token)
        status = await ask(socket, "analytics/status")
        assert {one["key"] for one in status["apps"]} == {"explorer", "trends", "quality"}
        session = (await ask(socket, "analytics/session", language="zh-Hans"))["session"]
        others = (await ask(other, "analytics/session"))["session"]

        browser.session.cookie_jar.update_cookies({COOKIE: session})
        app = next(one["path"] for one in status["apps"] if one["key"] == "quality")
        async with asyncio.timeout(90):
            # Until it has read the registry it says that there is nothing to show yet.
            while True:
                answer = await browser.get(f"{app}?lang=zh-Hans&theme=dark")
                if answer.status != 503:
                    break
                await asyncio.sleep(0.5)
        page = await answer.text()
        assert answer.status == 200 and '<html lang="zh-CN"' in page and "Traceback" not in page
        found = re.search(r'tell\("kernel", "([0-9a-f-]+)"', page)
        assert found is not None and 'data-model="' in page  # cells have run and made widgets

        channels = f"{BASE}/api/kernels/{found[1]}/channels"
        passed = await browser.ws_connect(channels, protocols=(KERNEL,), headers={"Origin": address})
        assert passed.protocol == KERNEL
        await passed.send_bytes(message("shell", "kernel_info_request"))
        async with asyncio.timeout(20):
            while b"kernel_info_reply" not in await passed.receive_bytes():
                pass
        await passed.close()

        browser.session.cookie_jar.update_cookies({COOKIE: others})
        with pytest.raises(WSServerHandshakeError) as refused:
            await browser.ws_connect(channels, protocols=(KERNEL,))
        assert refused.value.status in {403, 404}
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
