"""One question over Home Assistant's WebSocket API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import AwayError, SourceError
from .http import Api


async def command(api: Api, message: Mapping[str, Any], *, timeout_s: float = 60.0) -> Any:
    """The result of a command. AwayError where Home Assistant does not answer, SourceError where it refuses."""
    import aiohttp

    url = api.url.replace("http", "ws", 1) + "/api/websocket"
    limit = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with aiohttp.ClientSession(timeout=limit) as session, session.ws_connect(url, max_msg_size=0) as socket:
            await socket.receive_json()  # auth_required
            await socket.send_json({"type": "auth", "access_token": api.token})
            if (await socket.receive_json()).get("type") != "auth_ok":
                raise SourceError(
                    f"Home Assistant at {api.url} refuses the token: it is wrong or was deleted. "
                    "Make a new long-lived access token in your profile there"
                )
            await socket.send_json({"id": 1, **message})
            answer = await socket.receive_json()
    except (aiohttp.ClientError, TimeoutError, TypeError, ValueError, OSError) as error:
        raise AwayError(f"Home Assistant at {api.url} does not answer (WebSocket): {error}") from error
    if not answer.get("success"):
        reason = answer.get("error", {}).get("message", "no reason given")
        raise SourceError(f"Home Assistant at {api.url} does not give what was asked for: {reason}")
    return answer["result"]
