"""Tables of TOML files that people write, key by key; errors name file, table and key, and say what to write."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from meter_batch_engine.errors import ConfigError

from ..words import LANGUAGES


def load_table(file: Path, what: str) -> Table:
    """The top table of a file. `what` it is, for the error where it is missing."""
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {what} {file}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: is no TOML: {error}") from error
    return Table(str(file), "", data)


class Table:
    """A table of a file: takes its keys one by one, says what is wrong with any, and refuses what nobody took.

    `place` is where it stands, for people: "[[version]] from 2026-01-01, [[version.day]] 2"; `path` its name in TOML,
    without numbers: "version.day".
    """

    def __init__(self, file: str, place: str, data: Any, path: str = "") -> None:
        self.file, self.place, self._path = file, place, path
        if not isinstance(data, dict):
            raise self.wrong(None, "is no table")
        self._data: dict[str, Any] = dict(data)
        self._known: list[str] = []

    def wrong(self, key: str | None, what: str) -> ConfigError:
        """The error: which file, which table, which key, what to write."""
        where = f"{self.file}: {self.place}: " if self.place else f"{self.file}: "
        return ConfigError(f"{where}{what}" if key is None else f'{where}"{key}" {what}')

    def take(self, key: str, example: str, *, needed: bool = False) -> Any:
        """A value as it stands; None where there is none."""
        self._known.append(key)
        found = self._data.pop(key, None)
        if found is None and needed:
            self.meant(key)
            raise self.wrong(key, f"is missing; write {key} = {example}")
        return found

    def meant(self, *keys: str) -> None:
        """ConfigError where a key that nobody took yet looks like one of these, which are missing."""
        for one in self._data:
            if hint := meant(one, keys):
                raise self.wrong(one, f"is not known here{hint}")

    def number(
        self, key: str, example: str, *, needed: bool = False, least: str = "0", most: str = "1e9"
    ) -> Decimal | None:
        """An exact number, written as 0.6 or "0.6"."""
        found = self.take(key, example, needed=needed)
        if found is None:
            return None
        return self.exact(key, found, example, least, most)

    def exact(self, key: str, found: Any, example: str, least: str = "0", most: str = "1e9") -> Decimal:
        """The same of a value in hand."""
        try:
            if isinstance(found, bool) or not isinstance(found, str | int | Decimal):
                raise InvalidOperation  # noqa: TRY301
            value = Decimal(found)
            good = value.is_finite() and Decimal(least) <= value <= Decimal(most)
        except InvalidOperation:
            good = False
        if not good:
            raise self.wrong(key, f"is {found!r} and must be a number of at least {least}; write {key} = {example}")
        return value

    def whole(self, key: str, default: int, allowed: tuple[int, ...]) -> int:
        """A whole number, one of some."""
        found = self.take(key, str(default))
        if found is None:
            return default
        if found not in allowed or isinstance(found, bool):
            raise self.wrong(key, f"is {found!r} and must be one of {', '.join(map(str, allowed))}")
        return int(found)

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """A word, one of some."""
        found = self.take(key, f'"{allowed[0]}"', needed=default is None)
        if found is None:
            assert default is not None
            return default
        if found not in allowed:
            raise self.wrong(key, f"is {found!r} and must be one of {', '.join(allowed)}")
        return str(found)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        found = self.take(key, "true")
        if found is None:
            return default
        if not isinstance(found, bool):
            raise self.wrong(key, f"is {found!r} and must be true or false")
        return found

    def names(self, key: str, *, needed: bool = True) -> Mapping[str, str]:
        """A name in both languages."""
        example = '{ en = "Peak", "zh-Hans" = "峰" }'
        found = self.take(key, example, needed=needed)
        if found is None:
            return {}
        good = isinstance(found, dict) and set(found) == set(LANGUAGES)
        if not good or not all(isinstance(one, str) and one.strip() for one in found.values()):
            raise self.wrong(key, f"must be a name in both languages; write {key} = {example}")
        return {language: found[language].strip() for language in LANGUAGES}

    def tables(self, key: str, *, needed: bool = False) -> Iterator[Table]:
        """Tables of which there may be several: [[key]]."""
        found = self.take(key, "", needed=False)
        path = self._named(key)
        if needed and not found:
            self.meant(key)
            raise self.wrong(None, f"there is no [[{path}]]; write at least one")
        if found is not None and not isinstance(found, list):
            raise self.wrong(key, f"must be written as [[{path}]]")
        for number, one in enumerate(found or (), 1):
            yield Table(self.file, self._within(f"[[{path}]] {number}"), one, path)

    def table(self, key: str) -> Table | None:
        """A table of which there may be one: [key]."""
        found = self.take(key, "")
        path = self._named(key)
        return None if found is None else Table(self.file, self._within(f"[{path}]"), found, path)

    def _named(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _within(self, place: str) -> str:
        return f"{self.place}, {place}" if self.place else place

    def rest(self) -> dict[str, Any]:
        """All that is left, taken."""
        found, self._data = self._data, {}
        return found

    def done(self) -> None:
        """ConfigError for keys that nobody took."""
        for key in self._data:
            raise self.wrong(key, f"is not known here{meant(key, self._known) or _there(self._known)}")

    def texts(self, key: str, example: str) -> list[str] | None:
        """A list of texts, or one text; None where there is none."""
        found = self.take(key, example)
        if found is None:
            return None
        found = [found] if isinstance(found, str) else found
        if not isinstance(found, list) or not found or not all(isinstance(one, str) and one.strip() for one in found):
            raise self.wrong(key, f"is {found!r} and must be a list of texts; write {key} = {example}")
        return [one.strip() for one in found]


def meant(word: str, known: Iterable[str]) -> str:
    """The known word that is most like a misspelt one, as the end of a sentence; nothing where none is."""
    near = get_close_matches(word, list(known), 1, 0.7)
    return f'; did you mean "{near[0]}"?' if near else ""


def _there(known: Iterable[str]) -> str:
    return f"; there are {', '.join(known)}"
