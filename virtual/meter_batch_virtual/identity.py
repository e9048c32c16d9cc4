"""Who a virtual Modbus meter says that it is: its serial number and its model, where the template knows their place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from meter_batch_engine.template import Template


@lru_cache(maxsize=4096)
def identity_words(template: Template, serial: str) -> Mapping[tuple[int, int], int]:
    """The words of the identity by function and address; raises ConfigError where the number does not fit."""
    words: dict[tuple[int, int], int] = {}
    identity = template.identity
    # A code with a star stands for several models; without it it is one of them.
    code = identity.expected[0].replace("*", "") if identity.expected else None
    for item, text in ((identity.model, code), (identity.serial, serial)):
        if item is None:
            continue
        held = item.words(text) if text else (0,) * item.count
        size = item.size or item.count
        for offset, word in enumerate(held):
            place = (item.function, item.address + offset)
            # Two things may stand in one block: what is no part of this one may be of the other.
            if item.skip <= offset < item.skip + size:
                words[place] = word
            else:
                words.setdefault(place, 0)
    return words
