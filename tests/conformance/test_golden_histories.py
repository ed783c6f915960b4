"""Golden histories of this version and earlier ones: workflows accept them, and servers derive the same bytes."""

import json
from base64 import b64decode
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory

from conformance.decisions import Decisions, derived

FOLDER = Path(__file__).parents[1] / "golden"
FILES = sorted(FOLDER.glob("temporal-*/*.json"))


def _read(file: Path) -> tuple[WorkflowHistory, list[bytes]]:
    """Return the history in a file, and the events that were derived from it."""
    kept = json.loads(file.read_text())
    return WorkflowHistory.from_json(kept["run_id"], kept["history"]), [b64decode(event) for event in kept["events"]]


def test_there_are_golden_histories() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_golden_history_gives_the_same_bytes(file: Path) -> None:
    history, events = _read(file)
    assert derived(list(history.events)) == events


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
async def test_a_golden_history_is_replayed_with_the_same_decisions(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, events = _read(file)
    decisions = Decisions(monkeypatch)
    await decisions.replay(history)
    assert decisions.of(history.workflow_id) == events
