"""The real server, its kernels and its children, beside a Home Assistant in small."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from meter_batch_analytics.server.settings import BASE
from meter_batch_analytics.session import Identity

from .running import Running, Socket, gone, kernel_of, model_of, notebooks, running
from .small_house import ADMIN, OFFICE, House, opened

ALL = Identity("u-admin", "Administrator", True, "en", None)
SOME = Identity("u-office", "王芳", False, "zh-Hans", frozenset({"p3"}))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    made = House(tmp_path_factory.mktemp("house") / "ledger.db")
    made.site.fill(range(2 * 96))
    return made


@pytest.fixture(scope="module")
def server(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    with (
        opened(house) as url,
        running(url, folder / "data", "--kernels", "2", notebooks_in=notebooks(folder / "n")) as it,
    ):
        eventually(lambda: (it.data / "archive" / "manifest.json").exists())
        eventually(lambda: house.announced)
        yield it


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as made:
        yield made


def eventually(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)
    return found


async def get(client: aiohttp.ClientSession, url: str, **more: Any) -> tuple[int, str]:
    async with client.get(url, **more) as answer:
        return answer.status, await answer.text()


async def close(client: aiohttp.ClientSession, server: Running, page: str, who: Identity) -> int:
    url = server.url(f"/voila/api/shutdown/{kernel_of(page)}")
    async with client.post(url, headers=server.by_proxy(who)) as answer:
        return answer.status


async def test_nothing_is_shown_to_who_is_not_signed_in_but_code_and_health(
    server: Running, client: aiohttp.ClientSession
) -> None:
    assert await get(client, server.url("/health")) == (200, "ok")
    status, _ = await get(client, server.url("/static/plotly.min.js?v=1"), headers={"Accept-Encoding": "gzip"})
    assert status == 200
    kernel = "00000000-0000-0000-0000-000000000000"
    for path, expected in {
        "/": 302, "/apps/explorer": 302, f"/api/kernels/{kernel}": 403, f"/api/kernels/{kernel}/channels": 403,
        "/reports/r1/a.pdf": 302, "/status": 401, "/jobs/1": 401, "/reports": 401, "/nothing": 404,
        "/voila/templates/meter-batch/static/../index.html.j2": 404, "/static/__init__.py": 404,
    }.items():  # fmt: skip
        for headers in (
            {},
            {"X-Meter-Batch-Identity": "a.b"},
            server.by_proxy(ALL, -1000),
            {"Cookie": "meter_batch_session=x"},
        ):
            async with client.get(server.url(path), headers=headers, allow_redirects=False) as answer:
                # A page in Home Assistant's frame is not led to a sign-in of its own.
                wanted = 401 if expected == 302 and "X-Meter-Batch-Identity" in headers else expected
                assert (path, answer.status) == (path, wanted)
                assert "Traceback" not in await answer.text()
    for path in ("/jobs", f"/voila/api/shutdown/{kernel}"):
        async with client.post(server.url(path), json={}) as answer:
            assert answer.status in (401, 403)
    async with client.delete(server.url("/reports/r1")) as answer:
        assert answer.status == 401


async def test_an_app_that_is_none_is_said_to_be_none_in_the_readers_language(
    server: Running, client: aiohttp.ClientSession
) -> None:
    for path in ("/apps/nope", "/apps/no-such.app"):
        status, page = await get(client, server.url(path), headers=server.by_proxy(SOME))
        assert (status, "没有此页面" in page) == (404, True)


def test_what_the_server_keeps_is_for_its_owner_only(server: Running) -> None:
    # This folder was there before, for all to read.
    assert server.log.read_text().count(f"others on this machine can read {server.data}") == 1
    made = [server.data / name for name in ("server-token", "server.json", "archive", "mirror")]
    made += [one for folder in made[2:] for one in folder.rglob("*")]
    assert len(made) > 6
    assert [one for one in made if one.exists() and one.stat().st_mode & 0o077] == []


async def test_an_app_runs_in_a_kernel_that_knows_whose_it_is_and_nothing_more(
    server: Running, client: aiohttp.ClientSession
) -> None:
    async with client.get(server.url("/apps/explorer?scope=p1"), headers=server.by_proxy(SOME)) as answer:
        page = await answer.text()
        assert answer.status == 200
        assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
    assert '<html lang="zh-CN"' in page
    async with client.ws_connect(
        server.url(f"/api/kernels/{kernel_of(page)}/channels?session_id=1"), headers=server.by_proxy(SOME)
    ) as raw:
        socket = Socket(raw)
        asked = await socket.send("comm_info_request", {"target_name": "jupyter.widget"})
        comms, _ = await socket.until("comm_info_reply", asked)
        assert model_of(page) in comms["comms"]
        states = []
        for model in comms["comms"]:
            asked = await socket.send("comm_msg", {"comm_id": model, "data": {"method": "request_state"}})
            states.append((await socket.until("comm_msg", asked))[0]["data"]["state"])
        assert "zh-Hans p3" in [state.get("description") for state in states]
        (names,) = [json.loads(state["value"]) for state in states if "value" in state]
        assert "METER_BATCH_IDENTITY" in names
        assert [name for name in names if "TOKEN" in name or "SECRET" in name] == []
        # What is to be executed is never taken from a page.
        await socket.send("execute_request", {"code": "button.description = 'executed'", "silent": False})
        asked = await socket.send("comm_msg", {"comm_id": model_of(page), "data": {"method": "request_state"}})
        state, _ = await socket.until("comm_msg", asked)
        assert state["data"]["state"]["description"] == "zh-Hans p3"
        # A callback that raises says so in words, and no more.
        data = {"method": "custom", "content": {"event": "click"}}
        asked = await socket.send("comm_msg", {"comm_id": model_of(page), "data": data})
        error, seen = await socket.until("error", asked)
        assert error["evalue"].startswith("此页面出错了")
        assert (error["ename"], error["traceback"]) == ("", [])
        assert "stream" not in seen
    assert "a secret" in server.log.read_text()
    assert await close(client, server, page, SOME) == 204


async def test_a_kernel_answers_its_owner_alone(server: Running, client: aiohttp.ClientSession) -> None:
    _, page = await get(client, server.url("/apps/explorer"), headers=server.by_proxy(SOME))
    kernel = kernel_of(page)
    others = [ALL, Identity(SOME.user, SOME.name, False, "en", frozenset({"p3", "p4"}))]
    for who, expected in ((SOME, 200), (others[0], 403), (others[1], 403)):
        headers = server.by_proxy(who)
        status, _ = await get(client, server.url(f"/api/kernels/{kernel}"), headers=headers)
        assert status == expected
        address = server.url(f"/api/kernels/{kernel}/channels?session_id=1")
        if expected == 200:
            async with client.ws_connect(address, headers=headers):
                pass
        else:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(address, headers=headers)
            assert refused.value.status == 403
            assert await close(client, server, page, who) == 403
    assert await close(client, server, page, SOME) == 204
    assert await close(client, server, page, SOME) == 404
    status, _ = await get(client, server.url(f"/api/kernels/{kernel}"), headers=server.by_proxy(SOME))
    assert status == 404


async def test_what_raises_in_a_notebook_is_a_sentence_in_the_page_and_a_traceback_in_the_log(
    server: Running, client: aiohttp.ClientSession
) -> None:
    for lang, words in (("en", "Something went wrong on this page"), ("zh", "此页面出错了")):
        status, page = await get(client, server.url(f"/apps/trends?lang={lang}"), headers=server.by_proxy(ALL))
        assert status == 200
        assert words in page
        assert page.rstrip().endswith("</html>")
        assert not [word for word in ("a secret", "Traceback", "ValueError", "ZeroDivision", "noise") if word in page]
        await close(client, server, page, ALL)
    status, page = await get(client, server.url("/apps/quality"), headers=server.by_proxy(ALL))
    assert "This cannot be shown: there is no meter &#34;nonsense&#34;" in page.replace("&quot;", "&#34;")
    await close(client, server, page, ALL)
    assert "ValueError" in server.log.read_text()


async def test_when_all_places_are_taken_the_next_one_is_told_to_wait(
    server: Running, client: aiohttp.ClientSession
) -> None:
    pages, sockets = [], []
    for who in (ALL, SOME):
        _, page = await get(client, server.url("/apps/explorer"), headers=server.by_proxy(who))
        pages.append((page, who))
        address = server.url(f"/api/kernels/{kernel_of(page)}/channels?session_id=1")
        sockets.append(await client.ws_connect(address, headers=server.by_proxy(who)))
    status = json.loads((await get(client, server.url("/status"), headers=server.by_machine))[1])
    assert status["kernels"] == {"used": 2, "limit": 2}
    for lang, words in (("en", "All places are taken"), ("zh", "当前使用人数已满")):
        async with client.get(server.url(f"/apps/trends?lang={lang}"), headers=server.by_proxy(ALL)) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert words in (text := await answer.text())
            assert 'http-equiv="refresh"' in text
    for (page, who), socket in zip(pages, sockets, strict=True):
        await socket.close()
        assert await close(client, server, page, who) == 204
    status_, page = await get(client, server.url("/apps/explorer"), headers=server.by_proxy(ALL))
    assert status_ == 200
    await close(client, server, page, ALL)


async def test_other_sites_cannot_speak_for_somebody_who_is_signed_in(
    server: Running, client: aiohttp.ClientSession, house: House
) -> None:
    house.who = ADMIN
    _, page = await get(client, server.url("/apps/explorer"))
    kernel = kernel_of(page)
    foreign = {"Origin": "http://evil.example"}
    async with client.post(server.url(f"/voila/api/shutdown/{kernel}"), headers=foreign) as answer:
        assert answer.status == 403
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(server.url(f"/api/kernels/{kernel}/channels?session_id=1"), headers=foreign)
    assert refused.value.status == 403
    own = {"Origin": server.address}
    async with client.ws_connect(server.url(f"/api/kernels/{kernel}/channels?session_id=1"), headers=own):
        pass
    async with client.post(server.url(f"/voila/api/shutdown/{kernel}"), headers=own) as answer:
        assert answer.status == 204
    await get(client, server.url("/logout"))


async def test_people_sign_in_with_home_assistant_and_out_again(
    server: Running, client: aiohttp.ClientSession, house: House
) -> None:
    house.who = OFFICE
    async with client.get(server.url("/apps/explorer?points=p3"), allow_redirects=False) as answer:
        login = answer.headers["Location"]
    async with client.get(server.address + login, allow_redirects=False) as answer:
        to = urlsplit(answer.headers["Location"])
        query = parse_qs(to.query)
        assert query["client_id"] == [f"{server.address}/"]
        assert query["redirect_uri"] == [server.url("/oauth/callback")]
        cookie = answer.headers["Set-Cookie"].casefold()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        authorize = answer.headers["Location"]
    status, page = await get(client, authorize)
    assert status == 200
    assert '<html lang="zh-CN"' in page
    kernel = kernel_of(page)
    # The same user by the other way in.
    assert (await get(client, server.url(f"/api/kernels/{kernel}")))[0] == 200
    status, page = await get(client, server.url("/"))
    assert "数据浏览" in page
    assert "王芳" in page
    status, page = await get(client, server.url("/logout"))
    assert status == 200
    assert house.revoked[-1] == "refresh-u-office"
    status, _ = await get(client, server.url(f"/api/kernels/{kernel}"), headers=server.by_proxy(SOME))
    assert status == 404
    async with client.get(server.url("/"), allow_redirects=False) as answer:
        assert answer.status == 302


async def test_a_sign_in_that_was_not_begun_here_is_refused(server: Running, client: aiohttp.ClientSession) -> None:
    status, page = await get(client, server.url("/oauth/callback?code=code-0&state=made-up"))
    assert status == 400
    assert "Please begin again" in page
    async with client.get(server.url("/login?next=https://evil.example/"), allow_redirects=False) as answer:
        authorize = answer.headers["Location"]
    async with client.get(authorize, allow_redirects=False) as answer:
        callback = answer.headers["Location"]
    async with client.get(callback, allow_redirects=False) as answer:
        assert answer.headers["Location"] == f"{BASE}/"
    assert (await get(client, callback))[0] == 400  # a second time
    await get(client, server.url("/logout"))


async def test_who_may_not_use_home_assistant_is_not_let_in(
    server: Running, client: aiohttp.ClientSession, house: House
) -> None:
    house.who = {**OFFICE, "user": "gone"}
    house.removed.add("gone")
    status, page = await get(client, server.url("/"))
    assert status == 403
    assert "did not accept" in page
    house.who = ADMIN
    house.down = True
    try:
        status, page = await get(client, server.url("/"))
        assert status == 503
        assert "does not answer" in page
    finally:
        house.down = False


async def test_a_tariff_file_with_a_mistake_is_told_before_a_report_needs_it(
    server: Running, client: aiohttp.ClientSession
) -> None:
    file = server.data / "tariffs/shops.toml"
    file.parent.mkdir()
    file.write_text('curency = "CNY"')
    try:
        status = json.loads((await get(client, server.url("/status"), headers=server.by_machine))[1])
    finally:
        file.unlink()
    said = f'{file.name}: "curency" is not known here; did you mean "currency"?'
    assert said in status["problems"]


async def test_home_assistant_is_mirrored_and_knows_the_server(
    server: Running, client: aiohttp.ClientSession, house: House
) -> None:
    announced = house.announced[-1]
    assert announced["url"] == server.address
    assert announced["token"] == server.token
    assert (server.data / "server-token").stat().st_mode & 0o077 == 0
    eventually(lambda: (server.data / "mirror" / "alarms.json").exists())
    gaps = json.loads((server.data / "mirror" / "gaps.json").read_text())
    assert gaps["message"][0]["missing"] == 3
    status = json.loads((await get(client, server.url("/status"), headers=server.by_machine))[1])
    assert status["home_assistant"] == "ok"
    assert status["problems"] == []
    assert status["archive"]["there"]
    assert [app["key"] for app in status["apps"]] == ["explorer", "trends", "quality"]
    assert status["apps"][0]["name"] == {"en": "Explorer", "zh-Hans": "数据浏览"}


async def test_what_cannot_be_a_job_is_refused_in_words(server: Running, client: aiohttp.ClientSession) -> None:
    good = {"kind": "report", "report": "monthly", "period": "2026-03", "scope": None}
    for wrong in (
        {key: value for key, value in good.items() if key != "scope"}, good | {"report": "yearly"},
        good | {"formats": ["doc"]}, good | {"points": "p1"}, good | {"scope": [1]}, good | {"misspelt": 1},
    ):  # fmt: skip
        async with client.post(server.url("/jobs"), json=wrong, headers=server.by_machine) as answer:
            assert answer.status == 400
            assert (await answer.json())["message"]
    async with client.post(server.url("/jobs"), data=b"{", headers=server.by_machine) as answer:
        assert answer.status == 400


async def test_a_report_is_made_and_given_to_whoever_may_see_it(
    server: Running, client: aiohttp.ClientSession, house: House
) -> None:
    body = {"kind": "report", "report": "daily", "period": "2026-03-27", "formats": ["html"], "language": "zh"}
    async with client.post(server.url("/jobs"), json={**body, "scope": ["p3"]}, headers=server.by_machine) as answer:
        assert answer.status == 202
        job = (await answer.json())["id"]
    end = time.monotonic() + 60
    while (found := json.loads((await get(client, server.url(f"/jobs/{job}"), headers=server.by_machine))[1]))[
        "state"
    ] in ("waiting", "running"):
        assert time.monotonic() < end
    assert found["state"] == "done", found
    listed = json.loads((await get(client, server.url("/reports"), headers=server.by_machine))[1])
    assert [one["id"] for one in listed] == [found["report"]["id"]]
    file = f"/reports/{listed[0]['id']}/{listed[0]['files'][0]['name']}"
    other = Identity("u-other", "Other", False, "en", frozenset({"p1"}))
    for headers, expected in (
        (server.by_machine, 200), (server.by_proxy(SOME), 200), (server.by_proxy(ALL), 200),
        (server.by_proxy(other), 404), ({"Authorization": "Bearer wrong"}, 401),
    ):  # fmt: skip
        status, text = await get(client, server.url(file), headers=headers)
        assert status == expected
        assert ("<html" in text and "2026" in text) == (status == 200) or status == 404
    assert file in (await get(client, server.url("/"), headers=server.by_proxy(SOME)))[1]
    assert file not in (await get(client, server.url("/"), headers=server.by_proxy(other)))[1]
    for path in (f"/reports/{listed[0]['id']}/..%2f..%2fserver-token", "/reports/../server-token", "/reports/x/y"):
        assert (await get(client, server.url(path), headers=server.by_machine))[0] == 404
    eventually(lambda: [one for one in house.events if one["event"] == "report_ready"])
    for expected in (200, 404):
        async with client.delete(server.url(f"/reports/{listed[0]['id']}"), headers=server.by_machine) as answer:
            assert answer.status == expected


def test_killed_at_once_it_leaves_no_process_behind(tmp_path: Path) -> None:
    with running(
        "http://127.0.0.1:9", tmp_path / "data", "--kernels", "1", notebooks_in=notebooks(tmp_path / "n")
    ) as it:
        eventually(lambda: len(it.children()) == 3)
        children = it.children()
        it.process.kill()
        it.process.wait()
        gone(children)


async def test_a_kernel_that_dies_frees_its_place_and_its_page_is_told(
    server: Running, client: aiohttp.ClientSession
) -> None:
    _, page = await get(client, server.url("/apps/explorer"), headers=server.by_proxy(ALL))
    kernel = kernel_of(page)
    (pid,) = [pid for pid, arguments in server.children().items() if kernel in arguments]
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while (await get(client, server.url(f"/api/kernels/{kernel}"), headers=server.by_proxy(ALL)))[0] != 404:
        assert time.monotonic() < end
    status, page = await get(client, server.url("/apps/explorer"), headers=server.by_proxy(ALL))
    assert status == 200
    await close(client, server, page, ALL)
