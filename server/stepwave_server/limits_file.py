"""The limits file of a server: what actions are allowed, in YAML or JSON, with every problem named at its place.

```yaml
limits:
  - actions: search.*                            # a name, or the beginning of names and *; all that cover one apply
    concurrency: 8                               # attempts in flight at once
    rate: 20/s                                   # or {count: 20, per: 1s, burst: 40}
    per_key: {concurrency: 2, rate: 100/m}       # for each value of the steps' concurrency_key apart
  - actions: model.chat
    adaptive: {initial: 8, min: 1, max: 64}      # or true: falls on rate_limited, climbs back slowly
```
"""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias, TypeVar

from stepwave._files._json import parse_json
from stepwave._files._reader import read_duration
from stepwave._files._tree import (
    Entry,
    FileProblem,
    Kind,
    ListNode,
    MapNode,
    Node,
    Place,
    Scalar,
    SyntaxProblem,
    describe,
)
from stepwave._files._yaml import parse_yaml
from stepwave_server.core.model import SECOND
from stepwave_server.core.validate import did_you_mean
from stepwave_server.engine.admission.limits import Adaptive, Bound, Limit, Rate

__all__ = ["LimitsError", "load_limits", "parse_limits", "uncovering"]

MOST = 1_000_000
"""The most of anything that is counted."""

LONGEST = 24 * 3600 * SECOND

_ACTIONS = re.compile(r"\*|[A-Za-z_][A-Za-z0-9_.-]{0,127}\*?")
_RATE = re.compile(r"([0-9]+)/([0-9.]*(?:ms|s|m|h))", re.ASCII)
_BOUNDS = ("concurrency", "rate", "adaptive")

T = TypeVar("T")
Fields: TypeAlias = Mapping[str, Entry]


class LimitsError(ValueError):
    """Raised when a limits file cannot be used. Every problem is listed, in the file's order."""


def load_limits(path: Path) -> tuple[Limit, ...]:
    """Read a limits file: JSON if its name ends in `.json`, else YAML.

    Raises:
        LimitsError: It is none, or cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LimitsError(f"{path}: cannot be read: {error}") from error
    return parse_limits(text, str(path))


def parse_limits(text: str, source: str) -> tuple[Limit, ...]:
    """Read the text of a limits file; `source` is its name.

    Raises:
        LimitsError: It is none.
    """
    try:
        root, problems = (parse_json if source.endswith(".json") else parse_yaml)(text)
    except SyntaxProblem as error:
        raise LimitsError(f"{source}:{error.problem}") from error
    reader = _Reader(problems)
    limits = reader.read(root)
    if reader.problems:
        found = sorted(reader.problems, key=lambda problem: problem.place)
        raise LimitsError("\n".join(f"{source}:{problem}" for problem in found))
    return limits


def uncovering(limits: Iterable[Limit], actions: Iterable[str]) -> list[str]:
    """Say which limits cover no action, each in a line."""
    known = list(actions)
    return [
        f'the limit "{limit.actions}" covers no action of this server{did_you_mean(limit.actions.rstrip(".*"), known)}'
        for limit in limits
        if not any(map(limit.covers, known))
    ]


class _Reader:
    """Reads one file's tree.

    Attributes:
        problems: What is wrong, in no order.
    """

    def __init__(self, problems: Iterable[FileProblem]) -> None:
        self.problems = list(problems)

    def read(self, root: Node | None) -> tuple[Limit, ...]:
        """Return the limits; with problems, those that could be read."""
        if root is None:
            self._blame(Place(1, 1), "", "empty: a limits file has `limits`, a list")
            return ()
        entry = self._fields(root, "", ("limits",)).get("limits")
        if entry is None or not isinstance(entry.value, ListNode):
            place, given = (root.place, "none") if entry is None else (entry.place, describe(entry.value))
            self._blame(place, "limits", f"expected a list of limits, got {given}")
            return ()
        seen: dict[str, str] = {}
        found = [self._limit(node, f"limits[{index}]", seen) for index, node in enumerate(entry.value.items)]
        return tuple(limit for limit in found if limit is not None)

    def _limit(self, node: Node, path: str, seen: dict[str, str]) -> Limit | None:
        fields = self._fields(node, path, ("actions", *_BOUNDS, "per_key"))
        actions = self._actions(fields, node, path, seen)
        total = self._bound(fields, path)
        per_key = self._per_key(fields, path)
        if actions and len(fields) == 1:
            self._blame(node.place, path, "allows everything: set concurrency, rate, adaptive or per_key")
        return Limit(actions=actions, total=total, per_key=per_key) if actions else None

    def _actions(self, fields: Fields, node: Node, path: str, seen: dict[str, str]) -> str:
        entry = fields.get("actions")
        if entry is None:
            if isinstance(node, MapNode):
                self._blame(node.place, path, "needs `actions`: a name, or the beginning of names and *")
            return ""
        text = entry.value.text if isinstance(entry.value, Scalar) and entry.value.kind is Kind.STRING else ""
        if not _ACTIONS.fullmatch(text):
            wanted = "the name of an action, or the beginning of names and * at its end"
            self._blame(entry.value.place, f"{path}.actions", f"expected {wanted}, got {describe(entry.value)}")
            return ""
        first = seen.setdefault(text, path)
        if first != path:
            self._blame(entry.value.place, f"{path}.actions", f'"{text}" is what {first} covers already')
        return text

    def _per_key(self, fields: Fields, path: str) -> Bound | None:
        entry = fields.get("per_key")
        if entry is None:
            return None
        inner = self._fields(entry.value, f"{path}.per_key", _BOUNDS)
        if isinstance(entry.value, MapNode) and not inner:
            self._blame(entry.place, f"{path}.per_key", "allows everything: set concurrency, rate or adaptive")
        return self._bound(inner, f"{path}.per_key")

    def _bound(self, fields: Fields, path: str) -> Bound | None:
        if not any(name in fields for name in _BOUNDS):
            return None
        concurrency = self._given(fields, "concurrency", path, self._count)
        return Bound(
            concurrency=concurrency,
            rate=self._given(fields, "rate", path, self._rate),
            adaptive=self._given(fields, "adaptive", path, lambda node, at: self._adaptive(node, at, concurrency)),
        )

    def _given(self, fields: Fields, name: str, path: str, read: Callable[[Node, str], T | None]) -> T | None:
        entry = fields.get(name)
        return None if entry is None else read(entry.value, f"{path}.{name}")

    def _rate(self, node: Node, path: str) -> Rate | None:
        if isinstance(node, MapNode):
            fields = self._fields(node, path, ("count", "per", "burst"))
            if "count" not in fields:
                self._blame(node.place, path, "needs `count`")
            count = self._given(fields, "count", path, self._count) or 1
            per = self._given(fields, "per", path, self._span) or SECOND
            return Rate(count=count, per=per, burst=self._given(fields, "burst", path, self._count) or 1)
        match = _RATE.fullmatch(node.text) if isinstance(node, Scalar) else None
        if match is None:
            self._wrong(node, path, "a rate such as 20/s, 100/10s or {count: 20, per: 1s, burst: 40}")
            return None
        count = self._count(Scalar(node.place, Kind.NUMBER, match[1]), path) or 1
        unit = match[2] if match[2][0].isdigit() else f"1{match[2]}"
        return Rate(count=count, per=self._span(Scalar(node.place, Kind.STRING, unit), path) or SECOND)

    def _adaptive(self, node: Node, path: str, concurrency: int | None) -> Adaptive | None:
        usual = Adaptive()
        is_said = isinstance(node, Scalar) and node.kind is Kind.BOOLEAN  # `true`; `false` says nothing
        fields: Fields = {} if is_said else self._fields(node, path, ("initial", "min", "max"))
        least = self._given(fields, "min", path, self._count) or usual.least
        most = self._given(fields, "max", path, self._count) or max(least, concurrency or usual.most)
        initial = self._given(fields, "initial", path, self._count) or min(max(usual.initial, least), most)
        if not least <= initial <= most:
            problem = f"want min ≤ initial ≤ max, got {least:,}, {initial:,} and {most:,}"
            self._blame(node.place, path, problem)
        return Adaptive(initial=initial, least=least, most=most)

    def _count(self, node: Node, path: str) -> int | None:
        text = node.text if isinstance(node, Scalar) and node.kind is Kind.NUMBER else ""
        if text.isdecimal() and len(text) < 20 and 1 <= int(text) <= MOST:
            return int(text)
        self._wrong(node, path, f"a whole number from 1 to {MOST:,}")
        return None

    def _span(self, node: Node, path: str) -> int | None:
        try:
            length = read_duration(node)
        except ValueError as error:
            self._blame(node.place, path, str(error))
            return None
        nanos = length.seconds * SECOND + length.nanos
        if 0 < nanos <= LONGEST:
            return nanos
        self._wrong(node, path, "a duration of more than 0 s and at most 24 h")
        return None

    def _fields(self, node: Node, path: str, known: tuple[str, ...]) -> dict[str, Entry]:
        """Return the entries of a mapping by their keys, having named those that mean nothing."""
        if not isinstance(node, MapNode):
            self._wrong(node, path, "a mapping")
            return {}
        for entry in node:
            if entry.key not in known:
                near = get_close_matches(entry.key, known, n=1)
                hint = f'did you mean "{near[0]}"?' if near else "known: " + ", ".join(known)
                self._blame(entry.place, path, f'unknown key "{entry.key}"; {hint}')
        return {entry.key: entry for entry in node if entry.key in known and not _is_off(entry)}

    def _wrong(self, node: Node, path: str, wanted: str) -> None:
        self._blame(node.place, path, f"expected {wanted}, got {describe(node)}")

    def _blame(self, place: Place, path: str, message: str) -> None:
        self.problems.append(FileProblem(place, message, path))


def _is_off(entry: Entry) -> bool:
    """Say whether an entry is `adaptive: false`, which is as if it were not there."""
    node = entry.value
    return entry.key == "adaptive" and isinstance(node, Scalar) and node.kind is Kind.BOOLEAN and node.text == "false"
