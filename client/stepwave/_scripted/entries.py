"""What stands in a script: how each attempt of an action goes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stepwave._values.time import Seconds, to_seconds

__all__ = ["Always", "ByStep", "Hangs", "Lines", "Part", "Script", "Takes", "parts_of", "unused_of"]


@dataclass(frozen=True, slots=True)
class Takes:
    """Takes so long, by virtual time, and then goes as another entry does: `Takes(90, {"summary": "sun"})`.

    Attributes:
        length: How long, in seconds or as a `timedelta`.
        then: The entry that follows: an answer (`None` is one), an exception, a callable.

    Raises:
        ValueError: The length is negative or infinite.
    """

    length: Seconds
    then: object = None

    def __post_init__(self) -> None:
        if to_seconds(self.length) < 0:
            raise ValueError(f"an attempt cannot take less than no time, got {self.length!r}")


@dataclass(frozen=True, slots=True)
class Hangs:
    """Never comes to an end: waits until a timeout, a cancel or a failure elsewhere interrupts it."""


@dataclass(frozen=True, slots=True)
class Always:
    """Goes so at this attempt and at every later one: `[ConnectionError(), Always({"summary": "sun"})]`.

    Attributes:
        entry: The entry to repeat.
    """

    entry: object


@dataclass(frozen=True, slots=True)
class ByStep:
    """Goes for each step of an action as the step's own script does: `{"model": ByStep({"plan": ["…"], "write": …})}`.

    Attributes:
        steps: By step id, a list with an entry for each attempt, or the entry for all of them. A step of the action
            that is not among them must not be attempted.
    """

    steps: Mapping[str, object]


# By the name of each action that is replaced: a list of entries, one for each attempt; or the entry for all of them.
Script: TypeAlias = Mapping[str, object]


@dataclass(slots=True)
class Lines:
    """The script of one action, and how far it is used.

    Attributes:
        entries: What stands in it, `Always` apart.
        repeated: The last entry answers every further attempt.
        used: How many attempts it has answered.
    """

    entries: Sequence[object]
    repeated: bool = False
    used: int = 0

    def next(self) -> int | None:
        """Return the place of the entry for the next attempt; `None`: there is none."""
        place, self.used = self.used, self.used + 1
        if place < len(self.entries):
            return place
        return len(self.entries) - 1 if self.repeated else None

    @property
    def unused(self) -> int:
        """How many entries no attempt has taken."""
        return max(0, len(self.entries) - self.used)


# The lines of one action: by step, or for all of its steps under the empty name.
Part: TypeAlias = Mapping[str, Lines]


def parts_of(script: Script) -> dict[str, Part]:
    """Read a script.

    Raises:
        ValueError: `Always` stands where entries follow it, or within another entry.
    """
    return {name: _part(name, given) for name, given in script.items()}


def unused_of(part: Part) -> int:
    """Return how many entries of an action no attempt has taken."""
    return sum(lines.unused for lines in part.values())


def _part(name: str, given: object) -> Part:
    if isinstance(given, ByStep):
        return {step_id: _lines(f"{name!r} for step {step_id!r}", own) for step_id, own in given.steps.items()}
    return {"": _lines(repr(name), given)}


def _lines(name: str, given: object) -> Lines:
    if isinstance(given, list | tuple):
        entries = list(given)
    else:
        entries = [given if isinstance(given, Always) else Always(given)]
    repeated = bool(entries) and isinstance(entries[-1], Always)
    if repeated:
        entries[-1] = entries[-1].entry
    if any(isinstance(part, Always) for entry in entries for part in _parts(entry)):
        raise ValueError(f"the script of {name}: `Always` can only be its last entry")
    return Lines(entries, repeated)


def _parts(entry: object) -> Iterator[object]:
    """Yield an entry, and what comes after the time that it takes."""
    yield entry
    while isinstance(entry, Takes):
        entry = entry.then
        yield entry
