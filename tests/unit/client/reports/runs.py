"""Exports of runs in virtual time, for tests of reports."""

from datetime import timedelta

from stepwave import RunExport, RunReport, TimeParts
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave_server.core.model import SECOND, Scheduling, Workflow
from stepwave_server.wire.events.encode import Encoder, decode
from stepwave_server.wire.values import fill_time
from stepwave_server.wire.workflows.workflow import fill_step
from unit.server.core.build import flow, step
from unit.server.core.driver import NOON, Drive

__all__ = ["after", "diamond", "export_of", "parts", "report_on", "seconds", "through_the_diamond"]

RUN_ID = "report-1"


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def parts(
    work: float = 0,
    waiting: float = 0,
    backoff: float = 0,
    barrier: float = 0,
    planning: float = 0,
    external: float = 0,
) -> TimeParts:
    """Return parts of a span, given in seconds."""
    return TimeParts(*map(seconds, (work, waiting, backoff, barrier, planning, external)))


def diamond(*, by_waves: bool = False, max_parallelism: int = 0) -> Drive:
    """Begin a run of `a`; `b` and `c` after it; `d` after these."""
    steps = (step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c"))
    return Drive.begun(flow(*steps, by_waves=by_waves, max_parallelism=max_parallelism))


def after(drive: Drive, pause: float) -> Drive:
    """Let seconds pass in a run."""
    drive.now += round(pause * SECOND)
    return drive


def through_the_diamond(drive: Drive) -> Drive:
    """Run the diamond without waiting: `a` takes 1, `b` 2, `c` 5 and `d` 1."""
    drive.start("a")
    after(drive, 1).succeed("a")
    drive.start("b", "c")
    after(drive, 2).succeed("b")
    after(drive, 3).succeed("c")
    drive.start("d")
    after(drive, 1).succeed("d")
    return drive


def report_on(drive: Drive) -> RunReport:
    """Return the report of a run so far, read from its exported text."""
    return RunExport.from_json(export_of(drive).to_json()).report()


def export_of(drive: Drive) -> RunExport:
    """Return the export of a run."""
    definition = pb.RunDefinition(run_id=RUN_ID, workflow=_workflow(drive.workflow))
    fill_time(definition.create_time, NOON)
    encode = Encoder(RUN_ID, drive.workflow.name, NOON).encode
    events = (decode(encode(number, event)) for number, event in enumerate(drive.events, start=1))
    return RunExport(definition, tuple(events))


def _workflow(workflow: Workflow) -> workflow_pb2.Workflow:
    by_waves = workflow.scheduling is Scheduling.WAVE
    message = workflow_pb2.Workflow(
        name=workflow.name,
        scheduling=workflow_pb2.SCHEDULING_WAVE if by_waves else workflow_pb2.SCHEDULING_EAGER,
        max_parallelism=workflow.max_parallelism,
    )
    for definition in workflow.steps:
        fill_step(message.steps.add(), definition)
    return message
