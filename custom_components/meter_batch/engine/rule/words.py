"""A finding in words."""

from __future__ import annotations

from collections.abc import Mapping

from ..model.finding import Finding
from ..sentences import SENTENCES, Sentence, say

_DIGITS: Mapping[str, int] = {"V": 1, "A": 1, "%": 1, "": 2}


def kind_name(kind: str) -> str:
    """What a kind of finding is called; rules of a file of one's own go by their key."""
    return say(f"kind_{kind}") if f"kind_{kind}" in SENTENCES else kind


def sentence(finding: Finding, name: str) -> Sentence:
    """What is wrong with `name`, in one sentence; since when is said by whoever knows the reader's time zone."""
    unknown = say("alarm_no_reason")
    facts = {
        "name": name,
        "kind": kind_name(finding.kind),
        "value": _amount(finding.value, finding),
        "limit": _amount(finding.limit, finding, phase=False),
        **{key: finding.facts.get(key, unknown) for key in ("problem", "schedule", "period", "reason")},
    }
    return say(f"alarm_{finding.kind if f'alarm_{finding.kind}' in SENTENCES else 'other'}", **facts)


def _amount(value: float | None, finding: Finding, *, phase: bool = True) -> str:
    if value is None:
        return "?"
    digits = _DIGITS.get(finding.unit)
    if digits is None:  # powers and energies: three figures that count
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    text = f"{value:.{digits}f}" + (f" {finding.unit}" if finding.unit else "")
    return f"{text} (L{finding.phase})" if phase and finding.phase else text
