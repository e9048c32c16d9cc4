"""The meters of one line as one listener: who hears a question, who answers what, after the faults of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

from meter_batch_engine.protocol.dlt645.server import Dlt645Responder
from meter_batch_engine.protocol.modbus.server import ModbusResponder

from .clock import FleetClock
from .config import LineConfig
from .endpoint import Peer
from .load import mix
from .meter import Dlt645VirtualMeter, ModbusMeter, VirtualMeter
from .strike import Faults
from .uart import Setting, received
from .wire import Answer

_FORGET_S = 0.05
"""After so much silence a meter takes what comes for the beginning of a new frame (t3.5, generously)."""
_DEAF = frozenset({"baud", "parity", "wiring"})
_ARRANGING = _DEAF | {"address"}
"""Faults that decide which meters hear which address."""
type Arrangement = tuple[tuple[int, str], ...]
"""Which meters hear, and where they answer."""
_AS_CONFIGURED: Arrangement = ((-1, ""),)


class Bus:
    """The meters of one line as one listener: who answers what, after the faults.

    Meters with the same address stand in separate layers, so that all of them answer.
    """

    def __init__(self, meters: Sequence[VirtualMeter], config: LineConfig, clock: FleetClock) -> None:
        self._config = config
        self._clock = clock
        self._meters = tuple(meters)
        self._usual = config.setting
        self.master = self._usual
        """How the master's port is set."""
        self.faults = Faults(config.faults, mix(*config.name.encode()))
        self._arrangement: Arrangement | None = None
        self._arrange()

    def master_sets(self, port: Setting | None) -> None:
        """How the master has set its port; None where nobody can tell, and then it is right."""
        own = self._usual
        # Stop bits that the master adds are idle time to a meter.
        self.master = own if port is None or (port.baud, port.parity) == (own.baud, own.parity) else port

    def _arrange(self) -> None:
        """Gathers who hears now, by the address they answer at; does nothing while that is as before."""
        arranged = self._arrangement is _AS_CONFIGURED and self.master is self._usual
        if arranged and self.faults.kinds.isdisjoint(_ARRANGING):
            for meter in self._meters:
                if not meter.faults.kinds.isdisjoint(_ARRANGING):
                    break
            else:
                return
        hearing = [(meter, meter.address) for meter in self._meters if self._hears(meter)]
        usual = [(meter, meter.config.address) for meter in self._meters]
        arrangement = _AS_CONFIGURED if hearing == usual else tuple((id(meter), at) for meter, at in hearing)
        if arrangement == self._arrangement:
            return
        self._arrangement = arrangement
        meters = [meter for meter, _ in hearing]
        self._modbus = [
            {int(meter.address): meter for meter in layer}
            for layer in _layers([meter for meter in meters if isinstance(meter, ModbusMeter)])
        ]
        self._dlt645 = [
            (
                {meter.address: meter for meter in layer},
                Dlt645Responder(layer, preamble=self._config.preamble, max_data=self._config.max_data),
            )
            for layer in _layers([meter for meter in meters if isinstance(meter, Dlt645VirtualMeter)])
        ]
        self._modbus_responders = self._fresh("rtu")
        self._networks: WeakKeyDictionary[Peer, list[ModbusResponder]] = WeakKeyDictionary()

    def _fresh(self, framing: str) -> list[ModbusResponder]:
        return [ModbusResponder(layer, "rtu" if framing == "rtu" else "tcp") for layer in self._modbus]

    def _settings(self, meter: VirtualMeter) -> tuple[Setting, bool, bool]:
        """How a meter is set, whether A and B are swapped between it and the master, whether garbage is heard of it."""
        baud, parity, wrong, garbage = self._usual.baud, self._usual.parity, False, True
        now_s = self._clock.since_start_s()
        for faults in (meter.faults, self.faults):
            if faults.kinds.isdisjoint(_DEAF):
                continue
            if fault := faults.now("baud", now_s):
                baud = fault.baud or (2400 if self._usual.baud != 2400 else 9600)
                garbage = garbage and fault.heard == "garbage"
            if fault := faults.now("parity", now_s):
                parity = fault.parity or ("E" if self._usual.parity != "E" else "N")
                garbage = garbage and fault.heard == "garbage"
            if fault := faults.now("wiring", now_s):
                wrong = not wrong
                garbage = garbage and fault.heard == "garbage"
        return Setting(baud, parity, self._usual.stop_bits), wrong, garbage

    def _hears(self, meter: VirtualMeter) -> bool:
        if not self._config.is_wired:
            return True
        setting, wrong, garbage = self._settings(meter)
        if (setting.baud, setting.parity, wrong) == (self.master.baud, self.master.parity, False):
            return True
        faulty = setting != self._usual or wrong
        return faulty and garbage and self.master == self._usual

    def hear(self, data: bytes, silence_s: float) -> Sequence[Answer]:
        """See `wire.Meters`: bytes on a pair of wires."""
        self._arrange()
        if silence_s > _FORGET_S:
            self._modbus_responders = self._fresh("rtu")
        answers = list(self._on_modbus(self._modbus_responders, data, after_gap=True))
        for meters, responder in self._dlt645:
            for reply in responder.feed(data):
                answers += self._answer(meters[reply.address], data, reply.raw)
        return answers

    def hear_network(self, peer: Peer, data: bytes) -> Sequence[Answer]:
        """The same for Modbus TCP, where each connection is a stream of its own."""
        self._arrange()
        if peer not in self._networks:
            self._networks[peer] = self._fresh("tcp")
        answers = list(self._on_modbus(self._networks[peer], data, after_gap=False))
        if "no_transaction" not in self.faults.kinds:
            return answers
        now_s = self._clock.since_start_s()
        return [
            Answer(
                one.meter,
                self.faults.transaction(int.from_bytes(one.raw[:2]), now_s).to_bytes(2) + one.raw[2:],
                one.turnround_s,
            )
            for one in answers
        ]

    def _on_modbus(self, responders: Sequence[ModbusResponder], data: bytes, *, after_gap: bool) -> Iterator[Answer]:
        for layer, responder in zip(self._modbus, responders, strict=True):
            for reply in responder.feed(data):
                yield from self._answer(layer[reply.unit], data, reply.raw, after_gap=after_gap)

    def _answer(self, meter: VirtualMeter, request: bytes, raw: bytes, *, after_gap: bool = False) -> Iterator[Answer]:
        """The reply of a meter after its own faults and those of the line; nothing where it stays silent."""
        since_start_s = self._clock.since_start_s()
        turnround_s = meter.turnround_s()
        for faults in (meter.faults, self.faults):
            said = faults.apply(request, raw, since_start_s)
            if said is None:
                return
            raw = said.raw
            turnround_s += said.later_s
        if self.master is not self._usual or not _DEAF.isdisjoint(meter.faults.kinds | self.faults.kinds):
            setting, wrong, _ = self._settings(meter)
            if wrong or setting != self.master:
                raw = received(raw, setting, self.master, inverted=wrong)
        if raw:
            yield Answer(meter.config.name, raw, turnround_s, after_gap)


def _layers[M: VirtualMeter](meters: Sequence[M]) -> list[list[M]]:
    """The meters in groups within which every address is there once."""
    layers: list[list[M]] = []
    for meter in meters:
        for layer in layers:
            if meter.address not in {other.address for other in layer}:
                layer.append(meter)
                break
        else:
            layers.append([meter])
    return layers
