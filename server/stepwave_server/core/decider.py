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
        agenda: What the events left to do. It is empty whenever `decide` returns.
    """

    events: list[Event] = field(default_factory=list)
    requests: list[Invoke] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    agenda: Agenda = field(default_factory=Agenda, repr=False, compare=False)


@dataclass(slots=True)
class Decider:
    """A decision in the making.

    Attributes:
        run: The run.
        now: The time of the decision.
        evaluator: What puts inputs together.
        decision: What there is so far.
    """

    run: RunState
    now: int
    evaluator: Evaluator
    decision: Decision

    def emit(self, event: Event) -> None:
        """Add an event, and apply it."""
        decision = self.decision
        evolve(self.run, event, decision.agenda)
        decision.events.append(event)

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
        completed_by: str = "",
    ) -> None:
        """End a step. What became of its earlier attempts, and of its own action, is added."""
        spec = step.spec
        self.emit(
            StepFinished(  # one for every step: keywords would triple the time that this takes
                self.now,
                step.id,
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
                completed_by,
            )
        )
