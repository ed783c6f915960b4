"""The attempts of one run: those that wait for admission, those that run, and steps whose action is missing here."""

import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import NamedTuple

from stepwave_server.actions import Registry
from stepwave_server.core.explanation import WaitCause
from stepwave_server.core.inputs import is_written, payload_of, secrets_of
from stepwave_server.core.messages import Invoke, StepStarted
from stepwave_server.core.state import RunState
from stepwave_server.engine.admission.base import Obstacle
from stepwave_server.engine.admission.controller import AdmissionController
from stepwave_server.engine.admission.limiter import Limiter
from stepwave_server.engine.attempts.attempt import Attempt, AttemptOwner, AttemptState
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.engine.streams.subscribers import Subscribers

__all__ = ["Attempts", "MissingAction"]

logger = logging.getLogger(__name__)


class MissingAction(NamedTuple):
    """An action that a step waits for, because this server does not have it.

    Attributes:
        name: The name of the action.
        since: The time at which the step began to wait, in nanoseconds since the epoch.
    """

    name: str
    since: int

    @property
    def obstacle(self) -> Obstacle:
        """The obstacle of the step."""
        return Obstacle(WaitCause.ACTION_MISSING, f'this server has no action "{self.name}"')


class Attempts:
    """The attempts of a run that wait for admission or run.

    Args:
        owner: The run.
        state: The run's state.
        subscribers: The run's subscribers.
        clock: Returns the time in nanoseconds since the epoch.
        actions: The actions of the server.
        admission: Admits attempts.
        evaluator: The evaluator of inputs.
    """

    def __init__(
        self,
        owner: AttemptOwner,
        state: RunState,
        subscribers: Subscribers,
        *,
        clock: Callable[[], int],
        actions: Registry,
        admission: AdmissionController[Attempt],
        evaluator: JsonEvaluator,
    ) -> None:
        self._owner = owner
        self._state = state
        self._subscribers = subscribers
        self._clock = clock
        self._actions = actions
        self._admission = admission
        self._evaluator = evaluator
        self._attempts: dict[str, Attempt] = {}
        self._missing: dict[str, MissingAction] = {}

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._attempts)

    def get(self, step_id: str) -> Attempt | None:
        """Return the attempt of a step; `None`: the step has none that waits for admission or runs."""
        return self._attempts.get(step_id)

    def all(self) -> list[Attempt]:
        """Return all attempts."""
        return list(self._attempts.values())

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of running attempts."""
        return [attempt.task for attempt in self._attempts.values() if attempt.task is not None]

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the actions that steps wait for, each once. Steps that have ended do not count."""
        steps = self._state.steps
        names = (action.name for step_id, action in self._missing.items() if not steps[step_id].ended)
        return tuple(dict.fromkeys(names))

    def missing_of(self, step_id: str) -> MissingAction | None:
        """Return the missing action of a step; `None`: its action is not missing."""
        return self._missing.get(step_id)

    def request(self, invoke: Invoke) -> None:
        """Request a place for an attempt. It replaces an earlier attempt of the step that has not started."""
        earlier = self._attempts.pop(invoke.step_id, None)
        if invoke.fallback:
            self.found_action(invoke.step_id)
        action = self._actions.get(invoke.action)
        if action is None:
            if earlier is not None:
                self._release(earlier)
            self._wait_for_action(invoke)
            return
        limiters = self._limiters(invoke) if self._admission.limited else ()
        attempt = self._attempts[invoke.step_id] = Attempt(self._owner, invoke, action, limiters)
        if earlier is None:
            self._admission.submit(attempt)
        else:
            self._replace(earlier, attempt)

    def start(self, event: StepStarted, options: EngineOptions, variables: contextvars.Context | None) -> Attempt:
        """Start the attempt whose start is committed, and return it."""
        attempt = self._attempts[event.step_id]
        self._subscribers.forget_waiting(event.step_id)
        step = self._state.steps[event.step_id]
        attempt.start(
            event,
            payload_of(self._state, attempt.invoke, self._evaluator),
            secrets=secrets_of(step),
            strict=is_written(step),
            options=options,
            variables=variables,
        )
        return attempt

    def end(self, attempt: Attempt) -> None:
        """Remove an attempt that has ended."""
        del self._attempts[attempt.step_id]
        if attempt.has_shown:
            self._subscribers.forget(attempt.step_id)

    def withdraw(self, attempt: Attempt) -> None:
        """Remove an attempt that has not started, and release its permit."""
        del self._attempts[attempt.step_id]
        self._release(attempt)

    def found_action(self, step_id: str) -> None:
        """Note that a step no longer waits for a missing action."""
        if self._missing.pop(step_id, None) is not None:
            self._subscribers.forget(step_id)

    def _limiters(self, invoke: Invoke) -> tuple[Limiter, ...]:
        """Return the limiters of an attempt, including those of its concurrency key."""
        key, pointer = "", self._state.steps[invoke.step_id].spec.concurrency_key
        if pointer is not None and self._admission.keyed(invoke.action):
            key = self._evaluator.key_of(payload_of(self._state, invoke, self._evaluator), pointer)
        return self._admission.limiters(invoke.action, key, self._owner.key.namespace)

    def _replace(self, earlier: Attempt, attempt: Attempt) -> None:
        """Replace an attempt that has not started. Its permit is handed on if both have the same limiters."""
        if earlier.state is AttemptState.ADMITTED and earlier.limiters == attempt.limiters:
            permit = earlier.withdraw()
            assert permit is not None, "an admitted attempt has a permit"
            self._subscribers.forget_waiting(earlier.step_id)
            attempt.admit(permit)
        else:
            self._release(earlier)
            self._admission.submit(attempt)

    def _release(self, attempt: Attempt) -> None:
        """Take an attempt that has not started out of the queue, or release its permit."""
        if attempt.waiting:
            self._admission.withdraw(attempt)
        if (permit := attempt.withdraw()) is not None:
            self._admission.release(permit)
        self._subscribers.forget_waiting(attempt.step_id)

    def _wait_for_action(self, invoke: Invoke) -> None:
        """Note that the action of a step is missing. An earlier server, which had it, accepted the run."""
        if not self._missing:
            run_id = self._owner.key.run_id
            message = "run %s waits for a server with the action %s"
            logger.warning(message, run_id, invoke.action, extra={"run_id": run_id})
        missing = self._missing[invoke.step_id] = MissingAction(invoke.action, self._clock())
        self._subscribers.show_waiting(invoke.step_id, self._state.sequence, missing.obstacle)
