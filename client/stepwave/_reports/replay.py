"""Replays of exported runs by the server's scheduler; imported only for a replay."""

from stepwave._convert.collect import assemble_result
from stepwave._convert.events import event_from_proto
from stepwave._model.events import AnyEvent
from stepwave.exceptions import InvalidExport, ReplayDiverged, Unsupported, Violation
from stepwave.v1 import event_pb2
from stepwave_server.core.evolve import new_run
from stepwave_server.core.messages import Event as CoreEvent
from stepwave_server.core.model import Workflow
from stepwave_server.core.replay import ReplayDiverged as CoreDiverged
from stepwave_server.core.replay import replay
from stepwave_server.core.state import CORE_VERSION, RunState
from stepwave_server.core.validate import validate
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.wire.events.decode import from_message
from stepwave_server.wire.events.encode import Encoder, decode
from stepwave_server.wire.workflows.definition import Definition, from_definition
from stepwave_server.wire.workflows.workflow import Parsed, parse_workflow

from .export import RunExport

__all__ = ["replay_export"]


def replay_export(export: RunExport) -> None:
    """Replay a run, and compare the decisions with the recorded ones; see `testing.replay`."""
    definition = from_definition(export.definition)
    run = _new_run(export, definition)
    try:
        events = [from_message(event) for event in export.events]
    except ValueError as error:
        raise Unsupported(f"run {export.run_id!r}: {error}") from error
    try:
        replay(run, events, JsonEvaluator(EngineOptions().max_payload_bytes))
    except CoreDiverged as diverged:
        raise _divergence(export, definition, diverged) from diverged


def _new_run(export: RunExport, definition: Definition) -> RunState:
    version = definition.options.version
    if version > CORE_VERSION:
        raise Unsupported(f"run {export.run_id!r}: version {version} of the scheduler; this one has {CORE_VERSION}")
    return new_run(_workflow(export, definition), definition.input, definition.options)


def _workflow(export: RunExport, definition: Definition) -> Workflow:
    parsed, options = Parsed(), definition.options
    workflow = parse_workflow(export.definition.workflow, parsed)
    if parsed.unsupported:
        violations = [Violation(problem.field, problem.description) for problem in parsed.unsupported]
        raise Unsupported(f"run {export.run_id!r}: its workflow", violations)
    problems = parsed.invalid or validate(workflow, options.limits, open_run=options.open)
    if problems:
        descriptions = "; ".join(f"{problem.field}: {problem.description}" for problem in problems)
        raise InvalidExport(f"run {export.run_id!r}: its workflow is malformed: {descriptions}")
    return workflow


def _divergence(export: RunExport, definition: Definition, diverged: CoreDiverged) -> ReplayDiverged:
    encoder = Encoder(export.run_id, export.definition.workflow.name, definition.create_time)

    def converted(event: CoreEvent) -> AnyEvent:
        return _converted(decode(encoder.encode(diverged.sequence, event)))

    return ReplayDiverged(
        f"run {export.run_id!r}: {diverged}",
        export.run_id,
        diverged.sequence,
        _converted(export.events[diverged.sequence - 1]),
        None if diverged.got is None else converted(diverged.got),
    )


def _converted(message: event_pb2.RunEvent) -> AnyEvent:
    return event_from_proto(message, lambda result: assemble_result(result, {}))
