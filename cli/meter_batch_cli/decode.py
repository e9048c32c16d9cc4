"""`meter-batch decode`: what frames mean, from hexadecimal text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import Annotated, Any, Literal

import typer

from .detect import PROTOCOLS, UNSUPPORTED, damage, edition, is_modbus_tcp, parse_hex, unsupported

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_MODBUS_FUNCTIONS = frozenset((1, 2, 3, 4, 5, 6, 15, 16, 23))
_NOISE = b"\xfe\x00\xff\xaa"


@dataclass(frozen=True, slots=True)
class Decoded:
    """One input, what was found in it, and what is wrong with it."""

    input: str
    frames: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None


class Decoder:
    """Decodes inputs one after the other; long answers of DL/T 645 are joined across them."""

    def __init__(self, protocol: str | None = None) -> None:
        from meter_batch_engine.protocol.dlt645.describe import Describer

        self._protocol = protocol
        self._describers = {"dlt645-2007": Describer("2007"), "dlt645-1997": Describer("1997")}

    def decode(self, text: str) -> Decoded:
        """One input as given, whatever it holds."""
        try:
            data = parse_hex(text)
        except ValueError as error:
            return Decoded(text, problem=f"this is no hexadecimal text: {error}")
        protocol = self._protocol
        if protocol in UNSUPPORTED:
            return Decoded(text, problem=f"{UNSUPPORTED[protocol]} ({protocol}) is not supported yet")
        frames: list[dict[str, Any]] = []
        rest: bytes = data
        if protocol is None or protocol.startswith("dlt645"):
            frames, rest = self._dlt645(data)
        # A right checksum is no chance over so few bytes, zeros where Modbus TCP has them are.
        checked = protocol is None and _checked(data)
        if not frames and (protocol == "modbus-tcp" or (protocol is None and not checked and is_modbus_tcp(data))):
            frames, rest = _modbus(data, "tcp")
        if not frames and protocol in (None, "modbus-rtu"):
            found, left = _modbus(data, "rtu")
            # CRC-16 is found by chance in other protocols, so unasked only frames that fill most of it are believed.
            if protocol is not None or 2 * len(left) <= len(data):
                frames, rest = found, left
        if not frames:
            other = unsupported(data) if protocol is None else None
            if other is not None:
                return Decoded(text, problem=f"this is {UNSUPPORTED[other]}, which is recognised but not supported")
            return Decoded(text, problem=_damage(data, protocol))
        return Decoded(text, frames, _left_over(rest, frames))

    def _dlt645(self, data: bytes) -> tuple[list[dict[str, Any]], bytes]:
        """The frames and the bytes that belong to none."""
        from meter_batch_engine.protocol.dlt645.frame import Framer

        frames = []
        rest = data
        for frame in Framer().feed(data):
            protocol = self._protocol or edition(frame)
            frames.append({"protocol": protocol} | self._describers[protocol].describe_frame(frame))
            rest = rest.replace(frame.raw, b"", 1)
        return frames, rest


def _checked(data: bytes) -> bool:
    """True for one whole frame of Modbus RTU, from end to end."""
    from meter_batch_engine.protocol.modbus.rtu import valid

    return len(data) >= 4 and data[1] & 0x7F in _MODBUS_FUNCTIONS and valid(data)


def _modbus(data: bytes, framing: Literal["rtu", "tcp"]) -> tuple[list[dict[str, Any]], bytes]:
    """The frames and the bytes that belong to none."""
    from meter_batch_engine.protocol.modbus.describe import describe
    from meter_batch_engine.protocol.modbus.rtu import RtuFramer

    rest = data if framing == "rtu" else b""
    for framer in (RtuFramer("server"), RtuFramer("client")):
        for frame in framer.feed(data):
            rest = rest.replace(frame.raw, b"", 1)
    return [{"protocol": f"modbus-{framing}"} | one for one in describe(data, framing)], rest.strip(_NOISE)


def _damage(data: bytes, protocol: str | None) -> str:
    if protocol is not None and protocol.startswith("modbus"):
        return f"no valid {protocol} frame: length or checksum is wrong"
    if len(data) >= 4 and data[1] & 0x7F in _MODBUS_FUNCTIONS and data[0] != 0x68:
        from meter_batch_engine.protocol.modbus.rtu import crc

        right = crc(data[:-2]).to_bytes(2, "little")
        said = f"looks like Modbus RTU, but its CRC is {data[-2:].hex()} where {right.hex()} is right"
        return f"{said}, or it is cut off"
    return damage(data)


def _left_over(rest: bytes, frames: list[dict[str, Any]]) -> str | None:
    """What to say of bytes around the frames: nothing for noise, much for half a frame."""
    if any(rest[at] == 0x68 == rest[at + 7] for at in range(len(rest) - 7)):
        return f"{len(rest)} bytes belong to no valid frame: {damage(rest)}"
    if rest and frames[0]["protocol"] == "modbus-rtu":
        return f"{len(rest)} bytes belong to no valid frame: {rest.hex()}"
    return None


def _inputs(arguments: list[str]) -> Iterator[str]:
    """The inputs: each argument, lines of stdin for "-"; single bytes in a row are one input."""
    if len(arguments) > 1 and all(len(one) == 2 for one in arguments):
        yield " ".join(arguments)
        return
    for one in arguments:
        if one == "-":
            if isinstance(sys.stdin, TextIOWrapper):
                sys.stdin.reconfigure(errors="replace")
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield one


@app.command()
def decode(
    hexadecimal: Annotated[
        list[str],
        typer.Argument(metavar="HEX…", help="Frames as hexadecimal text, or - for one input a line from stdin."),
    ],
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", "-p", metavar="P", help=f"One of {', '.join(PROTOCOLS)}. Default: find out."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object an input.")] = False,
) -> None:
    """Say what frames mean.

    Noise and preambles around frames are skipped; 0x, spaces, colons and dashes in the text too.
    Damaged frames are refused, with the reason. Exit code 1 where an input has a problem.

    Passwords in DL/T 645 frames are shown as they are: mind where the output goes.

    [bold]Examples[/bold]

      meter-batch decode 68 01 00 00 00 00 00 68 91 06 33 34 34 35 cb 55 58 16

      meter-batch decode --json 010404436633341b38

      meter-batch decode - < capture.txt
    """
    if protocol is not None and protocol not in PROTOCOLS:
        raise typer.BadParameter(f'"{protocol}" is none of {", ".join(PROTOCOLS)}', param_hint="--protocol")
    decoder = Decoder(protocol)
    problems = 0
    show = _show_json if as_json else _show
    for decoded in map(decoder.decode, _inputs(hexadecimal)):
        show(decoded)
        problems += decoded.problem is not None
    raise typer.Exit(1 if problems else 0)


def _show_json(decoded: Decoded) -> None:
    line = {"input": decoded.input, "frames": decoded.frames, "problem": decoded.problem}
    typer.echo(json.dumps(line, ensure_ascii=False))


def _show(decoded: Decoded) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    for frame in decoded.frames:
        table = Table(show_header=False, title=escape(frame["protocol"]), title_justify="left", title_style="bold")
        for key, value in _rows(frame):
            table.add_row(key, escape(value))
        console.print(table)
    if decoded.problem is not None:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold]{escape(_short(decoded.input))}[/bold]: {escape(decoded.problem)}"
        )


def _rows(frame: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in frame.items():
        if key == "protocol":
            continue
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", _text(one)) for inner, one in value.items())
        else:
            yield key, _text(value)


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    return "–" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"
