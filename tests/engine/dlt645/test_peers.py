"""Programs that are not ours agree: our reader with a foreign bus of meters, a foreign reader with our meters."""

# ruff: noqa: DTZ001 - a meter's wall clock has no zone
from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meter_batch_engine.errors import AbsentRegister, MeterError, NoReply
from meter_batch_engine.protocol.dlt645.exchange import BroadcastTime, LongRead, ReadAddress, ReadData, ReadNext
from meter_batch_engine.protocol.dlt645.frame import Variant
from meter_batch_engine.protocol.dlt645.item import Value, decode_item
from meter_batch_engine.protocol.dlt645.load_record import decode_records
from meter_batch_engine.protocol.dlt645.server import Dlt645Responder

from .test_server import Box, three_phase

METER, SINGLE, OLD, FLIPPING, SMALL = "123456789012", "201000000012", "000000000075", "000000000068", "000000000161"
FLEET: dict[str, Any] = {
    "now": "2025-11-30T14:47:10",
    "hold": True,
    "meters": [
        {
            "address": METER,
            "td_ms": 1,
            "generate": {
                "since": "2025-01-01T00:00:00",
                "start": {"1": "1000.00"},
                "kw": "3.6",
                "kvar": "1.2",
                "voltage": ["230.1", "231.2", "232.3"],
            },
        },
        {
            "address": SINGLE,
            "td_ms": 1,
            "phases": "A",
            "registers": {
                "02010100": "225.6",
                "02010200": None,
                "02010300": None,
                "02040000": "-0.2687",
                "00010000": "1206.42",
                "02800007": "-12.5",
            },
            "raw": {"00020000": "00000e00"},
            "parameters": {"04000402": "071801024091"},
            "faults": [{"kind": "echo"}, {"kind": "before", "hex": "00aaaa"}],
        },
        {
            "address": OLD,
            "td_ms": 1,
            "protocol": "1997",
            "generate": {"since": "2025-01-01T00:00:00", "start": {"1": "10793.30"}, "kw": "0", "voltage": "223"},
        },
        {"address": FLIPPING, "td_ms": 1, "registers": {"00010000": "5.00"}, "faults": [{"kind": "flip", "every": 1}]},
        {"address": SMALL, "td_ms": 1, "max_data": 20, "generate": {"since": "2025-01-01T00:00:00", "kw": "2"}},
    ],
}


@pytest.fixture(scope="module")
def bus(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """A TCP connection to a foreign program that plays a bus of meters."""
    fleet = tmp_path_factory.mktemp("bus") / "fleet.json"
    fleet.write_text(json.dumps(FLEET), encoding="utf-8")
    program = shared_dir / "peers" / "dlt645_meter.py"
    command = [sys.executable, "-u", str(program), "--tcp", "127.0.0.1:0", "--meters", str(fleet)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", port)) as connection:
                yield connection
        finally:
            process.terminate()


def ask[Answer](bus: socket.socket, question: Any, wait_s: float = 1.0) -> Any:
    """The answer; what silence means where none comes."""
    bus.sendall(question.request)
    bus.settimeout(wait_s)
    while True:
        try:
            data = bus.recv(1024)
        except TimeoutError:
            raise question.silence() from None
        if (answer := question.feed(data)) is not None:
            return answer


def read(bus: socket.socket, address: str, di: str, variant: Variant = "2007") -> list[Value]:
    answer = ask(bus, ReadData(address, di, variant=variant, preamble=4))
    assert not answer.more
    return [one.value for one in decode_item(di, answer.data, variant)]


def test_our_reader_reads_measurements_and_blocks_of_the_foreign_bus(bus: socket.socket) -> None:
    assert read(bus, METER, "0201FF00") == [Decimal("230.1"), Decimal("231.2"), Decimal("232.3")]
    assert read(bus, METER, "02030000") == [Decimal("3.6")]
    total, *tariffs = read(bus, METER, "0001FF00")
    assert total == Decimal("1000.00") + Decimal("3.6") * Decimal(
        333 * 24 * 3600 + 14 * 3600 + 47 * 60 + 10
    ) / 3600 // Decimal("0.01") * Decimal("0.01")
    assert len(tariffs) == 4


def test_our_reader_skips_echo_and_noise_and_reads_signs_dates_and_digits(bus: socket.socket) -> None:
    assert read(bus, SINGLE, "0201FF00") == [Decimal("225.6"), None, None]
    assert read(bus, SINGLE, "02040000") == [Decimal("-0.2687")]
    assert read(bus, SINGLE, "02800007") == [Decimal("-12.5")]
    assert read(bus, SINGLE, "04000101") == [date(2025, 11, 30)]
    assert read(bus, SINGLE, "04000102") == [time(14, 47, 10)]
    assert read(bus, SINGLE, "04000402") == ["071801024091"]


def test_a_bad_digit_and_a_refusal_and_a_damaged_reply_are_told_apart(bus: socket.socket) -> None:
    with pytest.raises(MeterError, match="no decimal digit"):
        read(bus, SINGLE, "00020000")
    with pytest.raises(AbsentRegister):
        read(bus, SINGLE, "02800002")
    with pytest.raises(MeterError, match="no whole frame"):
        ask(bus, ReadData(FLIPPING, "00010000"), wait_s=0.3)
    with pytest.raises(NoReply):
        ask(bus, ReadData("999900000000", "00010000"), wait_s=0.2)


def test_our_reader_reads_an_old_meter(bus: socket.socket) -> None:
    assert read(bus, OLD, "9010", "1997") == [Decimal("10793.30")]
    assert read(bus, OLD, "B611", "1997") == [Decimal(223)]
    total, *tariffs = read(bus, OLD, "901F", "1997")
    assert (total, len(tariffs)) == (Decimal("10793.30"), 4)


def test_our_reader_finds_an_address_by_its_last_digits(bus: socket.socket) -> None:
    assert ask(bus, ReadAddress("AAAAAAAAAA61")) == SMALL


def test_our_reader_joins_load_records_over_many_frames(bus: socket.socket) -> None:
    at = datetime(2025, 6, 1)
    long = LongRead(SMALL, "06040001", count=8, at=at)
    frames = 0
    while (whole := long.take(ask(bus, long.question()))) is None:
        frames += 1
        if frames == 2:
            ask(bus, ReadNext(SMALL, "06040001", 2))  # as after a lost reply: the same frame again
    assert frames > 2
    records = decode_records(whole)
    assert [record.at.hour * 60 + record.at.minute for record in records] == [15 * step for step in range(8)]
    energies = [record.value("energy_import") for record in records]
    assert None not in energies
    assert energies == [Decimal(2 * 24 * 151) + Decimal("0.5") * step for step in range(8)]


def test_a_broadcast_is_sent_and_answered_by_nobody(bus: socket.socket) -> None:
    with pytest.raises(NoReply):
        ask(bus, BroadcastTime(datetime(2025, 11, 30, 14, 48)), wait_s=0.2)


# --- the other way round ---


class Served(socketserver.BaseRequestHandler):
    """Our responder on a plain socket."""

    responder: Dlt645Responder

    def handle(self) -> None:
        while data := self.request.recv(1024):
            for reply in self.responder.feed(data):
                self.request.sendall(reply.raw)


@pytest.fixture(scope="module")
def master(shared_dir: Path) -> Iterator[Any]:
    """Runs the foreign reader against our meters; gives its JSON."""
    ours = [
        three_phase(METER),
        Box(OLD, "1997", {"9010": Decimal("10793.30"), "9011": Decimal("1.00"), "B611": Decimal(223)}),
    ]
    Served.responder = Dlt645Responder(ours, max_data=100)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Served) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        program = shared_dir / "peers" / "dlt645_master.py"

        def run(*arguments: str) -> dict[str, Any]:
            port = server.server_address[1]
            command = [
                sys.executable,
                str(program),
                "--tcp",
                f"127.0.0.1:{port}",
                "--timeout",
                "0.5",
                *arguments,
                "--json",
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            result: dict[str, Any] = json.loads(done.stdout)
            return result

        yield run
        server.shutdown()


def test_the_foreign_reader_reads_our_items_and_blocks(master: Any) -> None:
    assert Decimal(master("read", METER, "02010200")["value"]) == 232
    assert [Decimal(one) for one in master("read", METER, "0001FF00")["values"]] == [
        Decimal(f"{tariff}.25") for tariff in range(5)
    ]
    assert master("read", METER, "02800002")["error"] == 2
    assert [Decimal(one) for one in master("read", OLD, "901F", "--1997")["values"]] == [
        Decimal("10793.30"),
        Decimal(1),
    ]


def test_the_foreign_reader_follows_our_load_records(master: Any) -> None:
    result = master("read", METER, "06040001", "--n", "12", "--at", "2025-06-01T00:00", "--follow")
    assert result["frames"] == 6, "two records of 32 bytes in a frame of 100"
    assert len(result["records"]) == 12


def test_the_foreign_reader_finds_our_meters(master: Any) -> None:
    assert master("scan")["addresses"] == [METER]
    assert master("scan", "--1997")["addresses"] == [OLD]


def test_the_foreign_reader_cannot_write_to_our_meters(master: Any) -> None:
    assert master("send", METER, "14", "0101000402000000000000000130112501")["error"] == 4
    assert master("send", "999999999999", "11", "00000100")["silent"] is True
