"""A meter says who it is, where its model is known to; elsewhere nothing is claimed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_batch_engine.errors import ConfigError, DecodeError, TemplateError
from meter_batch_engine.template import IdentityItem, Template, available, identity_requests, load
from meter_batch_engine.template.loader import parse

ROW = '{ key = "voltage", address = 0, type = "uint16" }'


def own(identity: str) -> Template:
    return parse(
        f'vendor = "Acme"\nmodel = "M1"\nprotocol = "modbus"\nphases = 1\nregister = [{ROW}]\n[identity]\n{identity}\n'
        '[sources]\nmanual = "p. 1"\n',
        "acme/m1",
        "m1.toml",
    )


@pytest.mark.parametrize(
    ("model", "about", "words", "text"),
    [
        # Bytes written by hand, as the sources of the row say that they lie.
        ("eastron/sdm630", "serial", [0x0123, 0x4567], "19088743"),
        ("eastron/sdm630", "model", [112], "112"),
        ("abb/b23", "model", [0x4232, 0x3320, 0x3131, 0x322D, 0x3130, 0x3000], "B23 112-100"),
        # EM24 pads at the end, EM340 puts a zero before each character.
        ("carlo-gavazzi/em24", "serial", [0x4252, 0x3132, 0x3334, 0x3500, 0, 0, 0], "BR12345"),
        ("carlo-gavazzi/em340", "serial", [0x42, 0x52, 0x31, 0x32, 0x33, 0x34, 0x35], "BR12345"),
        ("schneider/iem3155", "serial", [0x0012, 0xD687], "1234567"),
        ("siemens/pac3200", "serial", [42] + [0x3741] * 10 + [0x4C51, 0x4E2F, 0x3132, 0x3334] + [0] * 12, "LQN/1234"),
    ],
)
def test_what_a_meter_says_of_itself_is_read_from_its_words(
    model: str, about: str, words: list[int], text: str
) -> None:
    (request,) = (one for one in identity_requests(load(model)) if about in one.about)
    assert request.request.count == len(words)  # type: ignore[union-attr]
    assert request.texts(words)[about] == text


def test_dlt645_meters_have_a_number_by_their_standard() -> None:
    (request,) = identity_requests(load("generic/dlt645-3ph"))
    assert request.request.di == "04000402"  # type: ignore[union-attr]
    assert request.texts(bytes.fromhex("785634129078")) == {"serial": "789012345678"}
    assert request.texts(b"\xff" * 6) == {"serial": None}
    (request,) = identity_requests(load("generic/dlt645-1997-1ph"))
    assert request.request.di == "C032"  # type: ignore[union-attr]


def test_a_model_without_known_places_claims_nothing() -> None:
    template = load("chint/dtsu666")
    assert identity_requests(template) == ()
    assert template.identity.is_model("anything") is None


def test_codes_that_are_certain_say_no_and_codes_in_doubt_only_say_yes() -> None:
    certain = own('model = { address = 1, type = "uint16", is = ["3[45]"], sources = ["manual"] }').identity
    assert [certain.is_model(one) for one in ("34", "36", None)] == [True, False, None]
    doubtful = own('model = { address = 1, type = "uint16", is = ["35"], doubt = "others?" }').identity
    assert [doubtful.is_model(one) for one in ("35", "36")] == [True, None]


def test_a_meter_that_holds_nothing_there_has_no_number() -> None:
    item = IdentityItem(3, 0, 2, "uint32")
    assert item.text([0, 0]) is None
    assert item.text([0xFFFF, 0xFFFF]) is None
    with pytest.raises(DecodeError):
        item.text([1])


@given(st.integers(1, 2**32 - 2), st.booleans())
def test_numbers_are_written_as_they_are_read(number: int, little: bool) -> None:
    item = IdentityItem(3, 0, 5, "uint32", skip=2, size=2, little=little)
    assert item.text(item.words(str(number))) == str(number)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=14))
def test_texts_are_written_as_they_are_read(text: str) -> None:
    item = IdentityItem(3, 0, 7, "ascii")
    assert item.text(item.words(text)) == text


@pytest.mark.parametrize(("kind", "text"), [("uint32", "-1"), ("uint32", "4294967296"), ("ascii", "é"), ("bcd", "12x")])
def test_a_number_that_does_not_fit_is_refused(kind: str, text: str) -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        IdentityItem(3, 0, 2, kind).words(text)


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ('serial = { address = 1, type = "ascii" }', r"m1.toml: \[identity serial\] words: is missing"),
        ('serial = { address = 1, type = "float32" }', r"m1.toml: \[identity serial\] type: is 'float32'"),
        ('serial = { address = 1, type = "uint32", block = [2, 9] }', r"\[identity serial\] block: must be"),
        ('serial = { address = 1, type = "uint32", sources = ["maker"] }', r"\[identity serial\] sources: \"maker\""),
        ('serial = { address = 1, type = "uint32", is = ["1"] }', r"\[identity serial\] is: is not known"),
        ('number = { address = 1, type = "uint32" }', r"\[identity\] number: is not known"),
    ],
)
def test_mistakes_are_named_by_file_table_and_key(identity: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        own(identity)


def test_every_row_names_its_sources() -> None:
    for template in map(load, available()):
        for item in (template.identity.serial, template.identity.model):
            assert item is None or item.sources, template.id


def test_the_maps_of_measurements_are_left_alone() -> None:
    """Identity is no register: it is asked for seldom, and never in a round."""
    folder = Path(__file__).parents[3] / "custom_components/meter_batch/engine/templates"
    assert "[identity]" in (folder / "eastron/sdm630.toml").read_text()
    assert all(one.locator.address < 0xFC00 for one in load("eastron/sdm630").registers)  # type: ignore[union-attr]
