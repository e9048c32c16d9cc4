"""Kernels are handed over with what they must know, or not at all; none outlives its page for long."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from traitlets.config import Config

from meter_batch_analytics.server import pool as module
from meter_batch_analytics.server.pool import Busy, KernelFailed, KernelPool, OurKernel, kernel_configuration
from meter_batch_analytics.session import Identity

WHO = Identity("u", "王芳", False, "zh-Hans", frozenset({"p'1", 'p"2'}))


class Clock:
    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KernelPool]:
    monkeypatch.setattr(module, "WARM_CODE", "warm = 1")
    tmp_path = Path(tempfile.mkdtemp(prefix="mba-"))
    kernels = kernel_configuration(tmp_path)
    configuration = Config(
        {
            "KernelManager": {"transport": kernels["transport"], "autorestart": False},
            "KernelPool": {"limit": 2, "spare": 0, "environment": kernels["environment"]},
        }
    )
    made = KernelPool(config=configuration, kernel_spec_manager=OurKernel(), connection_dir=str(tmp_path))
    try:
        yield made
    finally:
        await made.close()
        shutil.rmtree(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def pid_of(pool: KernelPool, kernel: str) -> int:
    return int(pool.get_kernel(kernel).provisioner.pid)


async def test_a_kernel_gets_its_owner_and_the_query_as_they_are(pool: KernelPool) -> None:
    query = "lang=zh&points=%27%22\\'\"\n&x=" + "y" * 1000
    kernel, client = await pool.take(await pool.reserve(WHO, query, "en"))
    from jupyter_client.asynchronous.client import AsyncKernelClient

    assert isinstance(client, AsyncKernelClient)
    code = (
        f"import os, json; assert json.loads(os.environ['METER_BATCH_IDENTITY']) == json.loads({WHO.as_json()!r}); "
        f"assert os.environ['QUERY_STRING'] == {query!r}; assert warm == 1"
    )
    await module._run(client, code, 5)
    with pytest.raises(KernelFailed, match="AssertionError"):
        await module._run(client, "assert False", 5)
    client.stop_channels()
    assert pool.owner(kernel) == WHO


async def test_a_kernel_that_does_not_take_what_it_is_told_is_nobodys(
    pool: KernelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HAND_OVER_S", 0.5)
    pool.spare = 1
    pool.fill()
    await next(iter(pool._starting))
    ((kernel, _),) = pool._warm
    os.kill(pid_of(pool, kernel), signal.SIGSTOP)
    pool.spare = 0
    another, client = await pool.take(await pool.reserve(WHO, "", "en"))
    client.stop_channels()
    assert another != kernel
    assert kernel not in pool
    monkeypatch.setattr(module, "QUERY", "a=b")  # no name of a variable
    place = await pool.reserve(WHO, "", "en")
    with pytest.raises(KernelFailed, match="a kernel refused"):
        await pool.take(place)
    assert place.kernel is None
    assert list(pool.owners) == list(pool.list_kernel_ids()) == [another]


async def test_a_warm_kernel_that_died_is_not_handed_over(pool: KernelPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAND_OVER_S", 0.5)
    pool.spare = 1
    pool.fill()
    await next(iter(pool._starting))
    ((kernel, _),) = pool._warm
    os.kill(pid_of(pool, kernel), signal.SIGKILL)
    pool.spare = 0
    another, client = await pool.take(await pool.reserve(WHO, "", "en"))
    client.stop_channels()
    assert another != kernel


async def test_there_are_never_more_than_the_limit(pool: KernelPool) -> None:
    places = [await pool.reserve(WHO, "", "en") for _ in range(2)]
    with pytest.raises(Busy):
        await pool.reserve(WHO, "", "en")
    pool.spare = 3
    pool.fill()
    assert not pool._starting
    pool.give_back(places[0])
    pool.give_back(places[0])
    assert pool.used == 1
    pool.fill()
    assert len(pool._starting) == 1


async def test_a_kernel_without_its_page_ends_and_earlier_for_somebody_who_waits(
    pool: KernelPool, clock: Clock
) -> None:
    kernels = []
    for _ in range(2):
        kernel, client = await pool.take(await pool.reserve(WHO, "", "en"))
        client.stop_channels()
        pool.notify_connect(kernel)
        kernels.append(kernel)
    await pool.watch()
    clock.ahead += module.SOCKETLESS_S * 10
    await pool.watch()
    assert list(pool.owners) == kernels  # their pages are there
    pool.notify_disconnect(kernels[0])
    await pool.watch()
    clock.ahead += module.RECLAIM_S - 1
    with pytest.raises(Busy):
        await pool.reserve(WHO, "", "en")
    pool.notify_connect(kernels[0])  # it came back
    await pool.watch()
    clock.ahead += module.SOCKETLESS_S
    await pool.watch()
    assert list(pool.owners) == kernels
    pool.notify_disconnect(kernels[0])
    await pool.watch()
    clock.ahead += module.RECLAIM_S + 1
    place = await pool.reserve(WHO, "", "en")  # it makes way
    pool.give_back(place)
    assert list(pool.owners) == kernels[1:]
    pool.notify_disconnect(kernels[1])
    await pool.watch()
    clock.ahead += module.SOCKETLESS_S + 1
    await pool.watch()
    assert pool.owners == {}
    assert list(pool.list_kernel_ids()) == []


async def test_a_kernel_that_nobody_used_for_half_an_hour_ends_though_its_page_is_open(
    pool: KernelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, client = await pool.take(await pool.reserve(WHO, "", "en"))
    client.stop_channels()
    pool.notify_connect(kernel)
    async with asyncio.timeout(5):
        while pool.get_kernel(kernel).execution_state != "idle":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    idle = module.IDLE_S - 1
    monkeypatch.setattr(KernelPool, "idle_s", lambda *_: idle)
    await pool.watch()
    assert kernel in pool
    idle = module.IDLE_S + 1
    await pool.watch()
    assert kernel not in pool


async def test_a_user_who_is_signed_out_has_no_kernels(pool: KernelPool) -> None:
    other = Identity("other", "Other", False, "en", None)
    kernels = {}
    for who in (WHO, other):
        kernels[who.user], client = await pool.take(await pool.reserve(who, "", "en"))
        client.stop_channels()
    await pool.end_of(WHO.user)
    assert list(pool.owners) == [kernels["other"]]
