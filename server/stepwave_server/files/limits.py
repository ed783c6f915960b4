"""The limits file: concurrency and rate limits of actions, in YAML or JSON. Every problem is reported with its line.

```yaml
limits:
  - actions: search.*                            # a name or a prefix with *; all that match apply
    concurrency: 8                               # attempts in flight at once
    rate: 20/s                                   # or {count: 20, per: 1s, burst: 40}
    per_key: {concurrency: 2, rate: 100/m}       # for each concurrency_key of the steps
  - actions: model.chat
    adaptive: {initial: 8, min: 1, max: 64}      # or true: falls on rate_limited, recovers slowly
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
from stepwave_server.files.text import read_text

__all__ = ["LimitsError", "load_limits", "parse_limits", "unmatched_limits"]

MAX_COUNT = 1_000_000
"""Largest count in a limit."""

MAX_DURATION = 24 * 3600 * SECOND

_ACTIONS = re.compile(r"\*|[A-Za-z_][A-Za-z0-9_.-]{0,127}\*?")
_RATE = re.compile(r"([0-9]+)/([0-9.]*(?:ms|s|m|h))", re.ASCII)
_BOUNDS = ("concurrency", "rate", "adaptive")

T = TypeVar("T")
Fields: TypeAlias = Mapping[str, Entry]


class LimitsError(ValueError):
    """Raised when a limits file is malformed. Lists every problem, in the order of the file."""


def load_limits(path: Path) -> tuple[Limit, ...]:
    """Read a limits file: JSON if its name ends in `.json`, else YAML.

    Raises:
        LimitsError: The file is malformed or cannot be read.
    """
    return parse_limits(read_text(path, LimitsError), str(path))


def parse_limits(text: str, source: str) -> tuple[Limit, ...]:
    """Parse the text of a limits file.

    Args:
        text: The text.
        source: The file's name, for messages. A name in `.json` means JSON, every other YAML.

    Raises:
        LimitsError: The text is malformed.
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


def unmatched_limits(limits: Iterable[Limit], actions: Iterable[str]) -> list[str]:
    """Return a message for every limit that matches no action."""
    known = list(actions)
    return [
        f'the limit "{limit.actions}" covers no action of this server{did_you_mean(limit.actions.rstrip(".*"), known)}'
        for limit in limits
        if not any(map(limit.covers, known))
    ]


class _Reader:
    """Reads the tree of one file.

    Attributes:
        problems: The problems found so far, in no order.
    """

    def __init__(self, problems: Iterable[FileProblem]) -> None:
        self.problems = list(problems)

    def read(self, root: Node | None) -> tuple[Limit, ...]:
        """Return the limits; if there are problems, those that could be read."""
        if root is None:
            self._report(Place(1, 1), "", "empty: a limits file has `limits`, a list")
            return ()
        entry = self._fields(root, "", ("limits",)).get("limits")
        if entry is None or not isinstance(entry.value, ListNode):
            place, found = (root.place, "none") if entry is None else (entry.place, describe(entry.value))
            self._report(place, "limits", f"expected a list of limits, got {found}")
            return ()
        seen: dict[str, str] = {}
        read = [self._limit(node, f"limits[{index}]", seen) for index, node in enumerate(entry.value.items)]
        return tuple(limit for limit in read if limit is not None)

    def _limit(self, node: Node, path: str, seen: dict[str, str]) -> Limit | None:
        fields = self._fields(node, path, ("actions", *_BOUNDS, "per_key"))
        actions = self._actions(fields, node, path, seen)
        total = self._bound(fields, path)
        per_key = self._per_key(fields, path)
        if actions and len(fields) == 1:
            self._report(node.place, path, "allows everything: set concurrency, rate, adaptive or per_key")
        return Limit(actions=actions, total=total, per_key=per_key) if actions else None

    def _actions(self, fields: Fields, node: Node, path: str, seen: dict[str, str]) -> str:
        entry = fields.get("actions")
        if entry is None:
            if isinstance(node, MapNode):
                self._report(node.place, path, "needs `actions`: a name, or the beginning of names and *")
            return ""
        text = entry.value.text if isinstance(entry.value, Scalar) and entry.value.kind is Kind.STRING else ""
        if not _ACTIONS.fullmatch(text):
            wanted = "the name of an action, or the beginning of names and * at its end"
            self._report(entry.value.place, f"{path}.actions", f"expected {wanted}, got {describe(entry.value)}")
            return ""
        first = seen.setdefault(text, path)
        if first != path:
            self._report(entry.value.place, f"{path}.actions", f'"{text}" is already covered by {first}')
        return text

    def _per_key(self, fields: Fields, path: str) -> Bound | None:
        entry = fields.get("per_key")
        if entry is None:
            return None
        inner = self._fields(entry.value, f"{path}.per_key", _BOUNDS)
        if isinstance(entry.value, MapNode) and not inner:
            self._report(entry.place, f"{path}.per_key", "allows everything: set concurrency, rate or adaptive")
        return self._bound(inner, f"{path}.per_key")

    def _bound(self, fields: Fields, path: str) -> Bound | None:
        if not any(name in fields for name in _BOUNDS):
            return None
        concurrency = self._optional(fields, "concurrency", path, self._count)
        return Bound(
            concurrency=concurrency,
            rate=self._optional(fields, "rate", path, self._rate),
            adaptive=self._optional(fields, "adaptive", path, lambda node, at: self._adaptive(node, at, concurrency)),
        )

    def _optional(self, fields: Fields, name: str, path: str, read: Callable[[Node, str], T | None]) -> T | None:
        entry = fields.get(name)
        return None if entry is None else read(entry.value, f"{path}.{name}")

    def _rate(self, node: Node, path: str) -> Rate | None:
        if isinstance(node, MapNode):
            fields = self._fields(node, path, ("count", "per", "burst"))
            if "count" not in fields:
                self._report(node.place, path, "needs `count`")
            count = self._optional(fields, "count", path, self._count) or 1
            per = self._optional(fields, "per", path, self._duration) or SECOND
            return Rate(count=count, per=per, burst=self._optional(fields, "burst", path, self._count) or 1)
        match = _RATE.fullmatch(node.text) if isinstance(node, Scalar) else None
        if match is None:
            self._report_unexpected(node, path, "a rate such as 20/s, 100/10s or {count: 20, per: 1s, burst: 40}")
            return None
        count = self._count(Scalar(node.place, Kind.NUMBER, match[1]), path) or 1
        unit = match[2] if match[2][0].isdigit() else f"1{match[2]}"
        return Rate(count=count, per=self._duration(Scalar(node.place, Kind.STRING, unit), path) or SECOND)

    def _adaptive(self, node: Node, path: str, concurrency: int | None) -> Adaptive | None:
        defaults = Adaptive()
        is_switch = isinstance(node, Scalar) and node.kind is Kind.BOOLEAN  # `true`, the defaults
        fields: Fields = {} if is_switch else self._fields(node, path, ("initial", "min", "max"))
        least = self._optional(fields, "min", path, self._count) or defaults.least
        most = self._optional(fields, "max", path, self._count) or max(least, concurrency or defaults.most)
        initial = self._optional(fields, "initial", path, self._count) or min(max(defaults.initial, least), most)
        if not least <= initial <= most:
            problem = f"want min ≤ initial ≤ max, got {least:,}, {initial:,} and {most:,}"
            self._report(node.place, path, problem)
        return Adaptive(initial=initial, least=least, most=most)

    def _count(self, node: Node, path: str) -> int | None:
        text = node.text if isinstance(node, Scalar) and node.kind is Kind.NUMBER else ""
        if text.isdecimal() and len(text) < 20 and 1 <= int(text) <= MAX_COUNT:
            return int(text)
        self._report_unexpected(node, path, f"a whole number from 1 to {MAX_COUNT:,}")
        return None

    def _duration(self, node: Node, path: str) -> int | None:
        try:
            length = read_duration(node)
        except ValueError as error:
            self._report(node.place, path, str(error))
            return None
        nanos = length.seconds * SECOND + length.nanos
        if 0 < nanos <= MAX_DURATION:
            return nanos
        self._report_unexpected(node, path, "a duration of more than 0 s and at most 24 h")
        return None

    def _fields(self, node: Node, path: str, known: tuple[str, ...]) -> dict[str, Entry]:
        """Return the known entries of a mapping by key, and report the unknown ones."""
        if not isinstance(node, MapNode):
            self._report_unexpected(node, path, "a mapping")
            return {}
        for entry in node:
            if entry.key not in known:
                near = get_close_matches(entry.key, known, n=1)
                hint = f'did you mean "{near[0]}"?' if near else "known: " + ", ".join(known)
                self._report(entry.place, path, f'unknown key "{entry.key}"; {hint}')
        return {entry.key: entry for entry in node if entry.key in known and not _is_off(entry)}

    def _report_unexpected(self, node: Node, path: str, wanted: str) -> None:
        self._report(node.place, path, f"expected {wanted}, got {describe(node)}")

    def _report(self, place: Place, path: str, message: str) -> None:
        self.problems.append(FileProblem(place, message, path))


def _is_off(entry: Entry) -> bool:
    """Return whether an entry is `adaptive: false`, which means the same as no entry."""
    node = entry.value
    return entry.key == "adaptive" and isinstance(node, Scalar) and node.kind is Kind.BOOLEAN and node.text == "false"
