"""Injects defects into the server: its own code raises at a place that the test chooses."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import pytest

from integration.server.build import flow, reason_of, state_of, step
from stepwave.v1 import run_pb2
from stepwave_server.core.decide import Decision, decide
from stepwave_server.core.messages import Event, Input, StepFinished
from stepwave_server.core.state import RunState
from stepwave_server.engine.attempts import table
from stepwave_server.engine.runs import run
from stepwave_server.wire.events.encode import Encoder

__all__ = ["ALWAYS", "CHAIN", "WIDE", "Countdown", "Defect", "Faults", "ends", "failed_internally", "failure_reasons"]

T = TypeVar("T")

ALWAYS = 1 << 30

# Workflows whose step `bad` is to meet a defect.
CHAIN = flow(step("first"), step("bad", "controlled", after=["first"]), step("next", after=["bad"]))
WIDE = flow(*(step(step_id, "controlled") for step_id in ("bad", "b", "c")), step("next", after=["b"]))

# The only methods of the engine that faults know, by name and first argument: an event or attempt with a `step_id`.
STARTS_ATTEMPTS: Final = (table.Attempts, "start")
ENDS_ATTEMPTS: Final = (table.Attempts, "end")


class Defect(Exception):
    """Raised in place of an unforeseen error of the server."""


class Faults:
    """Makes the server's code raise `Defect`, for chosen arguments, the first few times.

    Attributes:
        count: The number of defects raised so far.
        raised: Set when the first defect is raised.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._stopped = False
        self.count = 0
        self.raised = asyncio.Event()

    def stop(self) -> None:
        """Raise no more defects."""
        self._stopped = True

    def in_encoding(self, of: Callable[[Event], bool], times: int = 1) -> None:
        """Raise where an event is encoded."""
        fail = self._fault(of, times)
        self._run_before(Encoder, "encode", lambda _sequence, event, *_: fail(event))

    def in_deciding(self, on: Callable[[Input], bool], times: int = 1, *, workflow: str = "test") -> None:
        """Raise where the core decides on an input of a workflow's runs, after it has changed the run's state."""
        decide_input: Callable[..., Decision] = decide
        fail = self._fault(on, times)

        def decide_or_not(state: RunState, given: Input, *rest: object, **named: object) -> Decision:
            decision = decide_input(state, given, *rest, **named)
            if state.workflow.name == workflow:
                fail(given)
            return decision

        self._monkeypatch.setattr(run, "decide", decide_or_not)

    def in_starting(self, step_id: str, times: int = 1) -> None:
        """Raise where a committed start is carried out."""
        fail = self._fault(lambda started: started == step_id, times)
        self._run_before(*STARTS_ATTEMPTS, lambda event, *_: fail(event.step_id))

    def in_ending(self, step_id: str, times: int = 1) -> None:
        """Raise where the end of an attempt is handled."""
        fail = self._fault(lambda ended: ended == step_id, times)
        self._run_before(*ENDS_ATTEMPTS, lambda attempt, *_: fail(attempt.step_id))

    def _run_before(self, owner: type, method: str, check: Callable[..., None]) -> None:
        """Call a check with the arguments of a method before each call of it."""
        original = getattr(owner, method)

        def check_and_call(instance: object, *arguments: object, **named: object) -> object:
            check(*arguments)
            return original(instance, *arguments, **named)

        self._monkeypatch.setattr(owner, method, check_and_call)

    def _fault(self, applies: Callable[[T], bool], times: int) -> Callable[[T], None]:
        left: Iterator[int] = itertools.islice(itertools.count(), times)

        def fail(argument: T) -> None:
            if not self._stopped and applies(argument) and next(left, None) is not None:
                self.count += 1
                self.raised.set()
                raise Defect("an injected defect")

        return fail


class Countdown:
    """Selects values by their number: skips the first few, then selects the next few.

    Attributes:
        left: The number of values still to select.
    """

    def __init__(self) -> None:
        self._skip = self.left = 0

    def start(self, skip: int, left: int) -> None:
        """Skip this many values, then select this many."""
        self._skip, self.left = skip, left

    def __call__(self, _: object) -> bool:
        """Return whether this value is selected."""
        self._skip -= 1
        selected = self._skip < 0 and self.left > 0
        self.left -= selected
        return selected


def ends(step_id: str) -> Callable[[Event], bool]:
    """Return a predicate for the event that ends a step."""
    return lambda event: isinstance(event, StepFinished) and event.step_id == step_id


def failure_reasons(result: run_pb2.Result) -> list[str]:
    """Return the reasons of a run's failures, such as `internal`."""
    return [reason_of(failure) for failure in result.failures]


def failed_internally(result: run_pb2.Result) -> bool:
    """Return whether a run failed because of a defect of the server alone."""
    return state_of(result.state) == "failed" and failure_reasons(result) == ["internal"]
