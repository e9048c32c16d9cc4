"""What is dated in a point: which meter was there since when, and which transformer ratios held. Pure."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from .engine import InstalledMeter, Multiplier
from .registry import ALWAYS


def installed(
    meters: tuple[InstalledMeter, ...], template: str, serial: str | None, now: datetime
) -> tuple[InstalledMeter, ...]:
    """The meter history after a form or file named this meter: another serial number is another meter.

    A serial number that was not known before, or another template alone, corrects what was said of the same meter.
    """
    if not meters:
        return (InstalledMeter(ALWAYS, template, serial),)
    last = meters[-1]
    if serial != last.serial and serial and last.serial:
        return (*meters, InstalledMeter(now, template, serial))
    return (*meters[:-1], InstalledMeter(last.since, template, serial))


def replaced(
    meters: tuple[InstalledMeter, ...], serial: str, since: datetime, before: str | None
) -> tuple[InstalledMeter, ...]:
    """The meter history after another one of the same model was put in; `before`: the old one's number, if known."""
    last = meters[-1]
    old = InstalledMeter(last.since, last.template, last.serial or before)
    return (*meters[:-1], old, InstalledMeter(since, last.template, serial))


def with_multiplier(
    before: tuple[Multiplier, ...], ct: Decimal, pt: Decimal, since: datetime | None, default: datetime
) -> tuple[Multiplier, ...]:
    """The dated ratios after a form or file named them. Without a date they hold from `default` on, if they differ."""
    last = before[-1] if before else Multiplier(ALWAYS)
    if since is None:
        if (ct, pt) == (last.ct, last.pt):
            return before
        since = default
    return tuple(
        sorted((*(one for one in before if one.since != since), Multiplier(since, ct, pt)), key=lambda one: one.since)
    )
