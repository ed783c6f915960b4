"""Runs in virtual time, exported: what reports are made of in tests."""

from datetime import timedelta

from stepwave import RunExport, RunReport, TimeParts
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave_server.core.model import Scheduling, Workflow
from stepwave_server.wire.events.encode import Encoder, decode
from stepwave_server.wire.values import fill_time
from stepwave_server.wire.workflows.workflow import fill_step
from unit.server.core.driver import NOON, Drive

__all__ = ["export_of", "parts", "report_on", "seconds"]

RUN_ID = "report-1"


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def parts(
    work: float = 0, waiting: float = 0, backoff: float = 0, barrier: float = 0, planning: float = 0
) -> TimeParts:
    """Return parts of a span, given in seconds."""
    return TimeParts(*map(seconds, (work, waiting, backoff, barrier, planning)))


def report_on(drive: Drive) -> RunReport:
    """Return the report of a run as far as it has come, by way of the file of its export."""
    return RunExport.from_json(export_of(drive).to_json()).report()


def export_of(drive: Drive) -> RunExport:
    """Return what a server keeps of a run."""
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
    for step in workflow.steps:
        fill_step(message.steps.add(), step)
    return message
