"""Who somebody is cannot be made up, and does not last longer than it should."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_analytics.server.identity import CHECK_S, CLOCKS_S, IDLE_S, TRUST_S, SignIns, signed, verified
from meter_batch_analytics.session import Identity

TOKEN = "t" * 43
NOW = 1_800_000_000.0
PEOPLE = st.builds(
    Identity,
    st.text(min_size=1),
    st.text(),
    st.booleans(),
    st.sampled_from(["en", "zh-Hans"]),
    st.none() | st.frozensets(st.text()),
)
WHO = Identity("u", "王芳", False, "zh-Hans", frozenset({"p1", "p2"}))


@given(PEOPLE)
def test_what_the_proxy_signs_is_read_as_it_was(who: Identity) -> None:
    assert verified(signed(who, TOKEN, NOW + 60), TOKEN, NOW) == who


def test_it_ends_when_it_says_so_whatever_little_the_clocks_differ(caplog: pytest.LogCaptureFixture) -> None:
    header = signed(WHO, TOKEN, NOW + 60)
    assert verified(header, TOKEN, NOW + 59 + CLOCKS_S) == WHO
    assert verified(header, TOKEN, NOW + 60 + CLOCKS_S) is None
    assert "clocks" in caplog.text


@given(st.data())
def test_no_changed_letter_of_it_is_accepted(data: st.DataObject) -> None:
    header = signed(WHO, TOKEN, NOW + 60)
    place = data.draw(st.integers(0, len(header) - 2))  # the very last letter has bits that say nothing
    letter = data.draw(st.sampled_from("abcXYZ019-_.").filter(lambda one: one != header[place]))
    assert verified(header[:place] + letter + header[place + 1 :], TOKEN, NOW) is None


@given(st.text())
def test_no_text_without_the_token_is_accepted(text: str) -> None:
    assert verified(text, TOKEN, NOW) is None


def test_another_token_is_not_accepted() -> None:
    assert verified(signed(WHO, "x" * 43, NOW + 60), TOKEN, NOW) is None


def test_padding_does_not_matter_and_the_form_is_what_the_contract_says() -> None:
    payload, signature = signed(WHO, TOKEN, NOW + 60).split(".")
    assert json.loads(base64.urlsafe_b64decode(payload + "=="))["exp"] == NOW + 60
    assert verified(f"{payload}.{signature}=", TOKEN, NOW) == WHO


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_session_ends_when_nobody_used_it_for_half_an_hour(clock: Clock) -> None:
    sign_ins = SignIns(clock)
    id_ = sign_ins.add(WHO, "refresh", "client")
    for _ in range(3):
        clock.now += IDLE_S - 1
        sign_ins.confirm(id_, WHO)
        assert sign_ins.find(id_) == WHO
    clock.now += IDLE_S
    sign_ins.confirm(id_, WHO)
    assert sign_ins.find(id_) is None
    assert [one.refresh_token for one in sign_ins.over()] == ["refresh"]
    assert sign_ins.users() == set()


def test_home_assistant_is_asked_every_five_minutes_and_may_be_away_for_half_an_hour(clock: Clock) -> None:
    sign_ins = SignIns(clock)
    id_ = sign_ins.add(WHO, "refresh", "client")
    clock.now = CHECK_S - 1
    assert sign_ins.due() == []
    clock.now = CHECK_S
    assert [one for one, _ in sign_ins.due()] == [id_]
    sign_ins.confirm(id_, None)
    assert sign_ins.due() == []
    while clock.now + CHECK_S < TRUST_S:
        clock.now += CHECK_S
        assert sign_ins.find(id_) == WHO
        sign_ins.confirm(id_, None)
    clock.now = TRUST_S
    assert sign_ins.find(id_) is None


def test_what_home_assistant_says_anew_counts_at_once(clock: Clock) -> None:
    sign_ins = SignIns(clock)
    id_ = sign_ins.add(WHO, "refresh", "client")
    less = Identity("u", "王芳", False, "zh-Hans", frozenset({"p1"}))
    sign_ins.confirm(id_, less)
    assert sign_ins.find(id_) == less


@given(st.text())
def test_a_cookie_that_was_not_given_is_nobody(text: str) -> None:
    sign_ins = SignIns(Clock())
    sign_ins.add(WHO, "refresh", "client")
    assert sign_ins.find(text) is None
