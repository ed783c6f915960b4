"""Golden journals of this version and earlier ones: they are read, decided again byte for byte, and continued."""

import json
import shutil
import time
from pathlib import Path

import pytest

from golden.make import ACTIONS, UNFINISHED
from stepwave.testing import replay as replay_export
from stepwave.v1 import workflow_pb2
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.core.evolve import new_run
from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.model import State
from stepwave_server.core.replay import replay
from stepwave_server.core.state import CORE_VERSION
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.journal import Header, Listing, Retention, SqliteJournal
from stepwave_server.wire.events.decode import to_event
from stepwave_server.wire.events.encode import Encoder, Kind, Record
from stepwave_server.wire.workflows.workflow import Parsed, parse_workflow
from unit.server.core.wording import OtherWords, reworded

FOLDER = Path(__file__).parents[3] / "golden"
VERSIONS = sorted(folder.name for folder in FOLDER.iterdir() if (folder / "journal.db").exists())
CORE_3 = {Kind.STEPS_ADDED, Kind.STEP_EXPANDED, Kind.STEP_STOPPING, Kind.STEPS_REUSED}
NEWER = {
    "0.1.0": {Kind.STEP_READY} | CORE_3,
    "0.1.0-causes": CORE_3,
    "0.1.0-core-2": CORE_3,
    "0.1.0-failures": CORE_3,
}
"""Kinds of events that later versions added, by version."""

NO_PAYLOAD_BOUND = {"0.1.0"}
"""Versions that did not record the payload bound with a run."""

FOREVER = Retention(count=1_000_000, age=1 << 62, size=1 << 62)


def _open(version: str, folder: Path) -> SqliteJournal:
    file = folder / "journal.db"
    shutil.copy(FOLDER / version / "journal.db", file)
    return SqliteJournal.open(file, clock=time.time_ns, retention=FOREVER)


async def _all(journal: SqliteJournal) -> list[tuple[Header, list[Record]]]:
    """Return all runs with their events."""
    found = [(left.header, list(left.records)) async for left in journal.unfinished()]
    for info in await journal.list_ended(Listing("default"), None, 1_000):
        header, records = await journal.header(info.key), await journal.read(info.key, 0, 1 << 30)
        assert header is not None
        assert records is not None
        found.append((header, list(records)))
    return found


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_golden_journal_is_decided_again_byte_for_byte(version: str, tmp_path: Path) -> None:
    journal = _open(version, tmp_path)
    runs = await _all(journal)
    await journal.close()
    assert len(runs) > 5
    for header, records in runs:
        assert header.options.max_payload_bytes is None or version not in NO_PAYLOAD_BOUND
        workflow = parse_workflow(workflow_pb2.Workflow.FromString(header.workflow), Parsed())
        events = [to_event(record) for record in records]
        run = replay(new_run(workflow, header.input, header.options), events, JsonEvaluator(1 << 20))
        assert run.sequence == len(events)
        encoder = Encoder(header.key.run_id, workflow.name, header.create_time)
        assert [encoder.encode(number, event) for number, event in enumerate(events, start=1)] == records


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_golden_journal_replays_after_every_message_was_reworded(version: str, tmp_path: Path) -> None:
    journal = _open(version, tmp_path)
    runs = await _all(journal)
    await journal.close()
    for header, records in runs:
        workflow = parse_workflow(workflow_pb2.Workflow.FromString(header.workflow), Parsed())
        with reworded():
            events = map(to_event, records)
            run = replay(new_run(workflow, header.input, header.options), events, OtherWords(JsonEvaluator(1 << 20)))
        assert run.sequence == len(records)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_golden_journal_has_events_and_ends_of_every_kind(version: str, tmp_path: Path) -> None:
    journal = _open(version, tmp_path)
    kinds = {record.kind for _, records in await _all(journal) for record in records}
    ends = {info.state for info in await _infos(journal)}
    await journal.close()
    transient = {Kind.STEP_CHUNK, Kind.STEP_PROGRESS, Kind.STEP_WAITING, Kind.STEP_LOG}
    assert kinds >= set(Kind) - transient - NEWER.get(version, set())
    assert ends == {State.SUCCEEDED, State.FAILED, State.CANCELLED}


async def _infos(journal: SqliteJournal) -> list[RunInfo]:
    return list(await journal.list_ended(Listing("default"), None, 1_000))


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_run_that_an_earlier_version_left_under_way_is_continued(version: str, tmp_path: Path) -> None:
    journal = _open(version, tmp_path)
    settings = Settings(listen="127.0.0.1:0", entry_points=False)
    async with Server(settings, actions=ACTIONS, journal=journal) as server:
        key = RunKey("default", UNFINISHED)
        before = (await server.engine.info(key)).last_sequence
        await server.engine.cancel(key, "seen enough")
        async for batch in server.engine.watch(key, 0, ()):
            if batch.last:
                break
        after = await server.engine.info(key)
    assert after.last_sequence > before > 0
    assert after.state is State.CANCELLED


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_export_is_replayed(version: str) -> None:
    file = FOLDER / version / "interrupted.json"
    assert json.loads(file.read_text())["definition"]["run_id"] == "interrupted"
    replay_export(file)


async def test_the_golden_journals_have_runs_of_every_version_of_the_core(tmp_path: Path) -> None:
    versions: set[int] = set()
    for version in VERSIONS:
        journal = _open(version, tmp_path)
        versions |= {header.options.version for header, _ in await _all(journal)}
        await journal.close()
    assert versions == set(range(1, CORE_VERSION + 1))
