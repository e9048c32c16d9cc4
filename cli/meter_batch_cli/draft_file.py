"""A drafted template as TOML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meter_batch_engine.template.datasheet import DraftRow

_LIMITS = "voltage_v = [0, 350], current_a = [-10000, 10000], power_kw = [-10000, 10000], frequency_hz = [40, 70]"


def draft_text(
    vendor: str,
    model: str,
    rows: Sequence[DraftRow],
    head: Iterable[str],
    source: str,
    function: int,
    little: bool,
) -> str:
    """The file; everything that nobody has tried says so."""
    usual = next((row.function for row in rows if row.function is not None), function)
    order = ', word_order = "little"' if little else ""
    phases = 3 if any(row.key.endswith(("_l2", "_l3")) for row in rows) else 1
    lines = [f"# {one}".rstrip() for one in head]
    lines += [
        f"vendor = {_text(vendor)}",
        f"model = {_text(model)}",
        'protocol = "modbus"',
        f"phases = {phases}",
        'doubt = "a draft: compare every value with the display, then take this away"',
        'serial = { baud = 9600, parity = "N", stop_bits = 1 }',
        f"modbus = {{ function = {usual}, max_words = 60{order} }}",
        f"limits = {{ {_LIMITS} }}",
        "",
        "register = [",
    ]
    for row in rows:
        own = f", function = {row.function}" if row.function not in (None, usual) else ""
        scale = "" if row.scale == 1 else f", scale = {row.scale:f}"
        lines.append(
            f'  {{ key = "{row.key}", address = 0x{row.address:04X}, type = "{row.type}"{scale}{own}, '
            f'sources = ["sheet"], doubt = {_text(row.doubt)} }},  # {" ".join(row.name.split())}'
        )
    lines += [
        "]",
        "",
        "# Where the meter says its serial number, so that a swap is noticed:",
        "# [identity]",
        '# serial = { address = 0x0000, type = "uint32", sources = ["sheet"] }',
        "",
        "[sources]",
        f"sheet = {_text(source)}",
    ]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
