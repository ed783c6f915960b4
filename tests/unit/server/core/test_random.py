"""Random runs agree with the reference scheduler, for all inputs in any order."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stepwave_server.core.decide import Decision, decide
from stepwave_server.core.messages import AddSteps, Input
from stepwave_server.core.model import SECOND, FailurePolicy, Reason, State, Step, Workflow
from stepwave_server.core.state import RunOptions
from unit.server.core.build import flow
from unit.server.core.build import step as a_step
from unit.server.core.driver import EVALUATOR, Drive
from unit.server.core.reference_scheduler import ReferenceScheduler
from unit.server.core.strategies import batches, late_inputs, lost_attempts, next_inputs, soak, step_lists, workflows


class ComparedRun(Drive):
    """A run that is compared with the reference scheduler after every input.

    Attributes:
        ordered: The order in which steps get their places is compared, too.
    """

    ordered = True

    def __init__(self, workflow: Workflow, *, is_open: bool = False) -> None:
        super().__init__(workflow, options=RunOptions(open=is_open))
        self.model = ReferenceScheduler(workflow, is_open=is_open)

    def feed(self, given: Input) -> Decision:
        decision = super().feed(given)
        self.model.take(given, max(self.now, self.run.time))
        run, model = self.run, self.model
        assert self.states() == model.state
        assert run.finished is model.run_state
        assert list(run.dispatched) == model.places or not self.ordered
        assert set(run.dispatched) == set(model.places)
        assert set(run.running) == model.running
        assert set(run.backing_off) == model.backing
        assert {step_id for step_id, step in run.steps.items() if step.original is not None} == model.fell_back
        assert self.interrupted() & model.running == model.interrupted
        for step_id, step in run.steps.items():
            assert step.state is not State.SKIPPED or model.agrees(step_id, step.skip)
        return decision

    def interrupted(self) -> set[str]:
        """Return the steps that were interrupted for reasons other than a timeout."""
        return {one.step_id for one in self.interrupts() if one.failure.reason is not Reason.TIMEOUT}


class NestedRun(ComparedRun):
    """A run whose steps may become several. All its graphs have places for all their steps."""

    ordered = False


class RecoveredRun(ComparedRun):
    """A run that is recovered from its events now and then. Its attempts survive or are lost."""

    def __init__(self, workflow: Workflow, data: st.DataObject, *, is_open: bool = False) -> None:
        super().__init__(workflow, is_open=is_open)
        self.data = data

    def feed(self, given: Input) -> Decision:
        decision = super().feed(given)
        restart = self.data.draw(st.sampled_from(["", "", "alone", "a crash", "a drain"]), label="restart")
        if restart:
            self.recover()
        if restart in ("a crash", "a drain"):
            for each in lost_attempts(self, drained=restart == "a drain"):
                super().feed(each)
        return decision


def feed_random_inputs(drive: Drive, data: st.DataObject, additions: Sequence[AddSteps] = ()) -> None:
    """Feed random possible inputs until the run has ended."""
    to_add = list(additions)
    cancel_after = data.draw(st.none() | st.none() | st.integers(0, 12), label="cancel after")
    patience = data.draw(st.integers(0, 2), label="patience")
    drive.begin()
    while drive.run.finished is None:
        if cancel_after == len(drive.inputs):
            drive.cancel("why not")
            continue
        choices: list[Input | None] = list(next_inputs(drive))
        choices += lost_attempts(drive, drained=True) if data.draw(st.integers(0, 3), label="drain") == 3 else []
        choices += lost_attempts(drive) if data.draw(st.integers(0, 3), label="restart") == 3 else []
        if to_add and drive.run.open:
            choices.append(to_add[0])
        if drive.next_timer() is not None and (not choices or patience == 0):
            choices.append(None)
        assert choices, "a run that has not ended waits for something"
        choice = data.draw(st.sampled_from(choices))
        drive.now += data.draw(st.sampled_from([1, 0, -2])) * SECOND
        timer = drive.next_timer()
        if choice is not None:
            drive.feed(choice)
            to_add = to_add[1:] if choice in to_add[:1] else to_add
        elif timer is not None:
            drive.fire(timer)


@soak(300)
@given(workflows(depth=0), st.data())
def test_a_run_agrees_with_the_reference_scheduler(workflow: Workflow, data: st.DataObject) -> None:
    feed_random_inputs(ComparedRun(workflow), data)


@soak(150)
@given(workflows(), st.data())
def test_graphs_within_graphs_end_whatever_happens(workflow: Workflow, data: st.DataObject) -> None:
    feed_random_inputs(Drive(workflow), data)


@soak(150)
@given(workflows(bounded=False), st.data())
def test_graphs_within_graphs_agree_with_the_reference_scheduler(workflow: Workflow, data: st.DataObject) -> None:
    feed_random_inputs(NestedRun(workflow), data)


@soak(250)
@given(step_lists(), st.data())
def test_a_growing_run_agrees_with_the_reference_scheduler(steps: list[Step], data: st.DataObject) -> None:
    parts = data.draw(batches(steps))
    go_on, most = data.draw(st.booleans()), data.draw(st.sampled_from([0, 0, 1, 2]))
    first = flow(*parts[0], go_on=go_on, max_parallelism=most) if data.draw(st.booleans()) else flow(go_on=go_on)
    rest = parts[len(first.steps) and 1 :]
    seal_at_once = data.draw(st.booleans())
    additions = [AddSteps(part, seal=seal_at_once and part is rest[-1]) for part in rest]
    feed_random_inputs(ComparedRun(first, is_open=True), data, [*additions, AddSteps((), seal=True)])


@soak(150)
@given(workflows(depth=0), st.data())
def test_a_run_recovered_at_any_time_agrees_with_one_that_was_not(workflow: Workflow, data: st.DataObject) -> None:
    feed_random_inputs(RecoveredRun(workflow, data), data)


@soak(100)
@given(step_lists(), st.data())
def test_a_growing_run_may_be_recovered_too(steps: list[Step], data: st.DataObject) -> None:
    parts = data.draw(batches(steps))
    additions = [*(AddSteps(part) for part in parts), AddSteps((), seal=True)]
    feed_random_inputs(RecoveredRun(flow(), data, is_open=True), data, additions)


def run_with_outcomes(
    workflow: Workflow, failing: Sequence[str], data: st.DataObject, *, checked: bool = True
) -> Drive:
    """Run a workflow with given outcomes of its steps, in a given order."""
    drive = Drive.begun(workflow, checked=checked)
    while drive.run.finished is None:
        step_id = data.draw(st.sampled_from([*drive.waiting(), *drive.run.running]))
        if step_id not in drive.run.running:
            drive.start(step_id)
        elif step_id in failing:
            drive.fail(step_id)
        else:
            drive.succeed(step_id, f'"{step_id}"')
    return drive


@soak(150)
@given(workflows(depth=0), st.data())
def test_the_outcomes_of_a_workflow_without_races_do_not_depend_on_the_order(
    workflow: Workflow, data: st.DataObject
) -> None:
    """There are no races if the run continues after failures and every output is needed."""
    ids = tuple(step.id for step in workflow.steps)
    tame = replace(workflow, failure_policy=FailurePolicy.CONTINUE, timeout=None, outputs=ids)
    failing = data.draw(st.lists(st.sampled_from(ids), unique=True))
    one, other = run_with_outcomes(tame, failing, data), run_with_outcomes(tame, failing, data)
    assert one.states() == other.states()
    assert one.result().state is other.result().state
    assert dict(one.result().outputs) == dict(other.result().outputs)


def inlined(workflow: Workflow) -> Workflow:
    """Return a workflow with the steps of its nested workflows in its own graph, between their dependencies.

    Under `CONTINUE`, a nested workflow begins when its step's dependencies have ended as its join asks, and its step
    ends after all its steps. So each nested step depends on a step that begins it, and a step that ends it on them all.
    """
    steps: list[Step] = []
    for one in workflow.steps:
        if one.workflow is None:
            steps.append(one)
            continue
        inner = inlined(one.workflow)
        steps.append(replace(one, id=f"{one.id}-begin", workflow=None, action="echo"))
        for part in inner.steps:
            deps = (f"{one.id}-begin", *(f"{one.id}-{dep}" for dep in part.depends_on))
            steps.append(replace(part, id=f"{one.id}-{part.id}", depends_on=deps))
        ends = (f"{one.id}-{part.id}" for part in inner.steps)
        steps.append(Step(one.id, "echo", tuple(ends)))
    return replace(workflow, steps=tuple(steps))


@st.composite
def plain_workflows(draw: st.DrawFn, depth: int = 2) -> Workflow:
    """Draw a workflow whose steps join by `ALL` and have no policies, with others nested in it."""
    steps: list[Step] = []
    for name in "abcd"[: draw(st.integers(1, 4))]:
        deps = draw(st.lists(st.sampled_from([one.id for one in steps]), max_size=2, unique=True)) if steps else []
        body = draw(plain_workflows(depth - 1)) if depth and draw(st.booleans()) else None
        steps.append(a_step(name, *deps, body=body))
    return flow(*steps, go_on=True)


@soak(60)
@given(plain_workflows(), st.data())
def test_nested_workflows_have_the_outcomes_of_their_steps_in_one_graph(
    workflow: Workflow, data: st.DataObject
) -> None:
    nested = run_with_outcomes(workflow, [], data, checked=False)
    leaves = [step_id for step_id, one in nested.run.steps.items() if one.inner is None]
    failing = data.draw(st.lists(st.sampled_from(leaves), unique=True, max_size=2))
    nested = run_with_outcomes(workflow, failing, data, checked=False)
    flat = run_with_outcomes(inlined(workflow), [step_id.replace("/", "-") for step_id in failing], data, checked=False)
    of_leaves = {step_id.replace("/", "-"): nested.state(step_id) for step_id in leaves if step_id in nested.run.steps}
    for step_id, state in of_leaves.items():
        assert flat.state(step_id) is state
    for step_id in {*leaves} - nested.run.steps.keys():
        assert flat.state(step_id.replace("/", "-")) is State.SKIPPED
    assert nested.result().state is flat.result().state


@soak(100)
@given(workflows(depth=0), st.data())
def test_equal_ordered_inputs_give_equal_events_and_commands(workflow: Workflow, data: st.DataObject) -> None:
    drive = ComparedRun(workflow)
    feed_random_inputs(drive, data)
    run, decision = drive.new_run(), Decision()
    for now, given_input in drive.inputs:
        decide(run, given_input, now, EVALUATOR, decision)
    assert decision == Decision(drive.events, drive.requests, drive.commands)


@soak(60)
@given(workflows(most=4, depth=1), st.data())
def test_late_and_early_inputs_change_nothing(workflow: Workflow, data: st.DataObject) -> None:
    drive = Drive.begun(workflow)
    while choices := list(next_inputs(drive)):
        drive.feed(data.draw(st.sampled_from(choices)))
        for nonsense in late_inputs(drive):
            assert drive.feed(nonsense) == Decision()
