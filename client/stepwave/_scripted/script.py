"""Scripts: the entries that replace attempts of actions, and the errors of a run that does not fit its script."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TypeAlias

from stepwave._values.time import Seconds, to_seconds
from stepwave.exceptions import StepwaveError

__all__ = [
    "ActionScript",
    "Always",
    "ByStep",
    "EntryList",
    "Hangs",
    "RunStuck",
    "Script",
    "ScriptExhausted",
    "Takes",
    "read_script",
    "unused_entries",
]


@dataclass(frozen=True, slots=True)
class Takes:
    """An attempt that takes some virtual time, and then behaves as another entry: `Takes(90, {"summary": "sun"})`.

    Attributes:
        length: The virtual time, in seconds or as a `timedelta`.
        then: The entry that follows: an answer (`None` can be one), an exception, a callable.

    Raises:
        ValueError: The length is negative or infinite.
    """

    length: Seconds
    then: object = None

    def __post_init__(self) -> None:
        if to_seconds(self.length) < 0:
            raise ValueError(f"the length of an attempt must not be negative, got {self.length!r}")


@dataclass(frozen=True, slots=True)
class Hangs:
    """An attempt that never ends by itself. A timeout, a cancellation or a failure elsewhere interrupts it."""


@dataclass(frozen=True, slots=True)
class Always:
    """An entry for this attempt and all later ones: `[ConnectionError(), Always({"summary": "sun"})]`.

    Attributes:
        entry: The entry to repeat.
    """

    entry: object


@dataclass(frozen=True, slots=True)
class ByStep:
    """A script for each step of an action: `{"model": ByStep({"plan": ["…"], "write": …})}`.

    Attributes:
        steps: By step id, a list with an entry for each attempt, or one entry for all attempts. A step of the action
            that is missing here must not be attempted. A step within another has the path to it as its id; without the
            indexes of items it is for every item, and each of them uses the list from its beginning.
    """

    steps: Mapping[str, object]


# By the name of each replaced action, or the id of a step: a list with an entry for each attempt, or one entry for all.
Script: TypeAlias = Mapping[str, object]


@dataclass(slots=True)
class EntryList:
    """The entries for the attempts of one action, or of one of its steps.

    Attributes:
        entries: The entries, without the wrapper `Always`.
        repeated: Whether the last entry is used for all further attempts.
        used: The number of attempts so far, by the id of the step that made them; by the empty id, if all steps of an
            action use one list together.
    """

    entries: Sequence[object]
    repeated: bool = False
    used: dict[str, int] = field(default_factory=dict)

    def next(self, step_id: str = "") -> int | None:
        """Return the index of the entry for a step's next attempt; `None`: there is none."""
        index = self.used.get(step_id, 0)
        self.used[step_id] = index + 1
        if index < len(self.entries):
            return index
        return len(self.entries) - 1 if self.repeated else None

    @property
    def unused(self) -> int:
        """The number of entries that no attempt has used."""
        return max(0, len(self.entries) - max(self.used.values(), default=0))


@dataclass(slots=True)
class ActionScript:
    """The script of one action.

    Attributes:
        entries: Its entries by step id, or under the empty id for all other steps of the action.
        partial: Whether a step without entries runs the real action. Otherwise it must not be attempted.
    """

    entries: dict[str, EntryList]
    partial: bool = False

    def key_for(self, step_id: str) -> str | None:
        """Return the key of the entries for a step: of those that fit, the one with the most indexes."""
        for key in (*_keys(step_id), ""):
            if key in self.entries:
                return key
        return None


_INDEX = re.compile(r"(\[\d+\])")


def _keys(step_id: str) -> Iterator[str]:
    """Yield a step's id, then without some of its indexes, then without all: `pages[3]/fetch`, `pages/fetch`."""
    if "[" not in step_id:
        yield step_id
        return
    parts = _INDEX.split(step_id)
    choices = product((True, False), repeat=len(parts) // 2)
    for kept in sorted(choices, key=sum, reverse=True):
        names = (part for place, part in enumerate(parts) if place % 2 == 0 or kept[place // 2])
        yield "".join(names)


def read_script(script: Script) -> dict[str, ActionScript]:
    """Read a script.

    Raises:
        ValueError: `Always` is not the last entry, or is inside another entry.
    """
    return {name: _action_script(name, given) for name, given in script.items()}


def unused_entries(script: ActionScript) -> int:
    """Return the number of entries of an action that no attempt has used."""
    return sum(entries.unused for entries in script.entries.values())


def _action_script(name: str, given: object) -> ActionScript:
    if isinstance(given, ByStep):
        steps = given.steps.items()
        return ActionScript({step_id: _entry_list(f"{name!r} for step {step_id!r}", own) for step_id, own in steps})
    return ActionScript({"": _entry_list(repr(name), given)})


def _entry_list(name: str, given: object) -> EntryList:
    if isinstance(given, list | tuple):
        entries = list(given)
    else:
        entries = [given if isinstance(given, Always) else Always(given)]
    repeated = bool(entries) and isinstance(entries[-1], Always)
    if repeated:
        entries[-1] = entries[-1].entry
    if any(isinstance(nested, Always) for entry in entries for nested in _nested(entry)):
        raise ValueError(f"the script of {name}: `Always` can only be its last entry")
    return EntryList(entries, repeated)


def _nested(entry: object) -> Iterator[object]:
    """Yield an entry, and the entries nested in its `Takes`."""
    yield entry
    while isinstance(entry, Takes):
        entry = entry.then
        yield entry


class ScriptExhausted(StepwaveError, AssertionError):
    """Raised when an action is attempted more often than its script has entries. The run ends at that point.

    Attributes:
        action: The action.
        step_id: The step that attempted it.
        attempt: The attempt, from 1.
        entries: The number of its entries in the script.
    """

    def __init__(self, action: str, step_id: str, attempt: int, entries: int) -> None:
        has = {0: "no entry", 1: "1 entry"}.get(entries, f"{entries} entries")
        super().__init__(
            f"step {step_id!r}, attempt {attempt}: the script of action {action!r} has run out, it has {has} for it; "
            "`Always(…)` as the last entry is used for all further attempts"
        )
        self.action = action
        self.step_id = step_id
        self.attempt = attempt
        self.entries = entries

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.action, self.step_id, self.attempt, self.entries)


class RunStuck(StepwaveError, AssertionError):
    """Raised when virtual time cannot advance: a thread or a connection blocks it, or the event loop spins."""
