"""The analytics server's pages pass through Home Assistant's address: whole, for who may, and for nobody else."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import CookieJar, WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestServer
from homeassistant.auth.models import User
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import (
    ClientSessionGenerator,
    MockHAClientWebSocket,
    WebSocketGenerator,
)

from custom_components.meter_batch import access, analytics_session
from custom_components.meter_batch.analytics_session import COOKIE, SESSIONS, sessions
from custom_components.meter_batch.const import DOMAIN

from .analytics_server import BASE, TOKEN, StandIn
from .conftest import wait_for
from .test_analytics import server as server  # a fixture

KERNEL = "v1.kernel.websocket.jupyter.org"
type Client = Any

# aiohttp sets its timer of pings once more when the other side answers a close; half a minute later it is gone.
closes = pytest.mark.parametrize("expected_lingering_timers", [True])


@pytest.fixture
async def entry(hass: HomeAssistant, server: StandIn) -> MockConfigEntry:
    """The server's entry, running."""
    made = MockConfigEntry(
        domain=DOMAIN,
        title="Analytics",
        unique_id="analytics",
        data={"kind": "analytics", "url": server.url, "token": TOKEN},
    )
    made.add_to_hass(hass)
    assert await async_setup_component(hass, DOMAIN, {})
    await hass.async_block_till_done()
    return made


type OpenSession = Callable[..., Awaitable[str]]


@pytest.fixture
async def socket(hass: HomeAssistant, entry: MockConfigEntry, hass_ws_client: WebSocketGenerator) -> Any:
    return await hass_ws_client(hass)


async def ask(socket: MockHAClientWebSocket, kind: str, **more: Any) -> Any:
    await socket.send_json_auto_id({"type": f"meter_batch/{kind}", **more})
    answer = await socket.receive_json()
    assert answer["success"], answer
    return answer["result"]


@pytest.fixture
async def client(hass: HomeAssistant, socket: Any, hass_client_no_auth: ClientSessionGenerator) -> Client:
    """A browser that has only the cookie."""
    found = await ask(socket, "analytics/session", language="zh-Hans")
    assert (found["cookie"], found["path"]) == (COOKIE, BASE)
    made = await hass_client_no_auth()
    made.session.cookie_jar.update_cookies({COOKIE: found["session"]})
    return made


# --- nobody without a session


@pytest.mark.parametrize("cookie", [None, "", "guessed", "%00"])
async def test_without_a_session_nothing_passes(
    entry: MockConfigEntry, server: StandIn, hass_client: ClientSessionGenerator, cookie: str | None
) -> None:
    # Even with Home Assistant's own token: a frame has none, so whoever sends one is no page of ours.
    client = await hass_client()
    headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie is not None else {}
    for method in ("get", "post", "put", "patch", "delete", "head"):
        assert (await client.request(method, f"{BASE}/apps/explorer", headers=headers)).status == 401
    assert server.seen == []


async def test_without_a_session_no_websocket_opens(
    entry: MockConfigEntry, server: StandIn, hass_client_no_auth: ClientSessionGenerator
) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await (await hass_client_no_auth()).ws_connect(f"{BASE}/socket")
    assert refused.value.status == 401 and server.seen == []


async def test_the_page_without_a_session_says_so_in_both_languages(
    entry: MockConfigEntry, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    text = await (await client.get(f"{BASE}/apps/explorer")).text()
    assert text.index("Open this page from the sidebar") < text.index("请从 Home Assistant 侧边栏打开此页面")
    chinese = await (await client.get(f"{BASE}/apps/explorer", headers={"Accept-Language": "zh-CN,en"})).text()
    assert chinese.index("请从") < chinese.index("Open this page")


@closes
async def test_a_session_ends_with_its_sign_in(
    hass: HomeAssistant, client: Client, server: StandIn, hass_admin_user: User
) -> None:
    open_one = await client.ws_connect(f"{BASE}/socket")
    assert (await client.get(f"{BASE}/x")).status == 200
    for token in list(hass_admin_user.refresh_tokens.values()):
        hass.auth.async_remove_refresh_token(token)
    assert (await client.get(f"{BASE}/x")).status == 401
    closing = await open_one.receive(timeout=5)
    assert (closing.type, open_one.close_code) == (WSMsgType.CLOSE, 1008)


async def test_a_session_ends_when_the_user_is_deactivated(
    hass: HomeAssistant, client: Client, hass_admin_user: User
) -> None:
    hass_admin_user.is_active = False
    assert (await client.get(f"{BASE}/x")).status == 401
    hass_admin_user.is_active = True
    assert (await client.get(f"{BASE}/x")).status == 401  # over is over


async def test_an_idle_session_ends_and_a_renewed_one_lives(
    hass: HomeAssistant, client: Client, socket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(hass.data[SESSIONS], "_clock", lambda: now[0])
    known = (await ask(socket, "analytics/session"))["session"]
    client.session.cookie_jar.update_cookies({COOKIE: known})
    for _ in range(4):
        now[0] += analytics_session.IDLE_S - 60
        assert (await ask(socket, "analytics/session", session=known))["session"] == known
    now[0] += analytics_session.IDLE_S - 60
    assert (await client.get(f"{BASE}/x")).status == 200  # use counts, too
    now[0] += analytics_session.IDLE_S
    assert (await client.get(f"{BASE}/x")).status == 401
    assert (await ask(socket, "analytics/session", session=known))["session"] != known


async def test_nobody_renews_anothers_session(
    hass: HomeAssistant, socket: Any, hass_ws_client: WebSocketGenerator, hass_read_only_access_token: str
) -> None:
    known = (await ask(socket, "analytics/session"))["session"]
    other = await hass_ws_client(hass, hass_read_only_access_token)
    assert (await ask(other, "analytics/session", session=known))["session"] != known


async def test_sessions_have_a_bound(hass: HomeAssistant, entry: MockConfigEntry, hass_admin_user: User) -> None:
    token = await hass.auth.async_create_refresh_token(hass_admin_user, "http://x/")
    ids = [sessions(hass).async_open(token.id, "en") for _ in range(analytics_session.MOST_SESSIONS + 5)]
    assert len(set(ids)) == len(ids) and len(sessions(hass)._visits) == analytics_session.MOST_SESSIONS


# --- what the server is told


async def test_the_server_is_told_who_it_is_by_a_signature_that_only_it_can_check(
    client: Client, server: StandIn, hass_admin_user: User
) -> None:
    assert await (await client.get(f"{BASE}/apps/explorer?points=a&points=b%2Bc")).text() == "page apps/explorer"
    (seen,) = server.seen
    assert server.identity(seen) == {
        "user": hass_admin_user.id,
        "name": hass_admin_user.name,
        "admin": True,
        "language": "zh-Hans",
        "scope": None,
        "exp": server.identity(seen)["exp"],
    }
    assert seen.rel_url.raw_query_string == "points=a&points=b%2Bc"


async def test_the_scope_is_that_of_the_moment(
    client: Client, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "scope", lambda _user: frozenset({"p2", "p1"}))
    await client.get(f"{BASE}/x")
    assert server.identity(server.seen[-1])["scope"] == ["p1", "p2"]


async def test_what_is_home_assistants_does_not_go_there(client: Client, server: StandIn) -> None:
    forged = {
        "X-Meter-Batch-Identity": "forged",
        "x-meter-batch-anything": "forged",
        "X_Meter_Batch_Identity": "forged",
        "Authorization": "Bearer of Home Assistant",
        "Referer": "http://ha/secret",
        "X-Real-IP": "6.6.6.6",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "of this connection",
        "X-Kept": "yes",
    }
    assert (await client.get(f"{BASE}/x", headers=forged)).status == 200
    (seen,) = server.seen
    assert len(seen.headers.getall("X-Meter-Batch-Identity")) == 1
    names = {name.lower().replace("_", "-") for name in seen.headers}
    assert {one for one in names if one.startswith("x-meter-batch")} == {"x-meter-batch-identity"}
    assert not names & {"authorization", "cookie", "referer", "origin", "x-real-ip", "x-hop"}
    assert seen.headers["X-Kept"] == "yes" and "6.6.6.6" not in seen.headers["X-Forwarded-For"]
    assert seen.headers["Host"].endswith(str(server.port))


async def test_no_cookie_of_the_server_comes_back_and_nobody_else_may_frame_it(client: Client) -> None:
    answer = await client.get(f"{BASE}/x")
    assert "Set-Cookie" not in answer.headers and answer.headers["X-Theirs"] == "kept"
    assert "frame-ancestors 'self'" in answer.headers.getall("Content-Security-Policy")
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"


async def test_the_servers_machine_api_stays_closed(client: Client, server: StandIn) -> None:
    answer = await client.get(f"{BASE}/status", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_other_pages_send_nothing_in_somebodys_name(
    client: Client, server: StandIn, headers: dict[str, str]
) -> None:
    assert (await client.post(f"{BASE}/x", headers=headers)).status == 403
    with pytest.raises(WSServerHandshakeError):
        await client.ws_connect(f"{BASE}/socket", headers=headers)
    assert server.seen == []


async def test_our_own_pages_do(client: Client, server: StandIn) -> None:
    origin = f"http://{client.server.host}:{client.server.port}"
    assert (await client.post(f"{BASE}/x", headers={"Origin": origin})).status == 200


# --- no way out of the server's pages


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/..%2fsecret",
        "/%2e%2e/secret",
        "/%252e%252e/secret",
        "/a/%2e%2e%2f%2e%2e/secret",
        "/%5c..%5csecret",
        "/a%00b",
        "/%0d%0aX: y",
        "/./x",
    ],
)
async def test_no_path_leads_out(client: Client, server: StandIn, path: str) -> None:
    reader, writer = await asyncio.open_connection(client.server.host, client.server.port)
    cookie = client.session.cookie_jar.filter_cookies(client.make_url("/"))[COOKIE].value
    head = f"GET {BASE}{path.replace(' ', '%20')} HTTP/1.1\r\nHost: x\r\nCookie: {COOKIE}={cookie}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    assert status in {400, 404} and server.seen == []


async def test_a_full_address_instead_of_a_path_goes_nowhere_else(client: Client, server: StandIn) -> None:
    reader, writer = await asyncio.open_connection(client.server.host, client.server.port)
    cookie = client.session.cookie_jar.filter_cookies(client.make_url("/"))[COOKIE].value
    writer.write(
        f"GET http://other.example{BASE}/x HTTP/1.1\r\nHost: x\r\nCookie: {COOKIE}={cookie}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    status = int((await reader.readline()).split()[1])
    writer.close()
    assert status in {200, 400, 404}
    assert all(one.headers["Host"].endswith(str(server.port)) for one in server.seen)


async def test_a_redirect_to_the_servers_own_address_becomes_one_here(client: Client) -> None:
    answer = await client.get(f"{BASE}/moved", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, f"{BASE}/apps/explorer?x=1")
    top = await client.get(BASE, allow_redirects=False)
    assert (top.status, top.headers["Location"]) == (308, f"{BASE}/")


# --- whole, and as it comes


async def test_bodies_pass_both_ways_byte_by_byte(client: Client, server: StandIn) -> None:
    body = bytes(range(256)) * 4096
    assert (await client.post(f"{BASE}/x", data=body)).status == 200
    assert server.bodies == [body]


async def test_a_body_without_a_length_passes_and_one_too_large_does_not(
    client: Client, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.meter_batch.proxy.MOST_BODY", 1 << 20)

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * (1 << 18)

    assert (await client.post(f"{BASE}/x", data=pieces(4))).status == 200
    assert len(server.bodies[0]) == 1 << 20
    assert (await client.post(f"{BASE}/x", data=pieces(8))).status == 413
    assert (await client.post(f"{BASE}/x", data=b"x" * (2 << 20))).status == 413


async def test_what_is_packed_passes_packed(client: Client) -> None:
    answer = await client.get(f"{BASE}/packed", headers={"Accept-Encoding": "deflate"})
    assert answer.headers["Content-Encoding"] == "deflate" and await answer.text() == "page packed"
    plain = await client.get(f"{BASE}/packed", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers and await plain.text() == "page packed"


async def test_an_answer_is_passed_on_while_it_is_made(client: Client) -> None:
    answer = await client.get(f"{BASE}/slow")
    assert await answer.content.readany() == b"first"
    assert await answer.content.readany() == b"second"


async def test_an_answer_that_is_cut_off_is_not_taken_for_the_whole(client: Client) -> None:
    answer = await client.get(f"{BASE}/cut")
    with pytest.raises(aiohttp.ClientPayloadError):
        await answer.read()


async def test_websockets_pass_text_bytes_and_subprotocol(client: Client) -> None:
    socket = await client.ws_connect(f"{BASE}/socket", protocols=("other", KERNEL), max_msg_size=64 << 20)
    assert socket.protocol == KERNEL
    await socket.send_str("你好")
    assert (await socket.receive_str(timeout=5)) == "你好"
    large = bytes(range(256)) * (20 << 12)
    await socket.send_bytes(large)
    assert (await socket.receive_bytes(timeout=10)) == large
    await socket.close()


@closes
async def test_who_closes_closes_both_sides(client: Client, server: StandIn) -> None:
    socket = await client.ws_connect(f"{BASE}/socket")
    await socket.close(code=4000, message=b"bye")
    assert await wait_for(lambda: server.closed) == [4000]
    socket = await client.ws_connect(f"{BASE}/socket")
    await socket.send_str("close")
    closing = await socket.receive(timeout=5)
    assert (closing.type, closing.data, closing.extra) == (WSMsgType.CLOSE, 4001, "enough")


async def test_a_reader_that_is_slow_holds_the_sender_back(client: Client, server: StandIn) -> None:
    socket = await client.ws_connect(f"{BASE}/socket")
    (upstream,) = await wait_for(lambda: server.sockets)
    sent = 0

    async def send() -> None:
        nonlocal sent
        for _ in range(400):
            await upstream.send_bytes(b"x" * (1 << 18))
            sent += 1

    sending = asyncio.create_task(send())
    before = -1
    while sent != before:  # until nothing moves any more
        before = sent
        await asyncio.sleep(0.3)
    assert sent < 400, "a hundred megabytes are in memory somewhere"
    for _ in range(400):
        await socket.receive_bytes(timeout=10)
    await sending
    await socket.close()


async def test_a_websocket_that_the_server_refuses_is_refused_by_its_number(client: Client) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await client.ws_connect(f"{BASE}/refused")
    assert refused.value.status == 503


@closes
async def test_open_websockets_end_with_home_assistant(hass: HomeAssistant, client: Client) -> None:
    socket = await client.ws_connect(f"{BASE}/socket")
    sessions(hass).async_end_all()
    assert (await socket.receive(timeout=5)).type is WSMsgType.CLOSE


# --- away


async def test_a_server_that_is_away_is_said_in_words_and_its_return_is_seen(client: Client, server: StandIn) -> None:
    await server.stop()
    answer = await client.get(f"{BASE}/apps/explorer")
    text = await answer.text()
    assert answer.status == 502 and answer.headers["Retry-After"] == "5"
    assert "does not answer" in text and "分析服务器没有响应" in text and "Traceback" not in text
    with pytest.raises(WSServerHandshakeError) as refused:
        await client.ws_connect(f"{BASE}/socket")
    assert refused.value.status == 502
    await server.start()
    assert (await client.get(f"{BASE}/apps/explorer")).status == 200


@closes
async def test_a_websocket_ends_when_the_server_does(client: Client, server: StandIn) -> None:
    socket = await client.ws_connect(f"{BASE}/socket")
    await server.stop()
    assert (await socket.receive(timeout=10)).type is WSMsgType.CLOSE


async def test_without_a_server_the_page_says_so(hass: HomeAssistant, client: Client, entry: MockConfigEntry) -> None:
    hass.config_entries.async_update_entry(entry, data={**entry.data, "url": "http://127.0.0.1:9"})
    assert (await client.get(f"{BASE}/x")).status == 502
    sessions_before = sessions(hass)._visits.copy()
    await hass.config_entries.async_remove(entry.entry_id)
    assert sessions(hass)._visits == {} and sessions_before  # nothing is left to pass to
    assert (await client.get(f"{BASE}/x")).status == 401


# --- https


def certificate(tmp_path: Any) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server and of a client that trusts it."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(path)
    return ours, ssl.create_default_context(cafile=str(path))


async def test_over_https_pages_and_websockets_pass_and_the_server_knows_it(
    hass: HomeAssistant, entry: MockConfigEntry, server: StandIn, tmp_path: Any, socket: Any
) -> None:
    ours, theirs = certificate(tmp_path)
    found = await ask(socket, "analytics/session")
    front = TestServer(hass.http.app, host="127.0.0.1", scheme="https")
    await front.start_server(ssl=ours)
    jar = CookieJar(unsafe=True)
    url = front.make_url(BASE)
    jar.update_cookies({COOKIE: found["session"]}, url)
    async with aiohttp.ClientSession(cookie_jar=jar, connector=aiohttp.TCPConnector(ssl=theirs)) as browser:
        origin = {"Origin": f"https://127.0.0.1:{front.port}"}
        async with browser.get(f"{url}/apps/explorer", headers=origin) as answer:
            assert answer.status == 200 and await answer.text() == "page apps/explorer"
        async with browser.ws_connect(f"{url}/socket", headers=origin, protocols=(KERNEL,)) as passed:
            await passed.send_bytes(b"\x00\xff")
            assert await passed.receive_bytes(timeout=5) == b"\x00\xff"
    assert {one.headers["X-Forwarded-Proto"] for one in server.seen} == {"https"}
    assert {one.headers["X-Forwarded-Host"] for one in server.seen} == {f"127.0.0.1:{front.port}"}
    await front.close()


def test_the_identity_is_plain_json(hass_admin_user: User) -> None:
    who = analytics_session.identity(hass_admin_user, "en")
    assert json.loads(json.dumps(who)) == who
