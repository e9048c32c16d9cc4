"""A user's own folder of templates stands beside the shipped ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meter_batch_engine.errors import TemplateError
from meter_batch_engine.template import available, load, load_file, problems, use_folder
from meter_batch_engine.template.loader import parse_all

GOOD = """
vendor = "Acme"
model = "M1"
protocol = "modbus"
phases = 1
register = [{ key = "voltage", address = 0, type = "uint16", scale = 0.1 }]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "acme").mkdir()
    yield tmp_path
    use_folder(None)


def test_an_own_template_is_one_of_all(folder: Path) -> None:
    (folder / "acme/m1.toml").write_text(GOOD)
    use_folder(folder)
    assert "acme/m1" in available()
    assert load("acme/m1").name == "Acme M1"
    assert problems() == ()
    use_folder(None)
    assert "acme/m1" not in available()
    with pytest.raises(TemplateError, match='no template "acme/m1"'):
        load("acme/m1")


def test_a_file_that_is_wrong_leaves_the_others_alone_and_says_all_that_is_wrong(folder: Path) -> None:
    (folder / "acme/m1.toml").write_text(GOOD)
    bad = folder / "acme/m2.toml"
    bad.write_text(GOOD.replace("voltage", "voltag").replace("phases = 1", "phases = 7\nserail = 9600"))
    use_folder(folder)
    assert "acme/m1" in available()
    assert "acme/m2" not in available()
    assert sorted(str(one) for one in problems()) == sorted(
        [
            f'{bad}: [register voltag] key: "voltag" is no quantity we know (did you mean "voltage"?)',
            f"{bad}: phases: is 7; it may be 1, 3",
            f'{bad}: serail: is not known (did you mean "serial"?)',
        ]
    )
    with pytest.raises(TemplateError, match=r"m2\.toml"):
        load("acme/m2")


def test_a_change_is_seen_when_the_folder_is_read_again(folder: Path) -> None:
    (folder / "acme/m1.toml").write_text(GOOD)
    (folder / "acme/m2.toml").write_text(GOOD)
    use_folder(folder)
    first, other = load("acme/m1"), load("acme/m2")
    (folder / "acme/m1.toml").write_text(GOOD.replace("M1", "M1 second edition"))
    assert load("acme/m1") is first
    use_folder(folder)
    assert load("acme/m1").model == "M1 second edition"
    assert load("acme/m2") is other, "what has not changed stays the same object"
    (folder / "acme/m2.toml").unlink()
    use_folder(folder)
    assert "acme/m2" not in available()


def test_our_own_ids_are_not_taken_over(folder: Path) -> None:
    (folder / "eastron").mkdir()
    (folder / "eastron/sdm630.toml").write_text(GOOD)
    use_folder(folder)
    (problem,) = problems()
    assert 'shipped template "eastron/sdm630"' in str(problem)
    assert load("eastron/sdm630").vendor == "Eastron"


@pytest.mark.parametrize("where", ["loose.toml", "acme/deeper/m1.toml"])
def test_a_file_in_the_wrong_place_is_told_where_to_go(folder: Path, where: str) -> None:
    (folder / where).parent.mkdir(exist_ok=True)
    (folder / where).write_text(GOOD)
    use_folder(folder)
    (problem,) = problems()
    assert "folder of its vendor" in str(problem)


def test_a_file_that_is_no_text_and_a_folder_that_is_not_there_break_nothing(folder: Path) -> None:
    (folder / "acme/m1.toml").write_bytes(b"\xff\xfe\x00")
    use_folder(folder)
    assert "UTF-8" in str(problems()[0])
    use_folder(folder / "nowhere")
    assert problems() == ()


def test_every_mistake_of_a_file_is_found_at_once() -> None:
    template, wrong = parse_all(
        """
vendor = 7
model = "M"
protocol = "modbus"
phases = 3
serial = { baud = "fast", parity = "X" }
modbus = { function = 5, max_words = 1 }
limits = { voltage_v = [300, 0] }
register = [
  { key = "voltage_l1", address = 70000, type = "uint16", scale = "much" },
  { key = "voltage_l2", address = 1 },
  { key = "nonsense", address = 2, type = "float32" },
  { key = "current_l1", address = 10, type = "uint32" },
  { key = "current_l2", address = 11, type = "uint32", sources = ["nobody"] },
  { key = "current_l1", address = 30, type = "uint16", scal = 1 },
]
""",
        "a/m",
        "m.toml",
    )
    assert template is None
    text = "\n".join(str(one) for one in wrong)
    for expected in (
        "m.toml: vendor: must be a text",
        "[serial] baud: must be a whole number",
        "[serial] parity: is 'X'",
        "[modbus] function: is 5",
        "[limits] voltage_v: must be [lowest, highest]",
        "[register voltage_l1] address: must be a whole number from 0 to 65535",
        "[register voltage_l1] scale: must be a number",
        "[register voltage_l2] type: is missing",
        '[register nonsense] key: "nonsense"',
        '[register current_l2] sources: "nobody"',
        "[register current_l1] scal: is not known",
        "[register current_l1] key: it is there twice",
        "[register current_l2] address: 11 lies in current_l1",
        "[modbus] max_words: 1 is less than the 2 of current_l1",
    ):
        assert expected in text, text
    assert text.count("function: is 5") == 1, "what several rows look into is wrong once"


def test_a_shipped_file_reads_the_same_by_its_path() -> None:
    path = Path(__file__).parents[3] / "custom_components/meter_batch/engine/templates/eastron/sdm630.toml"
    assert load_file(path).id == load("eastron/sdm630").id
