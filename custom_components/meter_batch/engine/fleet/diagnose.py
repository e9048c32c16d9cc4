"""Why a meter is silent or wrong: ranked causes with their cures, from what its line has seen. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from ..line import LineSettings
from ..sentences import Sentence, say
from . import signature
from .evidence import ANSWERS, Heard, LineEvidence, Mark, MeterEvidence, Outcome
from .judge import judge_values

type Scope = Literal["meter", "line"]

SURE = 0.95
"""The likelihoods of all causes together never say more than this."""
LIKELY_S = 600.0
"""Who answered within this time counts as there."""
FEW = 3
"""After so many questions the evidence is as good as it gets; before, all likelihoods are smaller."""
LEAST = 0.04
"""Causes that are less likely are not named."""
PERHAPS = 0.2
"""Causes that are less likely are told as something that may be."""
ZONE_WITHIN_S = 120.0
"""Clocks that differ by whole hours to within this are in another time zone."""
OFTEN = 0.1
"""Share of questions above which failures of a meter that answers are worth a word."""
HANDLED = frozenset(
    {
        "echo",
        "glitch",
        "dtu_prefix",
        "glued",
        "gateway_transaction",
        "previous",
        "slow_meter",
        "refuses",
        "load",
        "clock",
    }
)
"""Oddities that a line can live with: where the meter is read nonetheless, they are told and marked. So is a clock that
is wrong: time is ours, not the meter's, and its memory is read with the offset."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One possible cause: what is seen (`text`), what to do (`cure`), and whether it is one meter's or the line's."""

    cause: str
    likelihood: float
    text: Sentence
    cure: Sentence
    scope: Scope = "meter"
    handled: bool = False
    """True where the meter is read in spite of it, so that nothing must be done at once."""


@dataclass(slots=True)
class _Weights:
    """Causes with their weights; facts fill their sentences."""

    of: Counter[str] = field(default_factory=Counter)
    facts: dict[str, object] = field(default_factory=dict)
    line: set[str] = field(default_factory=set)
    gateway_said: bool = False
    """A gateway said that the meter does not answer."""
    function_refused: bool = False
    """The meter refused the function of the questions."""
    zone: bool = False
    """All clocks that were read differ by the same whole hours."""
    heard: bool = True
    """Something came that may be read at another setting."""

    def add(self, *, of_line: bool = False, **weights: float) -> None:
        for cause, weight in weights.items():
            self.of[cause] += weight  # type: ignore[assignment]
            if of_line:
                self.line.add(cause)


def diagnose(line: LineEvidence, meter: MeterEvidence, now: float) -> tuple[Diagnosis, ...]:
    """The likely causes, likeliest first; empty where the meter is well.

    `now` is a monotonic instant, like those of the evidence. Likelihoods add up to 1 at most: what is missing is for
    causes nobody has thought of.
    """
    weights = _Weights(facts=_facts(line, meter))
    if not line.connected:
        weights.add(of_line=True, line_cut=1.0)
        return _ranked(weights, 1.0)
    failures = meter.since_answered()
    weights.gateway_said = any(one.outcome is Outcome.GATEWAY_TARGET for one in failures)
    weights.heard = any(one.outcome is Outcome.DAMAGED for one in failures)
    if failures and not _is_well(meter, failures):
        _of_silence(line, meter, failures, now, weights)
        return _ranked(weights, min(1.0, len(failures) / FEW))
    found = [*judge_values(meter), *_of_oddities(line, meter)]
    if len(found) > 1:
        # A clock that is wrong explains nothing else.
        found = [(cause, min(weight, 0.3) if cause == "clock" else weight, facts) for cause, weight, facts in found]
    weights.zone = _is_zone(line, meter)
    for cause, weight, facts in found:
        weights.add(of_line=cause in ("echo", "gateway_transaction"), **{cause: weight})
        weights.facts.update(facts)
    return _ranked(weights, max((weight for _, weight, _ in found), default=0.0), read=True)


def _is_well(meter: MeterEvidence, failures: list[Heard]) -> bool:
    """Whether it answers on the whole, so that some failures are noise and no silence."""
    if meter.answered_at is None:
        return False
    refusals = sum(one.outcome in ANSWERS for one in failures)
    # Registers that are refused are asked for now and then: a meter that gives the others is well.
    # Who misses now and then is not gone when it misses some in a row.
    often = len(meter.recent) - len(failures) >= FEW
    return len(failures) - refusals < (2 * FEW if often else FEW)


def _facts(line: LineEvidence, meter: MeterEvidence) -> dict[str, object]:
    settings = line.settings
    return {
        "address": meter.address,
        "baud": settings.baud,
        "parity": {"N": "8N", "E": "8E", "O": "8O"}.get(settings.parity, settings.parity) + str(settings.stop_bits),
        "model": meter.template.name if meter.template is not None else "?",
        "other": "?",
        "problem": line.problem or say("alarm_no_reason"),
    }


# --- silence


def _of_silence(line: LineEvidence, meter: MeterEvidence, failures: list[Heard], now: float, to: _Weights) -> None:
    """Each failure votes for what may have caused it."""
    there, others = line.answering(meter, now, LIKELY_S)
    alone = others == 0
    before = meter.alive_at is not None
    heard = [one for one in failures if one.outcome is Outcome.DAMAGED]
    share = 1 / len(failures)
    for outcome, count in Counter(one.outcome for one in failures).items():
        weight = count * share
        match outcome:
            case Outcome.NOTHING | Outcome.ONLY_ECHO | Outcome.GATEWAY_TARGET:
                _nothing(weight, there, before=before, alone=alone, network=line.network, to=to)
            case Outcome.LATE:
                to.add(slow_meter=0.8 * weight)
            case Outcome.GATEWAY_PATH:
                to.add(gateway=0.9 * weight, address=0.1 * weight)
            case Outcome.OTHER_FRAMING:
                to.add(of_line=True, framing=weight)
            case Outcome.OTHER_EDITION:
                to.add(wrong_template=weight)
            case Outcome.OTHER_NUMBER:
                to.add(of_line=True, gateway_transaction=weight)
            case Outcome.TWO_REPLIES:
                to.add(clash=0.5 * weight, glued=0.45 * weight)
            case Outcome.PREVIOUS:
                to.add(previous=weight)
            case Outcome.FOREIGN | Outcome.OTHER_QUESTION:
                _foreign(weight, line, meter, failures, to)
            case Outcome.ABSENT | Outcome.REFUSED | Outcome.UNREADABLE:
                to.add(wrong_template=weight)
            case Outcome.DENIED:
                to.add(access_denied=weight)
            case Outcome.FUNCTION:
                # Modbus has no code for a right that lacks: who refuses whatever is read is locked, or another model.
                to.add(access_denied=0.6 * weight, wrong_template=0.4 * weight)
                to.function_refused = True
            case Outcome.DAMAGED:
                _damaged(weight, heard, line.settings, there, before=before, alone=alone, to=to)
            case _:
                pass
    if meter.marks[Mark.GLUED] > OFTEN * meter.counts[Outcome.ANSWERED] and meter.marks[Mark.GLUED] >= FEW:
        # What was missed came later, together with the next reply.
        to.of = Counter({cause: weight / 4 for cause, weight in to.of.items()})
        to.add(glued=1.0)
    if meter.late:
        # Whoever answers too late is there, and all else follows from that.
        to.of = Counter({cause: weight / 8 for cause, weight in to.of.items()})
        to.add(slow_meter=1.0)
        to.facts["seconds"] = f"{meter.late_s:.1f}"
    to.facts.setdefault("seconds", "2")


def _nothing(weight: float, there: int, *, before: bool, alone: bool, network: bool, to: _Weights) -> None:
    """Silence says little: the neighbours and the past decide."""
    if there and before:
        guess = {"meter_off": 0.6, "wiring": 0.25, "address": 0.1}
    elif there:
        guess = {"meter_off": 0.35, "address": 0.25, "wiring": 0.18, "baud": 0.12, "parity": 0.05}
    elif alone and before:
        guess = {"meter_off": 0.5, "wiring": 0.3, "gateway": 0.1 * network}
    elif alone:
        guess = {"wiring": 0.3, "meter_off": 0.25, "address": 0.2, "baud": 0.15, "gateway": 0.05 * network}
    elif before:
        # All at once: what they share has failed.
        guess = {"wiring": 0.5, "meter_off": 0.2, "gateway": 0.2 if network else 0.1}
    else:
        guess = {"wiring": 0.4, "baud": 0.2, "meter_off": 0.12, "parity": 0.1, "gateway": 0.1 * network}
    to.add(of_line=not there and not alone, **{cause: weight * one for cause, one in guess.items() if one})


def _foreign(weight: float, line: LineEvidence, meter: MeterEvidence, failures: list[Heard], to: _Weights) -> None:
    """Frames of others: of a meter that is known on the line, or of one that nobody knows."""
    others = Counter(
        sender for one in failures for sender in signature.senders(one.raw) if sender and sender != meter.address
    )
    if not others:
        to.add(previous=0.4 * weight, clash=0.3 * weight, second_master=0.2 * weight)
        return
    sender = others.most_common(1)[0][0]
    to.facts["other"] = sender
    known = {one.address for one in line.meters.values()}
    if sender in known:
        to.add(previous=0.5 * weight, clash=0.15 * weight, second_master=0.25 * weight)
    else:
        to.add(address=0.7 * weight, second_master=0.2 * weight)


def _damaged(
    weight: float, heard: list[Heard], settings: LineSettings, there: int, *, before: bool, alone: bool, to: _Weights
) -> None:
    """What damaged bytes look like says what damages them."""
    marks = signature.read(heard, settings)
    guess = {"noise": 0.25 + marks.noise, "baud": marks.baud, "parity": marks.parity, "truncated": marks.truncated}
    guess |= {"clash": marks.clash, "dtu_prefix": marks.text, "wiring": marks.wiring, "glitch": marks.glitch}
    if marks.unclear:
        if before:
            guess |= {"noise": 0.7, "wiring": 0.1}
        else:
            guess["baud"] += 0.3
            guess["parity"] += 0.1
            guess["wiring"] += 0.05
            if there and heard[0].request.lstrip(b"\xfe")[:1] == b"\x68":
                # Another setting has a signature; two that talk over each other at one address have none.
                guess["clash"] += 0.5
    whole = sum(guess.values())
    of_line = not there and not alone
    to.add(of_line=of_line, **{cause: weight * one / whole for cause, one in guess.items() if one})


# --- oddities of a meter that is read


def _of_oddities(line: LineEvidence, meter: MeterEvidence) -> Iterator[tuple[str, float, dict[str, object]]]:
    answered = meter.counts[Outcome.ANSWERED]
    if not answered:
        return
    refused = list(meter.refused.values())
    if len(refused) >= 2 and len(refused) > len(meter.given):
        denied = sum(one is Outcome.DENIED for one in refused)
        yield ("access_denied" if 2 * denied > len(refused) else "wrong_template"), 0.8, {}
    elif any(one is Outcome.DENIED for one in refused):
        yield "access_denied", 0.7, {}
    elif refused:
        yield "refuses", 0.5, {"count": len(refused)}
    if line.echoes or meter.marks[Mark.ECHO] >= FEW:
        yield "echo", 0.9, {}
    if not line.numbers_kept:
        yield "gateway_transaction", 0.9, {}
    tried = meter.recent_answers + len(meter.recent)
    # Replies that are cut otherwise than they were sent seem to come late.
    explained = False
    for mark, cause in (
        (Mark.PREFIX, "dtu_prefix"),
        (Mark.GLITCH, "glitch"),
        (Mark.GLUED, "glued"),
        (Mark.NOISE, "noise"),
        (Mark.PREVIOUS, "previous"),
    ):
        if meter.marks[mark] >= FEW and meter.marks[mark] > OFTEN * answered:
            explained = explained or cause == "glued"
            yield cause, 0.8, {}
    failed = Counter(one.outcome for one in meter.recent)
    bad = [one for one in meter.recent if one.outcome is Outcome.DAMAGED]
    if len(bad) >= FEW and len(bad) > OFTEN * tried:
        marks = signature.read(bad, line.settings)
        # TCP itself keeps bytes from damage: what is none there was cut.
        cut = marks.truncated > 0.5 or (line.settings.framing == "tcp" and marks.glitch <= 0.5)
        explained = explained or cut
        yield ("truncated" if cut else "glitch" if marks.glitch > 0.5 else "noise"), 0.7, {}
    previous = failed[Outcome.PREVIOUS] + failed[Outcome.OTHER_QUESTION]
    if previous >= FEW and previous > OFTEN * tried:
        yield "previous", 0.85, {}
    if failed[Outcome.TWO_REPLIES] >= FEW and failed[Outcome.TWO_REPLIES] > OFTEN * tried:
        yield "clash", 0.5, {}
        yield "glued", 0.45, {}
    if meter.late >= FEW and meter.late > OFTEN * tried:
        yield "slow_meter", 0.1 if explained else 0.85, {"seconds": f"{meter.late_s:.1f}"}
    elif failed[Outcome.NOTHING] >= FEW and failed[Outcome.NOTHING] > OFTEN * tried:
        yield "noise", 0.4, {}
        yield "wiring", 0.3, {}


def _is_zone(line: LineEvidence, meter: MeterEvidence) -> bool:
    """Whether all clocks of a line differ from ours by the same whole hours: rather another zone than a fault."""
    offsets = [one.clock_offset_s for one in line.meters.values() if one.clock_offset_s is not None]
    if meter.clock_offset_s is None or len(offsets) < 2 or max(offsets) - min(offsets) > 2 * ZONE_WITHIN_S:
        return False
    hours = round(meter.clock_offset_s / 3600)
    return 1 <= abs(hours) <= 14 and abs(meter.clock_offset_s - 3600 * hours) <= ZONE_WITHIN_S


# --- the ranking


def _ranked(weights: _Weights, confidence: float, *, read: bool = False) -> tuple[Diagnosis, ...]:
    total = sum(weights.of.values())
    if not total:
        return ()
    scale = min(SURE, confidence * min(1.0, total)) / total
    ranked = sorted(weights.of.items(), key=lambda one: -one[1])
    return tuple(
        Diagnosis(
            cause,
            round(weight * scale, 3),
            _told(cause, weights, weight * scale),
            say(f"cure_{_name(cause, weights)}", **weights.facts),
            "line" if cause in weights.line or cause == "line_cut" else "meter",
            handled=read and cause in HANDLED,
        )
        for cause, weight in ranked
        if weight * scale >= LEAST
    )


def _name(cause: str, weights: _Weights) -> str:
    """By what name the sentences of a cause go, where more is known of it."""
    if cause == "access_denied" and weights.function_refused:
        return "function_refused"
    return "clock_zone" if cause == "clock" and weights.zone else cause


def _told(cause: str, weights: _Weights, likelihood: float) -> Sentence:
    """A cause in words, as a fact only where it is likely, and with nothing in it that was not heard."""
    facts = weights.facts
    unheard = facts["other"] == "?" if cause in ("address", "second_master") else not weights.heard
    if unheard:
        match cause:
            case "address":
                return say("address_unheard", address=facts["address"])
            case "second_master":
                return say("second_master_unheard")
            case "baud":
                return say("baud_unheard", address=facts["address"], baud=facts["baud"])
            case "parity":
                return say("parity_unheard", address=facts["address"], parity=facts["parity"])
    match _name(cause, weights):
        case "function_refused":
            return say("function_refused", address=facts["address"])
        case "clock_zone":
            return say("clock_zone", address=facts["address"], offset=facts["offset"])
    if weights.gateway_said and cause == "meter_off":
        return say("meter_off_gateway", address=facts["address"])
    text = say(f"diagnosis_{cause}", **facts)
    return text if likelihood >= PERHAPS else say("perhaps", what=text)
