"""The Temporal workflow that keeps the catalog: which actions the hosts of a task queue have.

Hosts signal what they have. The workflow keeps it in its memo, so that servers can read it without its answer.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from temporalio import workflow

from stepwave_server.actions.described import DescribedAction

__all__ = [
    "ANNOUNCE",
    "CATALOG_TYPE",
    "KEEP_SECONDS",
    "CatalogWorkflow",
    "Entries",
    "catalog_id",
    "fitting",
    "from_entry",
    "to_entry",
]

CATALOG_TYPE = "stepwave.catalog"
"""The type of the workflow that keeps the catalog."""

ANNOUNCE = "stepwave.announce"
"""The signal by which a host announces its actions."""

KEEP_SECONDS = 7 * 24 * 3600
"""Seconds after which an action that no host has announced again is forgotten."""

MAX_SIGNALS = 500
"""Announcements after which the workflow continues as a new one."""

MAX_BYTES = 1_500_000
"""Bytes of all entries. Temporal bounds a memo to 2 MB. An entry that does not fit loses schemas, or is left out."""

Entries: TypeAlias = dict[str, dict[str, Any]]
"""Descriptions of actions as JSON, by name."""


def catalog_id(task_queue: str) -> str:
    """Return the id of the workflow that keeps the catalog. A run cannot have it: no run's id has a colon."""
    return f"stepwave-catalog:{task_queue}"


def to_entry(action: DescribedAction) -> dict[str, Any]:
    """Return an action as an entry of the catalog."""
    return {
        "description": action.description,
        "input_schema": action.input_schema,
        "output_schema": action.output_schema,
        "streaming": action.streaming,
        "idempotent": action.idempotent,
        "source": action.source,
        "keys": None if action.keys is None else list(action.keys),
        "takes_others": action.takes_others,
    }


def from_entry(name: str, entry: Mapping[str, Any]) -> DescribedAction:
    """Return the action of an entry of the catalog. Members that are not known are ignored."""
    keys = entry.get("keys")
    return DescribedAction(
        name,
        description=str(entry.get("description", "")),
        input_schema=str(entry.get("input_schema", "")),
        output_schema=str(entry.get("output_schema", "")),
        streaming=bool(entry.get("streaming")),
        idempotent=bool(entry.get("idempotent")),
        source=str(entry.get("source", "")),
        keys=None if keys is None else tuple(map(str, keys)),
        takes_others=bool(entry.get("takes_others")),
    )


@workflow.defn(name=CATALOG_TYPE, sandboxed=False)
class CatalogWorkflow:
    """Keeps the catalog of one task queue.

    Args:
        entries: The entries so far.
        announced: When each was announced last, in seconds since the epoch.
    """

    @workflow.init
    def __init__(self, entries: Entries, announced: dict[str, float]) -> None:
        self._entries = entries
        self._announced = announced
        self._signals = 0

    @workflow.run
    async def run(self, entries: Entries, announced: dict[str, float]) -> None:
        """Accept announcements, and continue as a new workflow before the history grows large."""
        await workflow.wait_condition(
            lambda: self._signals >= MAX_SIGNALS or workflow.info().is_continue_as_new_suggested()
        )
        workflow.continue_as_new(args=[self._entries, self._announced], memo=self._entries)

    @workflow.signal(name=ANNOUNCE)
    def announce(self, entries: Entries) -> None:
        """Add the actions of a host to the catalog. The last announcement of an action counts."""
        self._signals += 1
        now = workflow.time()
        changes: dict[str, dict[str, Any] | None] = {}
        for name in [name for name, seen in self._announced.items() if seen < now - KEEP_SECONDS]:
            del self._announced[name], self._entries[name]
            changes[name] = None
        for name, entry in entries.items():
            if self._entries.get(name) == entry:
                self._announced[name] = now
            elif (kept := fitting(self._entries, name, entry)) is not None:
                self._announced[name] = now
                if self._entries.get(name) != kept:
                    self._entries[name] = changes[name] = kept
        if changes:
            workflow.upsert_memo(changes)


def fitting(entries: Entries, name: str, entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return a new entry as far as there is room for it beside others; `None`: there is none."""
    room = MAX_BYTES - sum(_size(other, kept) for other, kept in entries.items() if other != name)
    without_output = {**entry, "output_schema": ""}
    for form in (entry, without_output, {**without_output, "input_schema": ""}):
        if _size(name, form) <= room:
            return form
    return None


def _size(name: str, entry: Mapping[str, Any]) -> int:
    return len(name) + len(json.dumps(entry))
