"""One table of a template file: takes what it knows, and notes every mistake by file, table and key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, NoReturn

from ..errors import TemplateError

_REQUIRED = object()


class Wrong(Exception):
    """The mistake is noted; what it is in cannot be read further."""


class FileTable:
    """One table of the file: every key is taken once; what is left at the end is a mistake.

    A mistake is noted in `problems`, and a value that will do stands in for the wrong one, so that one reading of a
    file finds all of them.
    """

    def __init__(self, content: Mapping[str, Any], file: str, name: str, problems: list[TemplateError]) -> None:
        self.content = content
        self.file = file
        self.name = name
        self.problems = problems
        self._known: set[str] = set()

    def problem(self, key: str, text: str) -> None:
        """Notes a mistake."""
        where = f"[{self.name}] {key}" if self.name else key
        found = TemplateError(f"{self.file}: {where}: {text}")
        # A table that several rows look into is wrong once.
        if found.args not in [one.args for one in self.problems]:
            self.problems.append(found)

    def fail(self, key: str, text: str) -> NoReturn:
        """Notes a mistake after which this table cannot be read further."""
        self.problem(key, text)
        raise Wrong

    def _take(self, key: str, default: object) -> Any:
        self._known.add(key)
        if key in self.content:
            return self.content[key]
        if default is _REQUIRED:
            # A near miss is most likely the key itself, mistyped.
            near = get_close_matches(key, [one for one in self.content if one not in self._known], 1)
            self._known.update(near)
            self.fail(key, f'is missing (there is "{near[0]}")' if near else "is missing")
        return default

    def text(self, key: str, default: object = _REQUIRED) -> Any:
        """A text that is not empty."""
        value = self._take(key, default)
        if value is not default and (not isinstance(value, str) or not value.strip()):
            self.problem(key, f"must be a text in quotes, not {value!r}")
            return "?"
        return value

    def choice(self, key: str, values: tuple[Any, ...], default: object = _REQUIRED) -> Any:
        """One of these values."""
        value = self._take(key, default)
        if value is not default and (value not in values or isinstance(value, bool)):
            hint = did_you_mean(str(value), [str(one) for one in values])
            self.problem(key, f"is {value!r}{hint}; it may be {', '.join(str(one) for one in values)}")
            return values[0]
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            self.problem(key, f"must be true or false, not {value!r}")
            return default
        return value

    def integer(self, key: str, low: int, high: int, default: object = _REQUIRED) -> Any:
        """A whole number within these bounds."""
        value = self._take(key, default)
        if value is not default and (not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high):
            self.problem(key, f"must be a whole number from {low} to {high}, not {value!r}")
            return low if default is _REQUIRED else default
        return value

    def number(self, key: str, default: object = _REQUIRED) -> Any:
        """A Decimal; numbers in quotes are welcome where a float would look inexact."""
        value = self._take(key, default)
        if value is default:
            return value
        try:
            number = Decimal(value) if isinstance(value, int | Decimal | str) else Decimal("NaN")
        except ArithmeticError:
            number = Decimal("NaN")
        if isinstance(value, bool) or not number.is_finite():
            self.problem(key, f"must be a number, not {value!r}")
            return Decimal(1) if default is _REQUIRED else default
        return number

    def pair(self, key: str) -> tuple[float, float] | None:
        """Two numbers, the lower first."""
        value = self._take(key, None)
        if value is None:
            return None
        numbers = isinstance(value, list) and len(value) == 2 and all(_is_number(one) for one in value)
        if not numbers or value[0] >= value[1]:
            self.problem(key, f"must be [lowest, highest], not {value!r}")
            return None
        return float(value[0]), float(value[1])

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.problem(key, f"must be a list of texts, not {value!r}")
            return ()
        return tuple(value)

    def integers(self, key: str) -> tuple[int, ...]:
        """Whole numbers, one or a list."""
        value = self._take(key, [])
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in values):
            self.problem(key, f"must be a whole number or a list of them, not {value!r}")
            return ()
        return tuple(values)

    def table(self, key: str) -> FileTable:
        """A table within this one; an empty one where it is missing."""
        value = self._take(key, {})
        if not isinstance(value, dict):
            self.problem(key, f"must be a table, not {value!r}")
            value = {}
        return FileTable(value, self.file, f"{self.name} {key}".strip(), self.problems)

    def rows(self, key: str) -> list[FileTable]:
        """A list of tables, called by their key."""
        value = self._take(key, _REQUIRED)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.problem(key, "must be a list of tables")
            return []
        return [
            FileTable(one, self.file, f"{key} {one.get('key', number)}", self.problems)
            for number, one in enumerate(value, 1)
        ]

    def done(self) -> None:
        """Notes the keys that nobody asked for."""
        for key in self.content:
            if key not in self._known:
                self.problem(key, f"is not known{did_you_mean(key, self._known)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint to the name that was most likely meant; empty where none is near."""
    near = get_close_matches(word, list(known), 1)
    return f' (did you mean "{near[0]}"?)' if near else ""
