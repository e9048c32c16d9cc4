"""What a Modbus meter of ours does, judged by pymodbus's PDUs."""

from __future__ import annotations

from collections.abc import Sequence

from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, WriteMultipleRegistersResponse

from meter_batch_engine.protocol.modbus import pdu, rtu, tcp
from meter_batch_engine.protocol.modbus.server import ModbusException, ModbusResponder


class Bank:
    def __init__(self) -> None:
        self.words = list(range(100))

    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        if address + count > len(self.words):
            raise ModbusException(pdu.ILLEGAL_ADDRESS)
        return self.words[address : address + count]

    def write(self, address: int, words: Sequence[int]) -> None:
        self.words[address : address + len(words)] = words


class ReadOnly:
    def read(self, function: int, address: int, count: int) -> Sequence[int]:
        return [0] * count


def test_two_glued_requests_get_two_replies() -> None:
    responder = ModbusResponder({1: Bank(), 2: Bank()})
    data = rtu.encode(1, pdu.read_request(3, 5, 2)) + rtu.encode(2, pdu.read_request(3, 7, 1))
    replies = responder.feed(data)
    assert [reply.unit for reply in replies] == [1, 2]
    found = DecodePDU(False).decode(replies[0].raw[1:-2])
    assert isinstance(found, ReadHoldingRegistersResponse)
    assert found.registers == [5, 6]


def test_tcp_replies_carry_the_transaction_of_their_request() -> None:
    responder = ModbusResponder({1: Bank()}, "tcp")
    (reply,) = responder.feed(tcp.encode(0xBEEF, 1, pdu.read_request(4, 5, 2)))
    assert reply.raw == tcp.encode(0xBEEF, 1, pdu.read_reply(4, (5, 6)))


def test_foreign_units_damaged_requests_and_broadcasts_get_no_reply() -> None:
    bank = Bank()
    responder = ModbusResponder({1: bank})
    assert responder.feed(rtu.encode(9, pdu.read_request(3, 0, 1))) == []
    assert responder.feed(rtu.encode(1, pdu.read_request(3, 0, 1))[:-1] + b"\0") == []
    assert responder.feed(rtu.encode(0, pdu.write_request(3, (77,)))) == []
    assert bank.words[3] == 77


def test_what_cannot_be_served_is_refused_with_the_right_code() -> None:
    responder = ModbusResponder({1: Bank(), 2: ReadOnly()})

    def code(unit: int, request: bytes) -> int:
        (reply,) = responder.feed(rtu.encode(unit, request))
        assert reply.raw[1] == request[0] | 0x80
        return reply.raw[2]

    assert code(1, pdu.read_request(3, 99, 2)) == 2
    assert code(1, pdu.read_request(3, 0, 126)) == 3
    assert code(1, pdu.read_request(3, 0, 0)) == 3
    assert code(1, pdu.read_request(3, 0xFFFF, 2)) == 2
    assert code(1, pdu.read_request(1, 0, 2)) == 1
    assert code(2, pdu.write_request(0, (1,))) == 1


def test_writes_are_done_and_acknowledged() -> None:
    bank = Bank()
    responder = ModbusResponder({1: bank})
    (reply,) = responder.feed(rtu.encode(1, pdu.write_request(3, (7, 8))))
    found = DecodePDU(False).decode(reply.raw[1:-2])
    assert isinstance(found, WriteMultipleRegistersResponse)
    assert (found.address, found.count) == (3, 2)
    assert responder.feed(rtu.encode(1, bytes.fromhex("0600050009")))[0].raw == rtu.encode(
        1, bytes.fromhex("0600050009")
    )
    assert bank.words[3:6] == [7, 8, 9]
