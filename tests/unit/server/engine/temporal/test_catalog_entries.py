"""Entries of the catalog of actions, and the parts in which they are announced."""

import json

import pytest

import stepwave_server.engine.temporal.catalog as catalog_module
from stepwave_server.actions.described import DescribedAction
from stepwave_server.engine.temporal.catalog import parts_of
from stepwave_server.engine.temporal.catalog_workflow import MAX_BYTES, Entries, fitting, from_entry, to_entry

FULL = DescribedAction(
    "act", "Does it.", '{"type": "object"}', '{"type": "string"}', True, True, "module:act", ("a", "b"), True
)
WHOLE = DescribedAction("act", keys=None)
NOTHING = DescribedAction("act", keys=())


@pytest.mark.parametrize("action", [FULL, WHOLE, NOTHING])
def test_an_action_comes_back_from_its_entry(action: DescribedAction) -> None:
    assert from_entry("act", json.loads(json.dumps(to_entry(action)))) == action


def test_an_entry_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert from_entry("act", {"source": "x", "more": 1}) == DescribedAction("act", source="x")


def test_an_entry_without_room_loses_its_schemas_and_then_its_place() -> None:
    entry = to_entry(DescribedAction("large", input_schema="x" * 1_000, output_schema="x" * 1_000))
    entries: Entries = {"other": to_entry(DescribedAction("other", description="x" * (MAX_BYTES - 1_000)))}
    assert fitting(entries, "large", entry) == {**entry, "input_schema": "", "output_schema": ""}
    assert fitting({}, "large", entry) == entry
    entries["other"]["description"] = "x" * (MAX_BYTES - 2_000)
    assert fitting(entries, "large", entry) == {**entry, "output_schema": ""}
    entries["other"]["description"] = "x" * (MAX_BYTES - 1_000)
    entries["other"]["description"] += "x" * 850
    assert fitting(entries, "large", entry) is None


def test_announcements_are_parted_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MAX_SIGNAL_BYTES", 500)
    entries = {f"act{number}": to_entry(DescribedAction(f"act{number}")) for number in range(9)}
    parts = parts_of(entries)
    assert {name: entry for part in parts for name, entry in part.items()} == entries
    assert len(parts) > 1
    assert all(len(json.dumps(part)) < 600 for part in parts)
