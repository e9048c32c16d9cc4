"""Hourly statistics fill what only they know; spoken over a WebSocket as Home Assistant speaks it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from meter_batch_analytics.errors import AwayError, SourceError
from meter_batch_analytics.site import Site
from meter_batch_analytics.sources.http import Api
from meter_batch_analytics.sources.recorder import RecorderSource

from .small_site import TOKEN, ZONE, registry

MIDNIGHT = datetime(2026, 3, 28, 23, tzinfo=UTC)  # in Berlin, of the day with 23 hours
HOUR = timedelta(hours=1)


@pytest.fixture
def url() -> Iterator[str]:
    async def socket(request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        await answer.send_json({"type": "auth_required"})
        good = (await answer.receive_json())["access_token"] == TOKEN
        await answer.send_json({"type": "auth_ok" if good else "auth_invalid"})
        if good:
            asked = await answer.receive_json()
            await answer.send_json({"id": asked["id"], "type": "result", "success": True, "result": _statistics(asked)})
        await answer.close()
        return answer

    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_get("/api/websocket", socket)
    runner = web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(runner.cleanup())
    loop.close()


def _statistics(asked: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    since, until = (datetime.fromisoformat(asked[key]) for key in ("start_time", "end_time"))
    hours = [MIDNIGHT + number * HOUR for number in range(30) if since <= MIDNIGHT + number * HOUR < until]
    rows = [
        {"start": one.timestamp() * 1000, "end": (one + HOUR).timestamp() * 1000, "change": 0.5 if number else None}
        for number, one in enumerate(hours)
    ]
    return {id_: rows for id_ in asked["statistic_ids"] if id_ == "meter_batch:p1_energy_import"}


def _site(url: str, token: str = TOKEN) -> Site:
    return Site(registry(), [RecorderSource(Api(url, token))])


def test_hours_and_days_of_the_recorder_have_no_flags_and_no_completeness(url: str) -> None:
    asked = {"since": "2026-03-29", "until": "2026-03-30", "quantities": ["energy_import"]}
    hours = _site(url).frame(**asked, resolution="hour")
    assert len(hours) == 22  # the first has no change
    assert set(hours["energy_import_kwh"]) == {0.5} and set(hours["origin"]) == {"recorder"}
    assert set(hours["completeness"]) == {0.0} and set(hours["flags"]) == {""}
    (day,) = _site(url).frame(**asked, resolution="day").to_dict("records")
    assert day["energy_import_kwh"] == 11.0
    assert day["length_s"] == 23 * 3600
    assert day["demand_mean_kw"] == 0.5  # of the 22 hours that have a change
    assert day["start"].isoformat() == "2026-03-29T00:00:00+01:00" and str(day["start"].tz) == ZONE


async def test_it_works_where_an_event_loop_runs_already(url: str) -> None:
    assert len(_site(url).frame("p1", since="2026-03-29", until="2026-03-30", resolution="hour")) == 22


def test_a_refused_token_and_an_absent_home_assistant_are_said_in_words(url: str) -> None:
    with pytest.raises(SourceError, match="refuses the token"):
        _site(url, "another").frame(since="2026-03-29", until="2026-03-30")
    with pytest.raises(AwayError, match="does not answer"):
        _site("http://127.0.0.1:9").frame(since="2026-03-29", until="2026-03-30")
