"""What the engine says to people: one catalogue, every sentence of it is said, each can be translated."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

import meter_batch_engine as engine
from meter_batch_engine.errors import ConfigError, LineUnavailable, MeterError, TemplateError
from meter_batch_engine.protocol.dlt645.exchange import ReadData, error_flags
from meter_batch_engine.protocol.dlt645.frame import encode
from meter_batch_engine.sentences import SENTENCES, Sentence, listed, say, together

FOLDER = Path(engine.__file__).parent
FOR_AUTHORS = {
    *("template/loader.py", "template/file_table.py", "template/catalogue.py", "template/identity.py"),
    *("template/planner.py", "protocol/dlt645/load_record.py"),
}
"""What they say is read by people who write files and programs."""
TO_PEOPLE = {
    *("LineError", "LineUnavailable", "LineLost", "_Deaf", "MeterError", "NoReply", "FrameError", "WrongMeter"),
    *("Refused", "AbsentRegister", "AccessDenied", "DecodeError", "_Conflict", "LedgerError"),
}


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    """Every call in the engine: where, the call, and the name of what is called."""
    for path in sorted(FOLDER.rglob("*.py")):
        file = path.relative_to(FOLDER).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield f"{file}:{node.lineno}", node, node.func.id


def keys_of(node: ast.expr, names: dict[str, set[str]]) -> set[str]:
    """The keys that an expression may be: texts, either side of a condition, or all that begin as an f-string does."""
    match node:
        case ast.Constant(value=str(key)):
            return {key}
        case ast.IfExp(body=body, orelse=orelse):
            return keys_of(body, names) | keys_of(orelse, names)
        case ast.JoinedStr(values=[ast.Constant(value=str(prefix)), *_]):
            return {key for key in SENTENCES if key.startswith(prefix)}
        case ast.Name(id=name):
            return names[name]
    raise AssertionError(f"the key cannot be seen: {ast.unparse(node)}")


def said() -> Iterator[tuple[str, str, set[str], bool]]:
    """Every `say` in the engine: where, key, facts, and whether the key is one of many of an f-string."""
    for path in sorted(FOLDER.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names: dict[str, set[str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and path.name == "exchange.py":
                try:
                    names[node.targets[0].id] = keys_of(node.value, {})
                except AssertionError, KeyError:
                    continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
                facts = {str(one.arg) for one in node.keywords}
                for key in keys_of(node.args[0], names):
                    yield f"{path.name}:{node.lineno}", key, facts, isinstance(node.args[0], ast.JoinedStr)


def test_every_key_that_is_said_exists_and_gets_the_facts_of_its_sentence() -> None:
    found = list(said())
    assert len(found) > len(SENTENCES) / 2
    for where, key, facts, many in found:
        assert key in SENTENCES, f"{where}: there is no sentence {key}"
        # An f-string begins like sentences that are said elsewhere, with facts.
        assert many or placeholders(SENTENCES[key]) == facts, f"{where}: {key} is not given what it names"


def test_every_sentence_is_said_somewhere() -> None:
    assert set(SENTENCES) == {key for _, key, _, _ in said()}


def test_no_failure_that_people_see_is_worded_outside_the_catalogue() -> None:
    for where, call, name in calls():
        if name in TO_PEOPLE and call.args and where.partition(":")[0] not in FOR_AUTHORS:
            plain = isinstance(call.args[0], ast.JoinedStr | ast.Constant)
            # What does not fit its request can only be met by servers and by `meter-batch decode`.
            assert (
                not plain or where.startswith("protocol/modbus/pdu.py") or "answered by a DL/T" in ast.unparse(call)
            ), where


@pytest.mark.parametrize("variant", ["2007", "1997"])
def test_every_reason_of_a_refusal_has_a_sentence(variant: str) -> None:
    for code in range(256):
        for flag in error_flags(code, variant):
            assert flag.startswith("bit") or f"dlt645_reason_{flag}" in SENTENCES
        di = "00010000" if variant == "2007" else "9010"
        control = 0xD1 if variant == "2007" else 0xC1
        with pytest.raises(MeterError) as refused:
            ReadData("000000000012", di, variant=variant).feed(encode("000000000012", control, bytes((code,))))
        assert isinstance(refused.value.text, Sentence)


def test_a_sentence_is_a_text_that_keeps_its_key_and_facts() -> None:
    sentence = say("connect_timeout", where="gw:502", seconds=5)
    assert sentence == "No answer from gw:502 within 5 s: is the device on, and is its address right?"
    assert (sentence.key, sentence.facts) == ("connect_timeout", {"where": "gw:502", "seconds": "5"})
    copied = deepcopy(sentence)
    assert (copied, copied.key, copied.facts) == (sentence, sentence.key, sentence.facts)


def test_an_error_gives_its_sentence_back_and_plain_words_as_they_are() -> None:
    sentence = say("line_not_connected", line="East")
    assert LineUnavailable(sentence).text is sentence
    assert str(LineUnavailable(sentence)) == sentence
    assert TemplateError("a.toml: it is empty").text == "a.toml: it is empty"
    assert ConfigError().text == ""


def test_sentences_in_a_row_stay_sentences() -> None:
    parts = [say("modbus_says_2"), say("modbus_says_6"), say("modbus_says_7")]
    assert listed(parts) == "it has no such register, it is busy, ask again later, it cannot do this now"
    assert listed(parts[:1]) is parts[0]
    row = together(parts)
    assert isinstance(row, Sentence) and row.facts["next"] is parts[2]
