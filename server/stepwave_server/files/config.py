"""The configuration file: TOML whose keys are the names of settings. Every problem is reported with its line.

```toml
listen = "0.0.0.0:50051"
step-timeout = "2m"              # or step_timeout

[temporal]                       # a table adds its name to its keys: temporal_address
address = "127.0.0.1:7233"
```
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stepwave._values.toml import TOMLDecodeError, parse_toml
from stepwave_server.files.text import read_text

__all__ = ["ConfigFile", "ConfigFileError", "read_config_file"]

_PATH_PREFIXES = ("sqlite:", "unix:")
"""The beginnings of texts whose rest is a path."""

_SYNTAX_PLACE = re.compile(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$")
_MAX_NEAR = 3
_MIN_SIMILARITY = 0.7

_Path: TypeAlias = tuple[str, ...]


class ConfigFileError(ValueError):
    """Raised when a configuration file cannot be read, or is not TOML."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The settings in a configuration file.

    Attributes:
        path: The file.
        values: The values by the name of the setting. Relative paths are relative to the file's folder.
        places: The place of each value: `stepwave.toml:3: temporal.address`.
        keys: The key of each value, as `temporal.address`.
        lines: The line of each value.
        problems: The line and the text of each problem: unknown keys, keys set twice, values of a wrong type.
    """

    path: Path
    values: Mapping[str, object]
    places: Mapping[str, str]
    keys: Mapping[str, str]
    lines: Mapping[str, int]
    problems: tuple[tuple[int, str], ...]


def read_config_file(path: Path, fields: Mapping[str, FieldInfo]) -> ConfigFile:
    """Read a configuration file.

    Args:
        path: The file.
        fields: The settings by name.

    Raises:
        ConfigFileError: The file cannot be read, or is not TOML.
    """
    text = read_text(path, ConfigFileError)
    try:
        document = parse_toml(text)
    except TOMLDecodeError as error:
        raise ConfigFileError(f"{path}:{_syntax_problem(str(error), text)}") from error
    reader = _Reader(path, fields, dict(_lines(text)))
    reader.read(document, ())
    return ConfigFile(
        path=path,
        values=reader.values,
        places={name: reader.place(key) for name, key in reader.keys.items()},
        keys={name: ".".join(key) for name, key in reader.keys.items()},
        lines={name: reader.lines[key] for name, key in reader.keys.items() if key in reader.lines},
        problems=tuple(reader.problems),
    )


class _Reader:
    """Reads the tables of one file.

    Attributes:
        values: The values by the name of the setting.
        keys: The path of the key of each value.
        lines: The line of each path, where it is known.
        problems: The line and the text of each problem.
    """

    def __init__(self, path: Path, fields: Mapping[str, FieldInfo], lines: Mapping[_Path, int]) -> None:
        self.values: dict[str, object] = {}
        self.keys: dict[str, _Path] = {}
        self.lines = lines
        self.problems: list[tuple[int, str]] = []
        self._path = path
        self._fields = fields

    def read(self, table: Mapping[str, object], parent: _Path) -> None:
        """Read a table, and those in it. The names of the tables and the key are joined to the name of the setting."""
        for key, value in table.items():
            path = (*parent, key)
            name = _setting(path)
            is_group = any(field.startswith(f"{name}_") for field in self._fields)
            if name in self._fields and not (is_group and isinstance(value, dict) and not self._is_table(name)):
                self._set(name, path, value)
            elif not is_group:
                self._report(path, f"unknown key{self._hint(parent, key, value)}")
            elif isinstance(value, dict):
                self.read(value, path)
            else:
                self._report(path, f"it is a table: write [{'.'.join(path)}], and its keys below")

    def place(self, path: _Path) -> str:
        """Return the place of a key: `stepwave.toml:3: temporal.address`."""
        line = self.lines.get(path)
        return f"{self._path}{f':{line}' if line else ''}: {'.'.join(path)}"

    def _set(self, name: str, path: _Path, value: object) -> None:
        if name in self.keys:
            other = self.keys[name]
            line = f" in line {self.lines[other]}" if other in self.lines else ""
            self._report(path, f"is set already{line}, as {'.'.join(other)}")
            return
        if isinstance(value, bool) and _is_number(self._fields[name].annotation):
            self._report(path, f"expected a number, got {str(value).lower()}")
            return
        self.keys[name] = path
        self.values[name] = _rebased(value, self._fields[name].annotation, self._path.parent)

    def _is_table(self, name: str) -> bool:
        return any(_is_mapping(kind) for kind in _kinds(self._fields[name].annotation))

    def _hint(self, parent: _Path, key: str, value: object) -> str:
        """Return a hint with the nearest keys of the table, or else of the file; for a table, the nearest tables."""
        name = _setting((key,))
        prefix = f"{_setting(parent)}_" if parent else ""
        siblings = {field.removeprefix(prefix) for field in self._fields if field.startswith(prefix)}
        if isinstance(value, dict) and not parent:
            near = [f"[{table}]" for table in _near(name, _tables(self._fields))]
        else:
            near = [".".join((*parent, sibling)) for sibling in _near(name, siblings)]
        near = near or _near(name, self._fields)
        return f"; did you mean {' or '.join(near)}?" if near else ""

    def _report(self, path: _Path, message: str) -> None:
        self.problems.append((self.lines.get(path, 0), f"{self.place(path)}: {message}"))


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are most similar to a name, the nearest first."""
    return get_close_matches(name, list(known), n=_MAX_NEAR, cutoff=_MIN_SIMILARITY)


def _setting(path: _Path) -> str:
    return "_".join(path).replace("-", "_")


def _tables(fields: Iterable[str]) -> set[str]:
    return {name.partition("_")[0] for name in fields if "_" in name}


def _lines(text: str) -> Iterator[tuple[_Path, int]]:
    """Yield the path and the line of each key and table.

    The text is TOML. So the shortest part that is TOML by itself is one statement: a table's name, or a key and its
    value.
    """
    table: _Path = ()
    first, statement = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        statement += f"{line}\n"
        try:
            parsed = parse_toml(statement)
        except TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            table = next(_paths(parsed))
            yield table, first
        else:
            yield from (((*table, *path), first) for path in _prefixes(_paths(parsed)))
        first, statement = number + 1, ""


def _paths(value: object) -> Iterator[_Path]:
    """Yield the paths to all values that are not tables, and to empty tables."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1]
    if not isinstance(value, dict) or not value:
        yield ()
        return
    for key, inner in value.items():
        yield from ((key, *path) for path in _paths(inner))


def _prefixes(paths: Iterable[_Path]) -> Iterator[_Path]:
    yield from (path[:length] for path in paths for length in range(1, len(path) + 1))


def _syntax_problem(message: str, text: str) -> str:
    """Return the place and the message of an error of the TOML parser, which ends with the place."""
    found = _SYNTAX_PLACE.fullmatch(message)
    if found is None:
        return f" {message}"
    line, column = (found[2], found[3]) if found[2] else (max(len(text.splitlines()), 1), "")
    return f"{line}:{f'{column}:' if column else ''} {found[1]}"


def _rebased(value: object, annotation: object, folder: Path) -> object:
    """Return a value with its relative paths under a folder."""
    if isinstance(value, list):
        return [_rebased(item, annotation, folder) for item in value]
    if not isinstance(value, str) or value.startswith("~"):
        return value
    if Path in _kinds(annotation):
        return folder / value
    for prefix in _PATH_PREFIXES:
        path = value.removeprefix(prefix)
        if path != value and path and not path.startswith(("/", "~")):
            return f"{prefix}{folder / path}"
    return value


def _kinds(annotation: object) -> Iterator[object]:
    """Yield a type, or the types in a union or a tuple."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in {Annotated, Union, UnionType, tuple, list}:
        for kind in inner[:1] if origin is Annotated else inner:
            yield from _kinds(kind)
    else:
        yield annotation


def _is_number(annotation: object) -> bool:
    kinds = set(_kinds(annotation))
    return bool(kinds & {int, float}) and bool not in kinds


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and (issubclass(origin, (dict, BaseModel)) or issubclass(origin, Mapping))
