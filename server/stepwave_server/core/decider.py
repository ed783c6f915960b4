"""One decision in the making: every event is applied to the run as it is made."""

from dataclasses import dataclass, field

from .evolve import evolve
from .inputs import Evaluator
from .messages import Command, Event, StepFinished
from .model import Failure, Payload, Skip, State
from .state import RunState, StepState

__all__ = ["Decider", "Decision"]


@dataclass(slots=True)
class Decision:
    """What inputs led to: events to commit, and commands to carry out once they are."""

    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


@dataclass(slots=True)
class Decider:
    """One decision in the making."""

    run: RunState
    now: int
    evaluator: Evaluator
    events: list[Event]
    commands: list[Command]

    def emit(self, event: Event) -> None:
        """Note an event, and apply it."""
        evolve(self.run, event)
        self.events.append(event)

    def finish_step(
        self,
        step: StepState,
        state: State,
        *,
        output: Payload | None = None,
        failure: Failure | None = None,
        skip: Skip | None = None,
        abandoned: bool = False,
        reused_from: str = "",
        original: Failure | None = None,
    ) -> None:
        """End a step. What became of its earlier attempts, and of its own action, is added."""
        spec = step.spec
        self.emit(
            StepFinished(  # by position: every step passes here, and keywords would cost it 0.4 µs more
                self.now,
                spec.id,
                spec.action,
                state,
                step.wave,
                step.attempt,
                output,
                failure,
                skip,
                step.ready_time,
                step.start_time,
                abandoned or step.abandoned,
                reused_from,
                step.original if original is None else original,
            )
        )
