"""Other programs get registry, history and changes over HTTP with a token, and clear words where they do not."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import current_thread
from typing import Any

import pytest
from aiohttp import ClientPayloadError
from homeassistant.core import HomeAssistant
from openpyxl import load_workbook

from custom_components.meter_batch import query
from custom_components.meter_batch.access import SYSTEM
from custom_components.meter_batch.engine import LedgerError
from custom_components.meter_batch.engine.ledger import Ledger, Verdict
from custom_components.meter_batch.engine.sentences import say
from custom_components.meter_batch.engine.wire import decode_changes, decode_intervals, decode_registry
from custom_components.meter_batch.site import Site

from .conftest import make_point
from .test_query import IMPORT, quarters, take
from .test_query import site as site  # a fixture

JUNE = datetime(2026, 6, 1, tzinfo=UTC)
API = "/api/meter_batch"
type Client = Any
type GetClient = Callable[..., Awaitable[Client]]
IN_JUNE = {"since": "2026-06-01T00:00Z", "until": "2026-07-01T00:00Z", "time_zone": "Europe/Berlin"}


@pytest.fixture
async def client(site: Site, hass_client: GetClient) -> Client:
    return await hass_client()


@pytest.fixture
async def reader(site: Site, hass_client: GetClient, hass_read_only_access_token: str) -> Client:
    """Somebody who is no administrator."""
    return await hass_client(hass_read_only_access_token)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "registry"),
        ("get", "changes?subscriber=archive"),
        ("delete", "changes?subscriber=archive"),
        ("post", "acknowledge"),
        ("get", "history?period=today"),
        ("post", "history"),
        ("post", "verify"),
    ],
)
async def test_without_a_token_there_is_nothing(
    site: Site, hass_client_no_auth: GetClient, method: str, path: str
) -> None:
    client = await hass_client_no_auth()
    assert (await client.request(method, f"{API}/{path}", json={})).status == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "changes?subscriber=archive"),
        ("delete", "changes?subscriber=archive"),
        ("post", "acknowledge"),
        ("post", "verify"),
    ],
)
async def test_only_administrators_subscribe_and_verify(reader: Client, method: str, path: str) -> None:
    answer = await reader.request(method, f"{API}/{path}", json={"subscriber": "archive", "revision": 1})
    assert answer.status == 403
    assert await answer.json() == {"error": "not_allowed", "message": "Only administrators may do this."}


async def test_who_may_read_gets_registry_and_history(reader: Client, site: Site) -> None:
    await take(site, quarters("p1", JUNE, 4))
    assert (await reader.get(f"{API}/registry")).status == 200
    answer = await reader.get(f"{API}/history", params={**IN_JUNE, "points": "p1"})
    assert answer.status == 200 and len(await answer.json()) == 4


async def test_the_registry_says_names_areas_lines_and_time_zone(client: Client, site: Site) -> None:
    await site.registry.async_apply({"p4": make_point("p4", "Roof", "4", "l2")}, SYSTEM, "add")
    found = decode_registry(await (await client.get(f"{API}/registry")).json())
    assert found.points == site.registry.points
    assert found.areas == {"p1": "Production", "p2": "Production", "p3": "Office"}
    assert found.lines == {"l1": "East", "l2": "West"}
    assert found.time_zone == site.hass.config.time_zone
    site.hass.config.country = "CN"
    assert decode_registry(await (await client.get(f"{API}/registry")).json()).country == "CN"


async def test_a_subscriber_gets_all_changes_once_and_what_it_did_not_acknowledge_again(
    client: Client, site: Site
) -> None:
    await take(site, quarters("p1", JUNE, 30))

    async def changes(limit: int = 10_000) -> Any:
        answer = await client.get(f"{API}/changes", params={"subscriber": "archive", "limit": str(limit)})
        assert answer.status == 200
        return decode_changes(await answer.json())

    first = await changes()
    assert [one.energies[IMPORT] for one in first.intervals] == [Decimal("0.25")] * 30
    assert (await changes()).intervals == first.intervals
    body = {"subscriber": "archive", "revision": first.revision, "cursor": first.cursor}
    assert (await client.post(f"{API}/acknowledge", json=body)).status == 200
    assert (await changes()).intervals == []
    await take(site, quarters("p1", JUNE, 32))
    assert len((await changes()).intervals) == 2
    assert (await client.delete(f"{API}/changes?subscriber=archive")).status == 200
    assert await site.ledger.async_call(lambda ledger: ledger.subscribers()) == {}


async def test_a_place_that_was_never_given_cannot_be_acknowledged(client: Client, site: Site) -> None:
    await take(site, quarters("p1", JUNE, 30))
    assert (await client.get(f"{API}/changes?subscriber=archive")).status == 200
    body = {"subscriber": "archive", "revision": 0, "cursor": "9999999.1.1795654500"}
    assert (await client.post(f"{API}/acknowledge", json=body)).status == 400
    changes = decode_changes(await (await client.get(f"{API}/changes?subscriber=archive")).json())
    assert len(changes.intervals) == 30


async def test_the_statistics_own_subscription_is_nobody_elses(client: Client) -> None:
    answer = await client.delete(f"{API}/changes?subscriber=statistics")
    assert answer.status == 400
    assert (await answer.json())["error"] == "subscriber_ours"


async def test_a_subscriber_may_take_a_large_change_in_small_parts(client: Client, site: Site) -> None:
    await take(site, [*quarters("p1", JUNE, 30), *quarters("p2", JUNE, 7)])
    found, more = [], True
    while more:
        changes = decode_changes(await (await client.get(f"{API}/changes?subscriber=archive&limit=10")).json())
        assert len(changes.intervals) <= 10
        body = {"subscriber": "archive", "revision": changes.revision, "cursor": changes.cursor}
        assert (await client.post(f"{API}/acknowledge", json=body)).status == 200
        found += changes.intervals
        more = changes.more
    stored = await site.ledger.async_call(lambda ledger: ledger.intervals(["p1", "p2"], JUNE, JUNE + timedelta(days=1)))
    assert sorted(found, key=lambda one: (one.point, one.start)) == stored


async def test_the_verdict_of_verify_is_given_and_the_thread_of_the_ledger_does_not_work_on_it(
    client: Client, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await take(site, quarters("p1", JUNE, 30))
    threads: list[str] = []
    verify = Ledger.verify

    def noted(ledger: Ledger) -> Verdict:
        threads.append(current_thread().name)
        return verify(ledger)

    monkeypatch.setattr(Ledger, "verify", noted)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    verdict = await (await client.post(f"{API}/verify")).json()
    assert verdict["ok"] is True
    assert (verdict["points"], verdict["records"], verdict["intervals"]) == (1, 31, 30)
    its = await site.ledger.async_call(lambda _: current_thread().name)
    assert threads and its not in threads
    assert not list(tmp_path.glob("meter_batch-*")), "the copy is removed"  # noqa: ASYNC240


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("get", "history", 400, "period_missing"),
        ("get", "history?period=someday", 400, "unknown_period"),
        ("get", "history?period=today&format=pdf", 400, "unknown_format"),
        ("get", "history?period=today&resolutoin=day", 400, "bad_field"),
        ("get", "history?period=today&points=p1,moon", 404, "unknown_point"),
        ("get", "history?period=today&areas=moon", 404, "unknown_area"),
        ("get", "history?period=today&lines=moon", 404, "unknown_line"),
        ("get", "history?since=2026-07-02&until=2026-07-01", 400, "period_empty"),
        ("post", "history", 400, "no_json"),
        ("get", "changes", 400, "subscriber_missing"),
        ("get", "changes?subscriber=archive&limit=0", 400, "bad_limit"),
        ("get", "changes?subscriber=archive&limit=x", 400, "bad_limit"),
        ("post", "acknowledge", 400, "no_json"),
    ],
)
async def test_what_cannot_be_answered_is_said_in_words(
    client: Client, method: str, path: str, status: int, error: str
) -> None:
    answer = await client.request(method, f"{API}/{path}", data=b"[")
    body = await answer.json()
    assert (answer.status, body["error"]) == (status, error)
    assert body["message"] and "{" not in body["message"]


@pytest.mark.parametrize(
    "body", [{"points": "p1"}, {"points": [1]}, {"resolution": ["day"]}, {"since": 7}, {"until_": "2026-07-01"}]
)
async def test_a_field_that_is_not_understood_is_not_ignored(client: Client, body: dict[str, Any]) -> None:
    answer = await client.post(f"{API}/history", json={"period": "today", **body})
    assert (answer.status, (await answer.json())["error"]) == (400, "bad_field")


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"subscriber": "nobody", "revision": 0}, 404, "ledger_no_subscriber"),
        ({"subscriber": "archive", "revision": 99}, 400, "ledger_bad_acknowledgement"),
        ({"subscriber": "archive", "revision": "1"}, 400, "bad_acknowledgement"),
        ({"subscriber": "archive", "revision": 0, "cursor": "x"}, 400, "bad_acknowledgement"),
        ({"revision": 1}, 400, "subscriber_missing"),
    ],
)
async def test_a_wrong_acknowledgement_is_refused_in_words(
    client: Client, body: dict[str, Any], status: int, error: str
) -> None:
    assert (await client.get(f"{API}/changes?subscriber=archive")).status == 200
    answer = await client.post(f"{API}/acknowledge", json=body)
    assert (answer.status, (await answer.json())["error"]) == (status, error)


async def test_csv_opens_in_excel_and_says_every_digit(client: Client, site: Site) -> None:
    await site.registry.async_apply({"p1": make_point("p1", '总表 "A", Hall', "1", "l1")}, SYSTEM, "edit")
    await take(site, quarters("p1", JUNE, 3, "0.100"))
    answer = await client.get(f"{API}/history", params={**IN_JUNE, "points": "p1", "format": "csv"})
    data = await answer.read()
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert 'filename="history_2026-06-01_2026-07-01_interval.csv"' in answer.headers["Content-Disposition"]
    assert data.startswith(b"\xef\xbb\xbf")
    header, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig")))
    assert header[:5] == ["point", "name", "start", "end", "energy_import_kwh"]
    assert [row[:5] for row in rows] == [
        ["p1", '总表 "A", Hall', f"2026-06-01T02:{m:02}:00+02:00", f"2026-06-01T02:{m + 15:02}:00+02:00", "0.100"]
        for m in (0, 15, 30)
    ]


async def test_xlsx_has_numbers_and_local_times(client: Client, site: Site) -> None:
    await site.registry.async_apply({"p1": make_point("p1", "=1+1", "1", "l1")}, SYSTEM, "edit")
    await take(site, quarters("p1", JUNE, 3))
    answer = await client.get(f"{API}/history", params={**IN_JUNE, "points": "p1", "format": "xlsx"})
    sheet = load_workbook(io.BytesIO(await answer.read())).worksheets[0]
    header, *rows = sheet.values
    assert len(rows) == 3
    row = dict(zip(header, rows[0], strict=True))
    assert row["name"] == "=1+1" and sheet["B2"].data_type == "s"
    assert (row["start"], row["utc_offset"]) == (datetime.fromisoformat("2026-06-01T02:00"), "+02:00")
    assert (row["energy_import_kwh"], row["completeness"], row["flags"]) == (0.25, 1, "measured")


async def test_an_empty_answer_is_a_file_all_the_same(client: Client) -> None:
    for form in ("csv", "xlsx", "json", "wire"):
        answer = await client.get(f"{API}/history", params={**IN_JUNE, "points": "p1", "format": form})
        assert answer.status == 200
        data = await answer.read()
        if form == "xlsx":
            assert load_workbook(io.BytesIO(data)).worksheets[0].max_row == 1
        elif form == "json":
            assert json.loads(data) == []


async def test_programs_get_every_interval_as_the_ledger_has_it(client: Client, site: Site) -> None:
    await take(site, [*quarters("p1", JUNE, 2000, skip=range(50, 60)), *quarters("p2", JUNE, 2000, "0.30")])
    body = {**IN_JUNE, "points": ["p1", "Hall 2"], "format": "wire"}
    answer = await client.post(f"{API}/history", json=body)
    found = [one for line in (await answer.text()).splitlines() for one in decode_intervals(json.loads(line))]
    stored = await site.ledger.async_call(
        lambda ledger: ledger.intervals(["p1", "p2"], JUNE, JUNE + timedelta(days=30))
    )
    assert found == stored and len(found) == 4000
    assert int(answer.headers["X-Total"]) >= len(found)


async def test_an_export_tells_how_far_it_is_and_needs_no_token(
    hass: HomeAssistant, site: Site, hass_ws_client: GetClient, hass_client_no_auth: GetClient
) -> None:
    await take(site, quarters("p1", JUNE, 2000))
    socket, client = await hass_ws_client(hass), await hass_client_no_auth()
    await socket.send_json_auto_id(
        {"type": "meter_batch/history/export", "points": ["Hall 1"], "format": "json", **IN_JUNE}
    )
    result = (await socket.receive_json())["result"]
    assert result["points"] == 1 and result["rows"] == 2880
    rows = await (await client.get(result["path"])).json()
    assert len(rows) == 2000 and rows[0]["energy_import_kwh"] == 0.25 and rows[0]["name"] == "Hall 1"
    events: list[dict[str, Any]] = []
    while not events or "finished" not in events[-1]:
        events.append((await asyncio.wait_for(socket.receive_json(), 5))["event"])
    shares = [event["done"] for event in events[:-1]]
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 2
    assert (await client.get(result["path"].replace("Hall", "Moon"))).status == 401


async def test_an_export_that_fails_half_way_is_not_taken_for_the_whole(
    client: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await take(site, quarters("p1", JUNE, 2000))
    real = query.rows_of

    def fails_later(*args: Any, **more: Any) -> Any:
        if more["since"] > JUNE + timedelta(days=8):
            raise LedgerError(say("ledger_damaged", path="x", reason="y"))
        return real(*args, **more)

    monkeypatch.setattr(query, "rows_of", fails_later)
    with pytest.raises((ClientPayloadError, ConnectionError)):
        await (await client.get(f"{API}/history", params={**IN_JUNE, "points": "p1"})).read()


async def test_a_ledger_that_cannot_be_read_is_said_at_once(
    client: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **more: Any) -> Any:
        raise LedgerError(say("ledger_damaged", path="x", reason="y"))

    monkeypatch.setattr(query, "rows_of", fails)
    answer = await client.get(f"{API}/history", params=IN_JUNE)
    assert answer.status == 503
    assert (await answer.json())["error"] == "ledger_damaged"
