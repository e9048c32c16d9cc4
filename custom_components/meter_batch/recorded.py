"""What the recorder has of our statistics, read in its executor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from homeassistant.components.recorder.db_schema import Statistics, StatisticsMeta
from homeassistant.core import HomeAssistant
from homeassistant.helpers.recorder import session_scope
from sqlalchemy import select
from sqlalchemy.orm import Session

from .hourly import HOUR_S, Job, Row


@dataclass(frozen=True, slots=True)
class Stored:
    """What the recorder has around the hours of a job."""

    before: Decimal
    rows: tuple[Row, ...]


def stored(hass: HomeAssistant, batch: Sequence[Job]) -> list[Stored]:
    """What the recorder has around the hours of each job. In its executor."""
    found = []
    with session_scope(hass=hass, read_only=True) as session:
        numbers = _numbers(session, [job.id for job in batch])
        for job in batch:
            if (number := numbers.get(job.id)) is None:
                found.append(Stored(Decimal(0), ()))
                continue
            rows = select(Statistics.start_ts, Statistics.sum).where(Statistics.metadata_id == number)
            newest = rows.where(Statistics.start_ts < job.hours[0]).order_by(Statistics.start_ts.desc()).limit(1)
            before = session.execute(newest).first()
            span = (job.hours[-1] - job.hours[0]) // HOUR_S + 2
            later = rows.where(Statistics.start_ts >= job.hours[0]).order_by(Statistics.start_ts).limit(span)
            there, after = [], 0
            for at, sum_ in session.execute(later):
                there.append(Row(int(at), decimal(sum_)))
                after += at > job.hours[-1]
                if after:
                    break
            found.append(Stored(decimal(before[1]) if before else Decimal(0), tuple(there)))
    return found


def known(hass: HomeAssistant, ids: Sequence[str]) -> set[str]:
    """Which of these statistics there are. In its executor."""
    with session_scope(hass=hass, read_only=True) as session:
        return set(_numbers(session, ids))


def _numbers(session: Session, ids: Sequence[str]) -> dict[str, int]:
    """The recorder's numbers of statistics that it has."""
    numbers: dict[str, int] = {}
    for start in range(0, len(ids), 500):
        asked = select(StatisticsMeta.statistic_id, StatisticsMeta.id).where(
            StatisticsMeta.statistic_id.in_(ids[start : start + 500])
        )
        numbers |= {str(id_): number for id_, number in session.execute(asked)}
    return numbers


def decimal(value: float | None) -> Decimal:
    """A stored sum, as the shortest decimal that is this float."""
    return Decimal(repr(value or 0.0))
