"""Defects of the server, put where a test wants them: they strike as often as is said, and what they meet is noted."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import TypeVar

import pytest

from stepwave_server.core.decide import Decision, decide
from stepwave_server.core.inputs import Evaluator
from stepwave_server.core.messages import Event, Input, StepFinished, StepStarted
from stepwave_server.core.state import RunState
from stepwave_server.engine.attempts import table
from stepwave_server.engine.attempts.attempt import Attempt
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.runs import run
from stepwave_server.wire.events.encode import Encoder, Record

__all__ = ["ALWAYS", "Countdown", "Defect", "Faults", "ends"]

T = TypeVar("T")

ALWAYS = 1 << 30


class Defect(Exception):
    """Raised in the place of what nobody foresaw."""


class Faults:
    """Lets the server's code raise, for some of what it is given, the first so many times.

    Attributes:
        struck: How often it did.
        strike: Set when it did.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._healed = False
        self.struck = 0
        self.strike = asyncio.Event()

    def heal(self) -> None:
        """Strike no more."""
        self._healed = True

    def in_encoding(self, of: Callable[[Event], bool], times: int = 1) -> None:
        """Strike where an event is made into bytes."""
        encode, strike = Encoder.encode, self._striker(of, times)

        def encode_or_not(encoder: Encoder, sequence: int, event: Event) -> Record:
            strike(event)
            return encode(encoder, sequence, event)

        self._monkeypatch.setattr(Encoder, "encode", encode_or_not)

    def in_deciding(self, on: Callable[[Input], bool], times: int = 1, *, workflow: str = "test") -> None:
        """Strike where the core decides on an input of a workflow's runs, when it has decided already."""
        strike = self._striker(on, times)

        def decide_or_not(
            state: RunState, given: Input, now: int, evaluator: Evaluator, decision: Decision | None = None
        ) -> Decision:
            decision = decide(state, given, now, evaluator, decision)
            if state.workflow.name == workflow:
                strike(given)
            return decision

        self._monkeypatch.setattr(run, "decide", decide_or_not)

    def in_starting(self, step_id: str, times: int = 1) -> None:
        """Strike where what is committed is carried out: where the large input of an attempt is put together."""
        start, strike = table.Attempts.start, self._striker(lambda named: named == step_id, times)

        def start_or_not(
            of: table.Attempts, event: StepStarted, options: EngineOptions, variables: Context | None
        ) -> Attempt:
            strike(event.step_id)
            return start(of, event, options, variables)

        self._monkeypatch.setattr(table.Attempts, "start", start_or_not)

    def in_ending(self, step_id: str, times: int = 1) -> None:
        """Strike where the end of an attempt is taken."""
        end, strike = table.Attempts.end, self._striker(lambda named: named == step_id, times)

        def end_or_not(of: table.Attempts, attempt: Attempt) -> None:
            strike(attempt.step_id)
            end(of, attempt)

        self._monkeypatch.setattr(table.Attempts, "end", end_or_not)

    def _striker(self, applies: Callable[[T], bool], times: int) -> Callable[[T], None]:
        left: Iterator[int] = itertools.islice(itertools.count(), times)

        def strike(what: T) -> None:
            if not self._healed and applies(what) and next(left, None) is not None:
                self.struck += 1
                self.strike.set()
                raise Defect("nobody foresaw it")

        return strike


class Countdown:
    """Tells some things from others by their number alone.

    Attributes:
        left: Of how many it has still to say that it means them.
    """

    def __init__(self) -> None:
        self._passed = self.left = 0

    def start(self, passed: int, left: int) -> None:
        """Mean so many, after so many others."""
        self._passed, self.left = passed, left

    def __call__(self, _: object) -> bool:
        """Say whether this one is meant."""
        self._passed -= 1
        meant = self._passed < 0 and self.left > 0
        self.left -= meant
        return meant


def ends(step_id: str) -> Callable[[Event], bool]:
    """Return what tells a step's end from other events."""
    return lambda event: isinstance(event, StepFinished) and event.step_id == step_id
