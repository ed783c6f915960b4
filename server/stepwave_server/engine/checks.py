"""Checks of workflows, and of the steps that callers and actions add to runs under way, for every engine."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from stepwave._actions.action import UNKNOWN_ACTION
from stepwave._files import steps_of
from stepwave.exceptions import FailedPrecondition, InvalidWorkflow, ServerUnavailable, StepwaveError
from stepwave.exceptions import Violation as SdkViolation
from stepwave.v1 import workflow_pb2
from stepwave_server.actions import KnownAction, KnownActions
from stepwave_server.core.decide import check_addition
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import AddSteps
from stepwave_server.core.model import WAIT_ACTION, WORKFLOW_ACTION, FallbackAction, Step, Workflow
from stepwave_server.core.planning import was_made
from stepwave_server.core.validate import Violation, validate
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.errors import EngineError, RunNotOpen, StepsRefused
from stepwave_server.engine.evaluation.checks import expression_violations
from stepwave_server.engine.queries.active_run import ActiveRun
from stepwave_server.engine.queries.run_queries import RunQueries
from stepwave_server.engine.secrets.checks import secret_violations
from stepwave_server.journal import Journal
from stepwave_server.wire.workflows.content import same_step
from stepwave_server.wire.workflows.workflow import Parsed, parse_step, parse_workflow

__all__ = ["RunChecks", "action_names"]

R = TypeVar("R", bound=ActiveRun)

NEVER_OPEN = "it was started without `open`"


class RunChecks(RunQueries[R], Generic[R]):
    """Checks workflows, and the steps that callers and actions add to runs under way.

    Attributes:
        actions: The actions that steps may call.

    Args:
        journal: The journal.
        actions: The actions that steps may call.
        clock: Returns the time in nanoseconds since the epoch.
        options: Options of the engine.
    """

    def __init__(
        self, *, journal: Journal, actions: KnownActions, clock: Callable[[], int], options: EngineOptions
    ) -> None:
        super().__init__(journal, clock, options)
        self.actions = actions

    @abstractmethod
    async def add_steps(self, key: RunKey, addition: AddSteps) -> None:
        """Add steps to an open run. Return when they are committed. It is no error if the run has them already."""

    async def find_actions(self, names: Collection[str]) -> None:
        """Find out which of these actions exist. Called before a check; on one server they are all known."""

    async def list_actions(self) -> Sequence[KnownAction]:
        """Return the actions that steps may call, by name."""
        return list(self.actions)

    def check(self, workflow: Workflow, namespace: str, *, open_run: bool) -> list[Violation]:
        """Return every reason why a workflow cannot run on this engine, in a namespace."""
        violations = validate(workflow, self.options.run.limits, open_run=open_run)
        violations += expression_violations(workflow.steps)
        violations += self._check_actions(enumerate(workflow.steps), "steps")
        violations += secret_violations(enumerate(workflow.steps), self.options.secrets, namespace)
        return violations

    def _check_actions(self, steps: Iterable[tuple[int, Step]], path: str) -> Iterable[Violation]:
        """Yield the problems of the actions of steps, each with its index, and of the workflows that they run."""
        for index, step in steps:
            if step.workflow is not None:
                yield from self._check_actions(enumerate(step.workflow.steps), f"{path}[{index}].workflow.steps")
            elif step.input is not None or self.actions.get(step.action) is None:  # otherwise nothing is to be checked
                yield from self._check_action(step, f"{path}[{index}]")
            if isinstance(step.fallback, FallbackAction):
                yield from self._check_action(step.fallback, f"{path}[{index}].fallback.action")

    def _check_action(self, call: Step | FallbackAction, path: str) -> Iterable[Violation]:
        """Yield the problems of an action's name and of its literal input."""
        if isinstance(call, FallbackAction) and call.action in (WAIT_ACTION, WORKFLOW_ACTION):
            yield Violation(f"{path}.action", f'"{call.action}" cannot be a fallback: only a step can have this action')
            return
        action = self.actions.get(call.action)
        if action is None:
            if call.action:
                yield Violation(f"{path}.action", self.actions.unknown(call.action), UNKNOWN_ACTION)
        elif call.input is not None:
            targets = [binding.target for binding in call.bindings]
            for problem in action.problems(call.input, targets):
                yield Violation(f"{path}.input", problem)

    def check_steps(self, key: RunKey, addition: AddSteps) -> list[Violation]:
        """Return every reason why steps cannot be added to a run; empty if the run takes none, or is not under way.

        Steps that the run has already are not checked against the actions of this server again.
        """
        run = self._runs.get(key)
        if run is None or run.broken is not None or not run.state.open:
            return []
        addition = _settled(addition, _specs(run, addition))
        fresh = [(index, step) for index, step in enumerate(addition.steps) if step.id not in run.state.steps]
        return [
            *check_addition(run.state, addition),
            *expression_violations(addition.steps),
            *self._check_actions(fresh, "steps"),
            *secret_violations(fresh, self.options.secrets, key.namespace),
        ]

    def _to_add(self, run: R, addition: AddSteps) -> AddSteps | None:
        """Return the steps to add to a run under way; `None`: the run has them already.

        Raises:
            StepsRefused: The steps cannot be added.
            RunNotOpen: The run takes no more steps.
        """
        addition = _settled(addition, _specs(run, addition))
        if not run.state.open or run.paused:
            if not was_made(run.state, addition):
                raise RunNotOpen(run.key, _closed_because(run))
            return None
        if violations := self.check_steps(run.key, addition):
            raise StepsRefused(violations)
        return addition

    async def add_action_steps(self, key: RunKey, given: object, seal: bool) -> None:
        """Add steps that an action gives to its run.

        Raises:
            StepwaveError: They cannot be added.
        """
        addition, problems = _parse_action_steps(given, self.options.max_payload_bytes, seal=seal)
        try:
            await self.find_actions(action_names(addition.steps))
            if problems:
                raise StepsRefused([*problems, *self.check_steps(key, addition)])
            await self.add_steps(key, addition)
        except EngineError as error:
            raise _sdk_error(error) from None

    async def _require_made(self, key: RunKey, addition: AddSteps) -> None:
        """Check that a run that has ended has all of an addition.

        Raises:
            RunNotOpen: It has not.
        """
        await self._ended(key)
        header = await self.header(key)
        if not header.options.open:
            raise RunNotOpen(key, NEVER_OPEN)
        definition = workflow_pb2.Workflow.FromString(header.workflow)
        definition.steps.extend(await self.added_steps(key))
        steps = await asyncio.to_thread(lambda: parse_workflow(definition, Parsed(accepted=True)).steps)
        known = {step.id: step for step in steps}
        if any(known.get(step.id) != step for step in _settled(addition, known).steps):
            raise RunNotOpen(key, "it has ended")


def action_names(steps: Iterable[Step]) -> set[str]:
    """Return the names of the actions of steps, and of the steps of the workflows that they run."""
    names: set[str] = set()
    for step in steps:
        if step.workflow is not None:
            names |= action_names(step.workflow.steps)
        elif step.action:
            names.add(step.action)
        if isinstance(step.fallback, FallbackAction):
            names.add(step.fallback.action)
    return names


def _specs(run: ActiveRun, addition: AddSteps) -> Mapping[str, Step]:
    """Return those of a run's steps that an addition names."""
    steps = run.state.steps
    return {step.id: steps[step.id].spec for step in addition.steps if step.id in steps}


def _settled(addition: AddSteps, known: Mapping[str, Step]) -> AddSteps:
    """Return an addition with the known form of steps that differ from known ones only in the form of their JSON."""
    steps = [
        known[step.id] if step.id in known and same_step(step, known[step.id]) else step for step in addition.steps
    ]
    return AddSteps(tuple(steps), addition.seal)


def _closed_because(run: ActiveRun) -> str:
    """Return why a run under way takes no more steps."""
    state = run.state
    if not state.options.open:
        return NEVER_OPEN
    if run.paused:
        return "this server keeps it paused"
    if state.stopping is not None:
        return f"it is stopping: {state.stopping.message}"
    return f'it is failing: step "{state.root.failed_by}" failed' if state.failing else "it is sealed"


def _parse_action_steps(given: object, max_payload_bytes: int, *, seal: bool) -> tuple[AddSteps, list[Violation]]:
    """Return the steps that an action gives, and their problems.

    Args:
        given: A workflow under construction, or mappings of the form that a workflow file has.
        max_payload_bytes: Bytes that a payload may have.
        seal: Whether they are the last ones.

    Raises:
        InvalidWorkflow: A mapping is not a step.
        TypeError: The steps are neither.
        ValueError: JSON cannot hold them, or the workflow has options of its own.
    """
    parsed = Parsed(max_payload_bytes)
    messages = steps_of(given)  # type: ignore[arg-type]  # from an action: it checks the type itself
    steps = tuple(parse_step(step, f"steps[{index}]", parsed) for index, step in enumerate(messages))
    return AddSteps(steps, seal), [*parsed.invalid, *parsed.unsupported]


def _sdk_error(error: EngineError) -> StepwaveError:
    """Return an error as the exception that a client would get."""
    match error:
        case StepsRefused():
            violations = [SdkViolation(it.field, it.description, it.reason) for it in error.violations]
            return InvalidWorkflow(str(error), violations, reason="INVALID_ARGUMENT")
        case RunNotOpen():
            return FailedPrecondition(str(error), reason="RUN_NOT_OPEN")
    return ServerUnavailable(str(error))
