"""A decision, finished and in the making. Every event is applied to the run as it is made."""

from dataclasses import dataclass, field

from .evolve import evolve
from .inputs import Evaluator
from .messages import Command, Event, Invoke, StepFinished
from .model import Failure, Payload, Skip, State
from .state import Agenda, RunState, StepState

__all__ = ["Decider", "Decision"]


@dataclass(slots=True)
class Decision:
    """What inputs led to.

    Attributes:
        events: What happened, to be committed.
        requests: Attempts that are ready. They may ask for a place at once: their start will be an event of its own.
        commands: What to do once the events are committed.
    """

    events: list[Event] = field(default_factory=list)
    requests: list[Invoke] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


@dataclass(slots=True)
class Decider:
    """A decision in the making.

    Attributes:
        run: The run.
        now: The time of the decision.
        evaluator: What puts inputs together.
        decision: What there is so far.
        agenda: What its events left to do.
    """

    run: RunState
    now: int
    evaluator: Evaluator
    decision: Decision
    agenda: Agenda = field(default_factory=Agenda)

    def emit(self, event: Event) -> None:
        """Add an event, and apply it."""
        evolve(self.run, event, self.agenda)
        self.decision.events.append(event)

    def command(self, command: Command) -> None:
        """Add a command."""
        self.decision.commands.append(command)

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
            StepFinished(
                time=self.now,
                step_id=spec.id,
                action=spec.action,
                state=state,
                wave=step.wave,
                attempts=step.attempt,
                output=output,
                failure=failure,
                skip=skip,
                ready_time=step.ready_time,
                start_time=step.start_time,
                abandoned=abandoned or step.abandoned,
                reused_from=reused_from,
                original=step.original if original is None else original,
            )
        )
