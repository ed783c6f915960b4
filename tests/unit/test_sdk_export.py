"""The file of an exported run: exact, readable, and refused where it is not one."""

import json
from pathlib import Path

import pytest
from google.protobuf import timestamp_pb2

from stepwave import InvalidExport, RunExport, ServerUnavailable, Unsupported
from stepwave._transport_sync import drive
from stepwave.v1 import event_pb2, payload_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb
from unit.sdk_wire import LOST, Wire, finished, run_finished, session, started

TEXT = '{"big": 9007199254740993, "small": 1e-7, "city": "Łódź"}'


def export() -> RunExport:
    """Return an export with every kind of value whose form matters."""
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


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    export().save(tmp_path / "run.json")
    assert RunExport.load(tmp_path / "run.json") == export()


def test_it_is_one_json_document_that_says_its_version() -> None:
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


def test_what_a_newer_server_said_is_not_dropped_in_silence() -> None:
    newer = event_pb2.RunEvent.FromString(started(1).SerializeToString() + b"\xfa\x7f\x01x")
    with pytest.raises(Unsupported, match="a newer server"):
        RunExport(pb.RunDefinition(), (newer,)).to_json()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: a", "not an export of a run: "),
        ("[1]", 'it has no "stepwave_export"'),
        ('{"name": "w", "steps": []}', 'it has no "stepwave_export"'),
        ('{"stepwave_export": 2}', "version 2 of the format; this one reads version 1"),
        ('{"stepwave_export": 1, "definition": {}}', "it has no list of events"),
        ('{"stepwave_export": 1, "definition": 5, "events": []}', "definition: "),
        ('{"stepwave_export": 1, "definition": {"runid": 5}, "events": []}', "definition: "),
        ('{"stepwave_export": 1, "definition": {}, "events": [{"sequence": "x"}]}', "events[0]: "),
        ('{"stepwave_export": 1, "definition": {}, "events": [{"sequence": 2}]}', "expected the sequence 1, got 2"),
    ],
)
def test_what_is_no_export_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidExport) as caught:
        RunExport.from_json(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_is_read_in_the_encoding_that_its_byte_order_mark_tells(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "run.json").write_text(export().to_json(), encoding=encoding)
    assert RunExport.load(tmp_path / "run.json") == export()


def test_a_file_that_is_no_export_is_named(tmp_path: Path) -> None:
    (tmp_path / "flow.bin").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidExport, match=r"flow\.bin: "):
        RunExport.load(tmp_path / "flow.bin")


def parts() -> list[pb.ExportRunResponse]:
    """Return an export as a server sends it."""
    whole = export()
    return [
        pb.ExportRunResponse(definition=whole.definition),
        pb.ExportRunResponse(events=whole.events[:2]),
        pb.ExportRunResponse(events=whole.events[2:]),
    ]


def test_an_export_is_put_together_from_all_its_parts() -> None:
    wire = Wire()
    wire.stream_answers(*parts())
    assert drive(session(wire, namespace="n").export("r")) == export()
    assert wire.sent == [("ExportRun", pb.ExportRunRequest(namespace="n", run_id="r"))]


def test_an_export_that_breaks_begins_afresh() -> None:
    wire = Wire()
    wire.stream_answers(*parts()[:2], LOST)
    wire.stream_answers(*parts())
    assert drive(session(wire).export("r")) == export()


def test_an_export_from_a_server_that_is_gone_is_given_up() -> None:
    with pytest.raises(ServerUnavailable):
        drive(session(Wire()).export("r"))


def test_states_are_read_as_names() -> None:
    assert json.loads(export().to_json())["events"][1]["step_finished"]["result"]["state"] == "STATE_SUCCEEDED"
