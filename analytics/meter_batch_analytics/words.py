"""What people read, in their language: words from TOML files, and numbers, days and months as written there."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from meter_batch_engine.errors import ConfigError

ENGLISH, CHINESE = "en", "zh-Hans"
LANGUAGES = (ENGLISH, CHINESE)

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def language_of(text: str | None) -> str:
    """The language that is spoken here for a tag such as "zh", "zh-CN" or "en-GB"; English for all others."""
    return CHINESE if (text or "").replace("_", "-").lower().split("-")[0] == "zh" else ENGLISH


class Words:
    """The words of one file in one language: `words("key", name=…)`. KeyError for a key that is not there."""

    def __init__(self, table: Mapping[str, Mapping[str, str]], language: str) -> None:
        self.language = language_of(language)
        self._words = {key: texts[self.language] for key, texts in table.items()}

    @classmethod
    def load(cls, file: Path, language: str) -> Words:
        """The words of a TOML file: a table a key, with a text a language. ConfigError names what is missing."""
        return cls(_table(file), language)

    def __call__(self, key: str, **facts: object) -> str:
        """The text of a key, with its facts in place."""
        text = self._words[key]
        return text.format(**facts) if facts else text

    def __contains__(self, key: str) -> bool:
        return key in self._words

    def as_dict(self) -> dict[str, str]:
        """All words by key, for what runs in a browser."""
        return dict(self._words)

    # --- numbers and times ---

    def number(self, value: Any, digits: int = 0) -> str:
        """A number with groups of three; a dash where there is none."""
        if value is None or value != value:
            return "–"
        text = f"{value:,.{digits}f}".replace("-", "−")
        return text.removeprefix("−") if not any(one in text for one in "123456789") else text

    def percent(self, share: Any, digits: int = 1) -> str:
        """A share (0 to 1) in percent. What is not whole never reads as 100 %."""
        if share is None or share != share:
            return "–"
        if 0 < 1 - share < 0.5 * 10 ** -(digits + 2):
            share = 1 - 10 ** -(digits + 2)
        return f"{self.number(share * 100, digits)}{' %' if self.language == ENGLISH else '%'}"

    def day(self, day: date) -> str:
        """A day: 5 October 2026, 2026年10月5日."""
        if self.language == CHINESE:
            return f"{day.year}年{day.month}月{day.day}日"
        return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"

    def month(self, day: date) -> str:
        """The month of a day: October 2026, 2026年10月."""
        return f"{day.year}年{day.month}月" if self.language == CHINESE else f"{_MONTHS[day.month - 1]} {day.year}"

    def instant(self, at: datetime) -> str:
        """An instant to the minute, in the time zone it carries."""
        return f"{self.day(at.date())} {at:%H:%M}"


@lru_cache(maxsize=16)
def _table(file: Path) -> Mapping[str, Mapping[str, str]]:
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    for key, texts in table.items():
        for language in LANGUAGES:
            if not isinstance(texts, dict) or not isinstance(texts.get(language), str):
                raise ConfigError(f"{file}: [{key}] has no text in {language}")
    return table
