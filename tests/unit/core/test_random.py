"""Random runs come to what a slow, obvious model says, whatever happens and in whatever order."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from stepwave_server.core.decide import Decision
from stepwave_server.core.messages import (
    AddSteps,
    Input,
)
from stepwave_server.core.model import State, Workflow
from stepwave_server.core.state import SECOND, RunOptions
from unit.core.driver import Drive
from unit.core.model import Model
from unit.core.strategies import likely, soak, workflows


class Compared(Drive):
    """A run that is compared with the model after everything that happens."""

    def __init__(self, workflow: Workflow, *, is_open: bool = False) -> None:
        super().__init__(workflow, options=RunOptions(open=is_open))
        self.model = Model(workflow, is_open=is_open)

    def feed(self, given: Input) -> Decision:
        decision = super().feed(given)
        self.model.take(given)
        run, model = self.run, self.model
        assert self.states() == model.state
        assert run.finished is model.run_state
        assert set(run.dispatched) == set(model.places)
        assert set(run.running) == model.running
        assert model.interrupted <= {interrupt.step_id for interrupt in self.interrupts()}
        for step_id, step in run.steps.items():
            assert step.state is not State.SKIPPED or model.agrees(step_id, step.skip)
        return decision


def go_for_a_walk(drive: Compared, data: st.DataObject, additions: Sequence[AddSteps] = ()) -> None:
    """Let anything happen that can, until nothing can."""
    to_add = list(additions)
    cancel_after = data.draw(st.none() | st.none() | st.integers(0, 12), label="cancel after")
    patience = data.draw(st.integers(0, 4), label="patience")
    drive.begin()
    while drive.run.finished is None:
        if cancel_after == len(drive.inputs):
            drive.cancel("why not")
            continue
        choices: list[Input | None] = list(likely(drive))
        if to_add and drive.run.open:
            choices.append(to_add[0])
        if drive.next_timer() is not None and (not choices or patience == 0):
            choices.append(None)
        assert choices, "a run that lasts has something to wait for"
        choice = data.draw(st.sampled_from(choices))
        drive.now += data.draw(st.sampled_from([1, 0, -2])) * SECOND
        timer = drive.next_timer()
        if choice is not None:
            drive.feed(choice)
            to_add = to_add[1:] if choice in to_add[:1] else to_add
        elif timer is not None:
            drive.fire(timer)


@soak(300)
@given(workflows(), st.data())
def test_a_run_comes_to_what_the_model_says(workflow: Workflow, data: st.DataObject) -> None:
    go_for_a_walk(Compared(workflow), data)
