"""What all widgets share: their files, their words, files for the reader, and arrays that travel as bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ..words import ENGLISH, Words, language_of

HERE = Path(__file__).parent


def module(name: str) -> str:
    """The ES module of a widget, whole in itself: what all share, then its own."""
    return "\n".join((HERE / "static" / f"{one}.js").read_text(encoding="utf-8") for one in ("shared", name))


def style(name: str) -> str:
    """The style sheet of a widget with the design tokens it uses."""
    return "\n".join((HERE / "static" / f"{one}.css").read_text(encoding="utf-8") for one in ("tokens", name))


class Widget(anywidget.AnyWidget):
    """Base of all widgets: speaks the reader's language and can hand a file to the browser.

    `labels` replace single words of `words.toml`. The first cell output that shows it draws it; it may be shown twice.
    """

    language = traitlets.Unicode(ENGLISH).tag(sync=True)
    labels = traitlets.Dict().tag(sync=True)

    def __init__(self, *, language: str = ENGLISH, labels: Mapping[str, str] | None = None, **traits: Any) -> None:
        spoken = language_of(language)
        words = Words.load(HERE / "words.toml", spoken).as_dict()
        super().__init__(language=spoken, labels=words | dict(labels or {}), **traits)

    def send_file(self, name: str, mime: str, content: bytes) -> None:
        """The browser saves these bytes under that name."""
        self.send({"kind": "file", "name": name, "mime": mime}, [content])


def plain(value: Any, *_: object) -> Any:
    """A value as the browser takes it: arrays as bytes, instants as wall clock without offset, NaN as nothing.

    Arrays of numbers become `{"$array": dtype, "shape": …, "bytes": …}`, whole numbers of 64 bits and times as float64
    (times: milliseconds since 1970 of their wall clock). Texts and objects become lists.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(one) for one in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if hasattr(value, "dtype"):
        return _array(value)
    return float(value)


def _array(values: Any) -> Any:
    import numpy as np

    if values.ndim == 0:
        return plain(values.item())
    if values.dtype.kind == "M":
        clock = values.astype("datetime64[ms]").astype(np.float64)
        clock[np.isnat(values)] = np.nan
        values = clock
    if values.dtype.kind in "iu":
        small = values.dtype.itemsize < 4 or values.dtype == np.int32
        values = values.astype(np.int32 if small else np.float64)
    elif values.dtype.kind != "f":
        return plain(values.tolist())
    elif values.dtype.itemsize not in (4, 8):
        values = values.astype(np.float64)
    whole = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return {"$array": whole.dtype.name, "shape": list(whole.shape), "bytes": memoryview(whole).cast("B")}
