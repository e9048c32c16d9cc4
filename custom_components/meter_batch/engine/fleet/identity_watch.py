"""Who answers: serial numbers and plausible nonsense, looked at at first contact, after a silence and once a day.

A serial number costs one question, which goes on the account of probes. Volts and hertz cost nothing: they are in what
is read anyway. After a silence the serial number comes before anything is believed, so that the energies of two meters
are never mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import DecodeError, MeterError, Refused
from ..model.obis import Obis
from ..model.quantity import Measure
from ..template import Request, Template, identity_requests
from ..template.fit import Misfit, misfit

if TYPE_CHECKING:
    from .meter import Meter
    from .reader import Reader
    from .report import News

DAY_S = 86_400.0
ROUND_S = 30.0
"""How long answers are looked at once it is time: a meter gives its values in several."""
MISSED_S = 3_600.0
"""When a meter that did not say who it is is asked again: doubled up to a day."""
LOOK_S = 1.0
SHARE = 0.005
"""The share of a busy line's time that asking who answers may take."""
_JUDGED = (Measure.VOLTAGE, Measure.FREQUENCY)


@dataclass(frozen=True, slots=True)
class IdentityReading:
    """Who a meter said that it was; None where it says nothing of that, or its model has no place for it."""

    at: datetime
    serial: str | None = None
    model_ok: bool | None = None
    """Whether it is of the model that it should be."""
    misfit: Misfit | None = None
    """What is wrong with its values although they look like some: they are flagged, not believed."""
    swapped: bool = False
    """True where the serial number differs from the one that it gave before, or from that of the point's meter."""


class Watch:
    """Of one meter: when it is to be looked at, and what was seen. Instants are the poller's monotonic seconds."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self.questions = identity_requests(template)
        self.due_at = 0.0
        self.returned = False
        """True after a silence, until it has said who it is."""
        self.serial: str | None = None
        self.model_ok: bool | None = None
        self.swapped = False
        self._misfits: dict[frozenset[Obis], Misfit] = {}
        """By what was judged: right hertz do not excuse voltages that are none."""
        self._doubted: set[frozenset[Obis]] = set()
        self._judge_at = 0.0
        self._judge_until = 0.0
        self.missed_s = MISSED_S

    @property
    def suspect(self) -> bool:
        """True while its values are not to be believed."""
        return bool(self._doubted)

    @property
    def misfit(self) -> Misfit | None:
        """What is wrong with its values; None where nothing is, or that was seen only once."""
        return next(iter(self._misfits.values()), None)

    def is_due(self, now: float) -> bool:
        """Whether it is to be asked who it is."""
        return bool(self.questions) and self.due_at <= now

    def came_back(self) -> None:
        """It answers again after a silence."""
        self.due_at = self._judge_at = 0.0
        self.returned = bool(self.questions)

    def look_again(self) -> None:
        """Its values are odd: the next answers are looked at."""
        self._judge_at = 0.0

    def judge(self, request: Request, answer: Any, now: float) -> None:
        """Looks at volts and hertz of an answer once a day, and always while they are nonsense."""
        if now >= self._judge_at:
            self._judge_at, self._judge_until = now + DAY_S, now + ROUND_S
        if now > self._judge_until and not self._doubted:
            return
        judged = frozenset(one.obis for one in request.registers if one.quantity.measure in _JUDGED)
        if not judged:
            return
        found = misfit(self._template, request, answer)
        before = {one for one in self._doubted if one & judged}
        self._doubted -= before
        self._misfits = {key: one for key, one in self._misfits.items() if not key & judged}
        if found is not None:
            self._doubted.add(judged)
            if before:
                # Once may be a reply that was damaged and still valid.
                self._misfits[judged] = found


class IdentityWatch:
    """Asks the meters of a line who they are; `serials`: what they said earlier, by key."""

    def __init__(
        self,
        reader: Reader,
        news: News,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        serials: Mapping[str, str] | None = None,
    ) -> None:
        self._reader, self._news, self._now, self._monotonic = reader, news, now, monotonic
        self._serials = dict(serials or {})
        self._free_at = 0.0
        self._told: dict[str, Misfit | None] = {}

    def next(self, meters: Mapping[str, Meter], *, busy: bool) -> Meter | None:
        """A meter that is to be asked now; on a busy line only within its share."""
        now = self._monotonic()
        if busy and now < self._free_at:
            return None
        for meter in meters.values():
            if meter.watch.is_due(now) and meter.mutes.given and not meter.silent and meter.flaw is None:
                return meter
        # A busy line does not look through all its meters after every visit.
        self._free_at = max(self._free_at, now + LOOK_S)
        return None

    async def ask(self, meter: Meter) -> bool:
        """Asks a meter who it is; True where it is another one than before. Raises LineError."""
        watch, began = meter.watch, self._monotonic()
        texts: dict[str, str | None] = {}
        try:
            texts = await self._texts(meter)
            if self._is_another(meter, texts.get("serial")) and await self._texts(meter) != texts:
                # Only one reply said so, and a reply can be damaged and still valid.
                texts = {}
        except MeterError:
            # Who has said it before is asked once more before it is believed.
            again = watch.returned and watch.serial is not None and watch.missed_s == MISSED_S
            watch.due_at = self._monotonic() + (0.0 if again else watch.missed_s)
            watch.missed_s = min(DAY_S, 2 * watch.missed_s)
            watch.returned = again
            return False
        else:
            watch.due_at, watch.missed_s = self._monotonic() + DAY_S, MISSED_S
        finally:
            self._free_at = self._monotonic() + (self._monotonic() - began) / SHARE
        watch.returned = False
        return bool(texts) and self._said(meter, texts)

    async def _texts(self, meter: Meter) -> dict[str, str | None]:
        """What it says; nothing where it refuses to. Raises MeterError or LineError."""
        watch = meter.watch
        texts: dict[str, str | None] = {}
        for question in watch.questions:
            # A model does not change while the serial number does not.
            if "serial" in question.about or watch.model_ok is None or watch.returned:
                with suppress(Refused, DecodeError):
                    texts |= question.texts(await self._reader.identify(meter, question.request))
        return texts

    def _is_another(self, meter: Meter, serial: str | None) -> bool:
        before = meter.watch.serial or self._serials.get(meter.poll.key)
        return serial is not None and before is not None and not is_same(serial, before)

    def _said(self, meter: Meter, texts: Mapping[str, str | None]) -> bool:
        watch, key, point = meter.watch, meter.poll.key, meter.poll.point
        if "model" in texts:
            watch.model_ok = meter.poll.template.identity.is_model(texts["model"])
        serial = texts.get("serial")
        expected = None if point is None else point.meter.serial
        before = watch.serial or self._serials.get(key)
        another = self._is_another(meter, serial)
        unexpected = serial is not None and bool(expected) and not is_same(serial, expected or "")
        watch.swapped = another or unexpected
        if serial is not None:
            watch.serial = self._serials[key] = serial
        self._reader.evidence.meter(key).swapped = (
            (before if another and before else expected or "?", serial) if watch.swapped and serial else None
        )
        self.tell(meter)
        return another

    def tell(self, meter: Meter) -> None:
        """Puts into the next report who a meter is."""
        watch, key = meter.watch, meter.poll.key
        self._told[key] = watch.misfit
        self._reader.evidence.meter(key).misfit = watch.misfit
        self._news.identities[key] = IdentityReading(
            self._now(), watch.serial, watch.model_ok, watch.misfit, watch.swapped
        )

    def judged(self, meter: Meter) -> None:
        """A meter was read: tells where its values have turned out to be nonsense, or are right again."""
        if self._told.get(meter.poll.key) != meter.watch.misfit:
            self.tell(meter)


def is_same(one: str, other: str) -> bool:
    """Whether two serial numbers mean the same meter: people leave out zeros, dashes and makers' letters before."""
    short, long = sorted((_plain(one), _plain(other)), key=len)
    return short == long or (len(short) >= 6 and long.endswith(short))


def _plain(serial: str) -> str:
    return "".join(one for one in serial.upper() if one.isalnum()).lstrip("0")
