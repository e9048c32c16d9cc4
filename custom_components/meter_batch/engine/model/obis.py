"""OBIS codes, the names by which registers are kept (IEC 62056-61: A-B:C.D.E).

Only electricity (A = 1) of the metering point itself (B = 0) and a few abstract objects (A = 0) are used;
B = 128 marks codes of our own where the standard has none (line-to-line voltages).
"""

from __future__ import annotations

import re

from ..errors import ConfigError

type Obis = str
"""A canonical OBIS code without F, for example "1-0:1.8.0"."""

_FORM = re.compile(r"(\d{1,3})-(\d{1,3}):(\d{1,3})\.(\d{1,3})\.(\d{1,3})")


def parse_obis(text: str) -> Obis:
    """The canonical form of an OBIS code; raises ConfigError where it is none."""
    match = _FORM.fullmatch(text.strip())
    if match is None or any(int(group) > 255 for group in match.groups()):
        raise ConfigError(f'"{text}" is no OBIS code; a code looks like 1-0:1.8.0')
    a, b, c, d, e = (int(group) for group in match.groups())
    return f"{a}-{b}:{c}.{d}.{e}"
