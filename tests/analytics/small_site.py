"""A Home Assistant in small: a real ledger behind the messages and paths of the integration's API."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from meter_batch_engine.ledger import Boundary, Ledger, Observed
from meter_batch_engine.model.point import InstalledMeter, Point, Route
from meter_batch_engine.wire import RegistrySnapshot, encode_changes, encode_findings, encode_intervals, encode_registry

TOKEN = "a-token"
ZONE = "Europe/Berlin"
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
START = datetime(2026, 3, 27, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
NAMES = {"p1": "Chiller", "p2": "Compressor", "p3": "Office"}


def registry() -> RegistrySnapshot:
    points = {
        id_: Point(
            id_,
            name,
            (InstalledMeter(ALWAYS, "t"),),
            (Route("l1", "modbus", id_[1:]),),
            area="a" if id_ != "p3" else None,
        )
        for id_, name in NAMES.items()
    }
    return RegistrySnapshot(points, {"p1": "Workshop", "p2": "Workshop"}, {"l1": "Line 1"}, ZONE, 1)


class OneThread:
    """A ledger whose every call is made by one thread, as it wants."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._ledger = self._pool.submit(lambda: Ledger(*arguments, **more)).result()

    def __getattr__(self, name: str) -> Any:
        found = self._pool.submit(getattr, self._ledger, name).result()
        return (
            (lambda *arguments, **more: self._pool.submit(found, *arguments, **more).result())
            if callable(found)
            else found
        )

    def close(self) -> None:
        self._pool.submit(self._ledger.close).result()
        self._pool.shutdown()


class SmallSite:
    """`down` makes it answer 503; where `reader`, the token is that of a user who is no administrator."""

    def __init__(self, path: Path) -> None:
        self.ledger = OneThread(path, time_zone=ZONE, now=lambda: START + timedelta(days=400))
        self.lock = threading.Lock()
        self.down = self.reader = False
        self.asked: list[str] = []

    def fill(self, quarters: range, points: Any = NAMES) -> None:
        for number in quarters:
            self.ledger.take(
                Boundary(
                    id_,
                    START + number * QUARTER,
                    {
                        "1-0:1.8.0": Decimal(1000 + number * 3 * place + number % 7).scaleb(-2),
                        "1-0:1.8.1": Decimal(500 + number).scaleb(-1),
                    },
                    1.0, "poll", "m", observed=Observed(3.5, 229.5, 230.0, 231.5, 0.95),
                )
                for place, id_ in enumerate(points, 1)
            )  # fmt: skip

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        parts = urlsplit(path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        name = parts.path.rsplit("/", 1)[1]
        self.asked.append(name)
        ledger = self.ledger
        with self.lock:
            if name == "registry":
                return encode_registry(registry())
            if name == "changes":
                ledger.subscribe(query["subscriber"])
                return encode_changes(ledger.changes(query["subscriber"], limit=int(query["limit"])))
            if name == "acknowledge":
                ledger.acknowledge(body["subscriber"], body["revision"], body["cursor"])
                return {}
            if name == "alarms":
                return encode_findings([], [])
            if name == "verify":
                return ledger.verify().as_dict()
            if name == "history":
                since, until = (datetime.fromisoformat(body[key]) for key in ("since", "until"))
                return [
                    encode_intervals(found)
                    for point in body["points"]
                    if point in ledger.points
                    and (found := ledger.intervals([point], since, until, body["resolution"], body["time_zone"]))
                ]
        return None


@contextmanager
def served(site: SmallSite) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _do(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                return self._send(401, b"401: Unauthorized")
            if site.down:
                return self._send(503, b"")
            if site.reader and "/changes?" in self.path:
                return self._send(403, b'{"message": "your user may not do this"}')
            found = site.answer(self.command, self.path, body)
            if found is None:
                return self._send(404, b"404: Not Found")
            if isinstance(found, list):
                return self._send(200, b"".join(json.dumps(one).encode() + b"\n" for one in found))
            return self._send(200, json.dumps(found).encode())

        do_GET = do_POST = do_DELETE = _do  # noqa: N815

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
