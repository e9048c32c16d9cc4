"""Home Assistant is asked again and again who somebody is, and what it says counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meter_batch_analytics.server.identity import CHECK_S, IDLE_S, TRUST_S, SignIns
from meter_batch_analytics.server.pool import KernelPool, Owned
from meter_batch_analytics.server.signin import Away, OldHomeAssistant, Provider, Refused, check
from meter_batch_analytics.session import Identity

from .small_house import OFFICE, House, opened

CLIENT = "http://127.0.0.1:8130/"
WHO = Identity.from_dict(OFFICE)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path / "ledger.db")
    made.clients["refresh-u-office"] = CLIENT, OFFICE
    return made


@pytest.fixture
def provider(house: House) -> Iterator[Provider]:
    with opened(house) as url:
        yield Provider(url, None)


class Setting:
    """Somebody who is signed in and has a kernel."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sign_ins = SignIns(self.clock)
        self.id = self.sign_ins.add(WHO, "refresh-u-office", CLIENT)
        self.pool = KernelPool()
        self.pool.owners["k"] = Owned(WHO, "en", time.monotonic())

    @property
    def kernels(self) -> list[str]:
        return list(self.pool.owners)


@pytest.fixture
async def setting() -> Setting:
    return Setting()


async def test_who_was_removed_in_home_assistant_is_out_with_all_kernels(
    house: House, provider: Provider, setting: Setting
) -> None:
    house.removed.add(OFFICE["user"])
    setting.clock.now = CHECK_S - 1
    await check(provider, setting.pool, setting.sign_ins)
    assert setting.sign_ins.find(setting.id) == WHO
    setting.clock.now = CHECK_S
    await check(provider, setting.pool, setting.sign_ins)
    assert setting.sign_ins.find(setting.id) is None
    assert setting.kernels == []
    assert house.revoked == ["refresh-u-office"]


async def test_whose_scope_became_another_needs_new_kernels(house: House, provider: Provider, setting: Setting) -> None:
    house.clients["refresh-u-office"] = CLIENT, {**OFFICE, "scope": ["p1"]}
    setting.clock.now = CHECK_S
    await check(provider, setting.pool, setting.sign_ins)
    found = setting.sign_ins.find(setting.id)
    assert found is not None
    assert found.scope == {"p1"}
    assert setting.kernels == []


async def test_nothing_changes_for_whom_nothing_changed(house: House, provider: Provider, setting: Setting) -> None:
    setting.clock.now = CHECK_S
    await check(provider, setting.pool, setting.sign_ins)
    assert setting.sign_ins.find(setting.id) == WHO
    assert setting.kernels == ["k"]


async def test_while_home_assistant_is_away_its_last_answer_counts_for_half_an_hour(
    house: House, provider: Provider, setting: Setting
) -> None:
    house.down = True
    while setting.clock.now + CHECK_S < TRUST_S:
        setting.clock.now += CHECK_S
        await check(provider, setting.pool, setting.sign_ins)
        assert setting.sign_ins.find(setting.id) == WHO
    assert setting.kernels == ["k"]
    setting.clock.now = TRUST_S
    await check(provider, setting.pool, setting.sign_ins)
    assert setting.sign_ins.find(setting.id) is None
    assert setting.kernels == []


async def test_who_did_nothing_for_half_an_hour_is_signed_out(
    house: House, provider: Provider, setting: Setting
) -> None:
    while setting.clock.now < IDLE_S:
        assert setting.kernels == ["k"]
        setting.clock.now += CHECK_S
        await check(provider, setting.pool, setting.sign_ins)
    assert setting.kernels == []
    assert house.revoked == ["refresh-u-office"]


async def test_what_home_assistant_answers_is_told_apart(house: House, provider: Provider) -> None:
    assert await provider.again("refresh-u-office", CLIENT) == WHO
    with pytest.raises(Refused):
        await provider.again("another", CLIENT)
    with pytest.raises(Refused):
        await provider.again("refresh-u-office", "http://elsewhere/")
    house.clients["refresh-u-office"] = CLIENT, {"user": "u-office"}
    with pytest.raises(OldHomeAssistant):
        await provider.again("refresh-u-office", CLIENT)
    house.down = True
    with pytest.raises(Away):
        await provider.again("refresh-u-office", CLIENT)
    with pytest.raises(Away):
        await Provider("http://127.0.0.1:9", None).again("refresh-u-office", CLIENT)
