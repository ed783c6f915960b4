"""Export files: exact, readable, and refused if invalid."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import timestamp_pb2

from stepwave import InvalidExport, RunExport, ServerUnavailable, Unsupported
from stepwave._transport.blocking import drive
from stepwave.v1 import event_pb2, payload_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb
from unit.client.clients.transport import LOST, ScriptedTransport, finished, run_finished, session, started

TEXT = '{"big": 9007199254740993, "small": 1e-7, "city": "Łódź"}'


def export() -> RunExport:
    """Return an export with values of every form."""
    definition = pb.RunDefinition(
        run_id="r",
        namespace="default",
        workflow=workflow_pb2.Workflow(name="w", steps=[workflow_pb2.Step(id="a", action="core.echo")]),
        create_time=timestamp_pb2.Timestamp(seconds=1_700_000_000, nanos=123_456_789),
        max_steps=200_000,
        scheduler_version=1,
    )
    definition.input.json = TEXT
    definition.default_step_timeout.nanos = 1
    blob = event_pb2.RunEvent(run_id="r", sequence=3, step_finished=event_pb2.StepFinished())
    blob.step_finished.result.output.blob.CopyFrom(payload_pb2.Blob(content_type="image/png", data=b"\0\xff"))
    empty = event_pb2.RunEvent(run_id="r", sequence=4, wave_finished=event_pb2.WaveFinished())
    return RunExport(definition, (started(1), finished(2, output=TEXT), blob, empty, run_finished(5)))


def test_an_export_is_read_back_exactly(tmp_path: Path) -> None:
    export().save(tmp_path / "run.json")
    assert RunExport.load(tmp_path / "run.json") == export()


def test_an_export_is_one_json_document_with_its_version() -> None:
    document = json.loads(export().to_json())
    assert list(document) == ["stepwave_export", "definition", "events"]
    assert document["stepwave_export"] == 1


def test_payloads_keep_their_text() -> None:
    document = json.loads(export().to_json())
    assert document["definition"]["input"]["json"] == TEXT
    assert "Łódź" in export().to_json()


def test_every_event_has_a_line() -> None:
    lines = [line for line in export().to_json().splitlines() if line.startswith('{"run_id"')]
    assert [json.loads(line.rstrip(","))["sequence"] for line in lines] == [1, 2, 3, 4, 5]


def test_a_run_without_events_is_exported_too() -> None:
    bare = RunExport(pb.RunDefinition(run_id="r"), ())
    assert RunExport.from_json(bare.to_json()) == bare


def test_fields_of_a_newer_server_are_not_dropped_silently() -> None:
    newer = event_pb2.RunEvent.FromString(started(1).SerializeToString() + b"\xfa\x7f\x01x")
    with pytest.raises(Unsupported, match="a newer server"):
        RunExport(pb.RunDefinition(), (newer,)).to_json()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: a", "not an export of a run: line 1, column 1: not JSON: "),
        ('{"stepwave_export": 1,\n "definition": {},\n "events": [{},, {}]}', "line 3, column 16: not JSON: "),
        ("[" * 100_000, "not an export of a run: is nested too deeply"),
        ('{"stepwave_export": ' + "1" * 5_000 + "}", "not an export of a run: holds a number of 5,000 characters"),
        ('{"stepwave_export": null}', "stepwave_export: version null of the format"),
        ('{"stepwave_export": 1, "events": []}', "definition: expected an object, got null"),
        ("[1]", 'it has no "stepwave_export"'),
        ('{"name": "w", "steps": []}', 'it has no "stepwave_export"'),
        ('{"stepwave_export": 2}', "version 2 of the format; this one reads version 1"),
        ('{"stepwave_export": 1, "definition": {}}', "it has no list of events"),
        ('{"stepwave_export": 1, "definition": 5, "events": []}', "definition: "),
        ('{"stepwave_export": 1, "definition": {"runid": 5}, "events": []}', "definition: "),
        ('{"stepwave_export": 1, "definition": {}, "events": [{"sequence": "x"}]}', "events[0].sequence: "),
        ('{"stepwave_export": 1, "definition": {}, "events": [{"sequence": 2}]}', "expected the sequence 1, got 2"),
    ],
)
def test_a_text_that_is_no_export_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidExport) as caught:
        RunExport.from_json(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_is_read_in_the_encoding_that_its_byte_order_mark_tells(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "run.json").write_text(export().to_json(), encoding=encoding)
    assert RunExport.load(tmp_path / "run.json") == export()


ODD: list[object] = [None, True, 5, -1, 1.5, 10**30, "x", "", "2026-13-01T00:00:00Z", [], [1], [None], {}, {"a": 1}]


def places(value: object, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Yield every value of a document: its container, its key or index there, and its path."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        where = f"{path}[{key}]" if isinstance(value, list) else f"{path}.{key}".lstrip(".")
        yield value, key, where
        yield from places(item, where)


def refusal(document: object) -> str:
    """Return why a document is refused; empty: it is accepted."""
    try:
        RunExport.from_json(json.dumps(document))
    except InvalidExport as error:
        return str(error)
    return ""


def test_any_value_of_the_wrong_type_is_refused_with_its_path() -> None:
    document = json.loads(export().to_json())
    refused = 0
    for holder, key, path in places({name: document[name] for name in ("definition", "events")}):
        if path == "events":
            continue
        right = holder[key]
        for wrong in ODD:
            holder[key] = wrong
            found = refusal({"stepwave_export": 1, **{name: document[name] for name in ("definition", "events")}})
            refused += bool(found)
            assert not found or found.startswith((f"{path}: ", f"{path}.", f"{path}[")), (path, wrong, found)
        holder[key] = right
    assert refused > 500


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ("[]", "events[0]: expected an object, got a list"),
        ('"x"', 'events[0]: expected an object, got "x"'),
        ("null", "events[0]: expected an object, got null"),
        ('{"stepstarted": {}}', 'events[0]: has the unknown key "stepstarted"'),
        ('{"step_started": ""}', 'events[0].step_started: expected an object, got ""'),
        (
            '{"step_started": {"attempt": -1}}',
            "events[0].step_started.attempt: expected a whole number from 0 on, got -1",
        ),
        ('{"time": "noon"}', 'events[0].time: expected a time such as "2026-01-31T09:30:00Z", got "noon"'),
        (
            '{"step_finished": {"result": {"state": "STATE_ODD"}}}',
            'events[0].step_finished.result.state: expected a name of State, got "STATE_ODD"',
        ),
        (
            '{"step_finished": {"result": {"output": {"json": "1", "blob": {}}}}}',
            "events[0].step_finished.result.output: has both json and blob, and may have one of them",
        ),
        (
            '{"step_finished": {"result": {"failure": {"details": {"line": 5}}}}}',
            'events[0].step_finished.result.failure.details["line"]: expected a string, got 5',
        ),
        (
            '{"run_finished": {"result": {"outputs": {"a": [1]}}}}',
            'events[0].run_finished.result.outputs["a"]: expected an object, got a list',
        ),
        (
            '{"run_started": {"waves": [{"step_ids": ["a", 5]}]}}',
            "events[0].run_started.waves[0].step_ids[1]: expected a string, got 5",
        ),
    ],
)
def test_a_malformed_event_is_refused_in_the_words_of_json(event: str, problem: str) -> None:
    document = f'{{"stepwave_export": 1, "definition": {{}}, "events": [{event}]}}'
    with pytest.raises(InvalidExport) as caught:
        RunExport.from_json(document)
    assert str(caught.value) == problem


def test_a_file_that_is_no_export_is_named(tmp_path: Path) -> None:
    (tmp_path / "flow.bin").write_bytes(b'{"\xff": 1}')
    with pytest.raises(InvalidExport, match=r"flow\.bin: not an export of a run: byte 3 is not valid UTF-8"):
        RunExport.load(tmp_path / "flow.bin")


def parts() -> list[pb.ExportRunResponse]:
    """Return the parts of an export, as a server streams them."""
    whole = export()
    return [
        pb.ExportRunResponse(definition=whole.definition),
        pb.ExportRunResponse(events=whole.events[:2]),
        pb.ExportRunResponse(events=whole.events[2:]),
    ]


def test_an_export_is_assembled_from_all_its_parts() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(*parts())
    assert drive(session(transport, namespace="n").export("r")) == export()
    assert transport.sent == [("ExportRun", pb.ExportRunRequest(namespace="n", run_id="r"))]


def test_an_export_whose_stream_is_lost_restarts() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(*parts()[:2], LOST)
    transport.stream_answers(*parts())
    assert drive(session(transport).export("r")) == export()


def test_an_export_from_a_server_that_is_gone_is_given_up() -> None:
    with pytest.raises(ServerUnavailable):
        drive(session(ScriptedTransport()).export("r"))


def test_states_are_read_as_names() -> None:
    assert json.loads(export().to_json())["events"][1]["step_finished"]["result"]["state"] == "STATE_SUCCEEDED"
