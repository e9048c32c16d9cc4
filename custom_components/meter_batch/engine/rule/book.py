"""Rules as data: `rules.toml`, and what a site, an area, a line or a point has otherwise."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..model.finding import Severity, SubjectKind
from ..model.quantity import BY_KEY
from ..sentences import say

SPECIFIC = ("site", "area", "line", "point")
"""Scopes of overrides; the later counts before the earlier."""

_SCOPES = "site, area:…, line:…, point:…"

ATTRIBUTES = ("contract_kw", "contract_kva", "rated_kw", "transformer_kva", "nominal_v", "generation")
"""What of a point's attributes rules look at."""

_LONGEST_S = 7 * 86_400
"""No delay is longer."""

_HYSTERESIS = 0.05
"""Where a rule without a level of its own is given one: it drops out 5 % inside it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is looked at, from where on it is an alarm, and for how long it must be so."""

    kind: str
    looks_at: str
    """Name of a check, or key of a quantity, which is then compared as it is."""
    subject: SubjectKind
    severity: Severity
    unit: str
    """Of values and limits of its findings."""
    pickup: float | None = None
    """In `relative_to`, else in `unit`; None where only an override gives one: the rule then rests without."""
    dropout: float | None = None
    relative_to: str | None = None
    """What pick-up and drop-out are shares of ("nominal", "contract", "rating" …); None: they are in `unit`."""
    above: bool = True
    """Whether it picks up above its level or below."""
    on_delay_s: float = 0.0
    off_delay_s: float = 0.0
    enabled: bool = True
    needs: tuple[str, ...] = ()
    """Registers and attributes by key, "a|b" where either will do; a point without them does not have this rule."""
    min_load: float | None = None
    """Share of the rating below which it does not look."""
    bounds: tuple[float, float] | None = None
    """Between which pick-up and drop-out make sense; None: any number."""
    explained_by: tuple[str, ...] = ()
    """Kinds that are its cause while they are active at the same subject."""


@dataclass(frozen=True, slots=True)
class Override:
    """What is another for a scope: "site", "area:<name>", "line:<id>" or "point:<id>". None leaves it as it is."""

    scope: str
    kind: str
    enabled: bool | None = None
    pickup: float | None = None
    dropout: float | None = None
    on_delay_s: float | None = None
    off_delay_s: float | None = None
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The rules of a site by kind."""

    rules: Mapping[str, Rule]

    def check(self, override: Override) -> None:
        """ConfigError in words where an override names what is not there, or levels the wrong way round."""
        if (rule := self.rules.get(override.kind)) is None:
            raise ConfigError(say("rule_unknown", kind=override.kind, kinds=", ".join(self.rules)))
        kind, _, name = override.scope.partition(":")
        if kind not in SPECIFIC or (kind == "site") != (name == ""):
            raise ConfigError(say("rule_scope", scope=override.scope, scopes=_SCOPES))
        for key in ("pickup", "dropout", "on_delay_s", "off_delay_s"):
            value = getattr(override, key)
            if value is not None and (not isfinite(value) or (key.endswith("_s") and value < 0)):
                raise ConfigError(say("rule_number", key=key, kind=override.kind, value=value))
            if value is not None:
                _within(rule, key, value)
        changed = _changed(rule, override)
        if changed.dropout is not None and changed.pickup is not None and _reversed(changed):
            raise ConfigError(say("rule_reversed", kind=override.kind, pickup=changed.pickup, dropout=changed.dropout))

    def resolve(self, kind: str, overrides: Iterable[Override]) -> Rule:
        """The rule after the overrides that are meant, the general first."""
        rule = self.rules[kind]
        for override in overrides:
            rule = _changed(rule, override)
        return rule


def scopes(*, area: str | None = None, line: str | None = None, point: str | None = None) -> tuple[str, ...]:
    """The scopes that a subject is in, the general first."""
    named = (("area", area), ("line", line), ("point", point))
    return ("site", *(f"{kind}:{name}" for kind, name in named if name is not None))


def _changed(rule: Rule, override: Override) -> Rule:
    given: dict[str, Any] = {
        key: value
        for key in ("enabled", "pickup", "dropout", "on_delay_s", "off_delay_s", "severity")
        if (value := getattr(override, key)) is not None
    }
    if "pickup" in given and "dropout" not in given:
        # A pick-up that is moved takes its drop-out along.
        sign = -1 if rule.above else 1
        given["dropout"] = (
            given["pickup"] * (1 + sign * _HYSTERESIS)
            if rule.pickup is None or rule.dropout is None
            else given["pickup"] + (rule.dropout - rule.pickup)
        )
    return replace(rule, **given)


def _within(rule: Rule, key: str, value: float) -> None:
    if key.endswith("_s"):
        bounds: tuple[float, float] | None = (0, _LONGEST_S)
    elif rule.looks_at in _WITHOUT_LEVEL:
        raise ConfigError(say("rule_no_level", key=key, kind=rule.kind))
    else:
        bounds = rule.bounds
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        least, most = (f"{one:.10g}" for one in bounds)
        raise ConfigError(say("rule_bounds", key=key, kind=rule.kind, value=f"{value:.10g}", least=least, most=most))


def _reversed(rule: Rule) -> bool:
    assert rule.pickup is not None and rule.dropout is not None
    return rule.dropout > rule.pickup if rule.above else rule.dropout < rule.pickup


@cache
def _defaults() -> RuleBook:
    return load_rules(Path(__file__).with_name("rules.toml"))


def load_rules(path: Path | None = None) -> RuleBook:
    """The rules of a file, without one the product's own; ConfigError names file, rule and key."""
    if path is None:
        return _defaults()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    rules = {kind: _rule(kind, table, f"{path}: [{kind}]") for kind, table in tables.items()}
    once: dict[str, str] = {}
    for rule in rules.values():
        if rule.looks_at in _ONCE and once.setdefault(rule.looks_at, rule.kind) != rule.kind:
            other = once[rule.looks_at]
            raise ConfigError(f"{path}: [{rule.kind}]: [{other}] looks at {rule.looks_at} already; only one rule may")
        if strange := [kind for kind in rule.explained_by if kind not in rules]:
            raise ConfigError(f"{path}: [{rule.kind}]: explained_by names {strange[0]}, which is no rule of this file")
    return RuleBook(rules)


CHECKS: Mapping[str, SubjectKind] = {
    "power": "point",
    "day_energy": "point",
    "interval_energy": "point",
    "predicted_demand": "point",
    "power_factor": "point",
    "voltage_highest": "point",
    "voltage_lowest": "point",
    "voltage_lost": "point",
    "current_unbalance": "point",
    "load": "point",
    "reverse_power": "point",
    "uncounted_energy": "point",
    "silence": "point",
    "line": "line",
    "missing": "point",
    "host": "site",
}
"""What a rule may look at, beside quantities, and whose it is."""

_ONCE = frozenset({"day_energy", "interval_energy", "silence", "line", "missing"})
"""What does not come as readings: one rule each."""

_WITHOUT_LEVEL = frozenset({"silence", "line", "host"})
"""What is so or not, and has no level."""

_TYPES: Mapping[str, tuple[type, ...]] = {
    "looks_at": (str,),
    "severity": (str,),
    "unit": (str,),
    "relative_to": (str,),
    "above": (bool,),
    "enabled": (bool,),
    "needs": (list,),
    "explained_by": (list,),
    "bounds": (list,),
    **dict.fromkeys(("pickup", "dropout", "on_delay_s", "off_delay_s", "min_load"), (int, float)),
}


def _rule(kind: str, table: object, where: str) -> Rule:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: it must be a table")
    for key, value in table.items():
        if key not in _TYPES:
            raise ConfigError(f"{where}: unknown key {key}; a rule may have {', '.join(_TYPES)}")
        if not isinstance(value, _TYPES[key]) or (isinstance(value, bool) and bool not in _TYPES[key]):
            raise ConfigError(f"{where}: {key} = {value!r} must be {' or '.join(one.__name__ for one in _TYPES[key])}")
        if isinstance(value, float | int) and (not isfinite(value) or (key.endswith("_s") and value < 0)):
            raise ConfigError(f"{where}: {key} = {value!r} must be a number, delays of 0 or more")
    looks_at = table.get("looks_at", "")
    if looks_at not in CHECKS and looks_at not in BY_KEY:
        raise ConfigError(f'{where}: looks_at = "{looks_at}"; it may be {", ".join(CHECKS)} or the key of a quantity')
    if table.get("severity") not in list(Severity):
        raise ConfigError(f"{where}: severity must be {', '.join(Severity)}")
    needs = _texts(table.get("needs", []), f"{where}: needs")
    for one in needs:
        for key in one.split("|"):
            if key not in BY_KEY and key not in ATTRIBUTES:
                raise ConfigError(f"{where}: needs names {key}, which is neither a quantity nor an attribute")
    if looks_at not in CHECKS:
        needs = (looks_at, *needs)
    given = {key: value for key, value in table.items() if key not in ("needs", "explained_by", "severity", "bounds")}
    given.setdefault("unit", BY_KEY[looks_at].unit if looks_at in BY_KEY else "")
    rule = Rule(
        kind,
        subject=CHECKS.get(looks_at, "point"),
        severity=Severity(table["severity"]),
        needs=needs,
        explained_by=_texts(table.get("explained_by", []), f"{where}: explained_by"),
        bounds=_bounds(table.get("bounds"), where),
        **given,
    )
    if rule.pickup is not None and rule.dropout is not None and _reversed(rule):
        raise ConfigError(f"{where}: dropout = {rule.dropout} must lie on the quiet side of pickup = {rule.pickup}")
    return rule


def _bounds(values: Sequence[object] | None, where: str) -> tuple[float, float] | None:
    if values is None:
        return None
    numbers = [float(one) for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) != len(values) or len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ConfigError(f"{where}: bounds must be two numbers, the lesser first")
    return numbers[0], numbers[1]


def _texts(values: Sequence[object], where: str) -> tuple[str, ...]:
    if strange := [value for value in values if not isinstance(value, str)]:
        raise ConfigError(f"{where} must hold texts, not {strange[0]!r}")
    return tuple(str(value) for value in values)
