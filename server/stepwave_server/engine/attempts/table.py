"""The attempts of one run: those that wait for admission, those that run, and steps whose action is not here."""

import asyncio
import logging

from stepwave_server.actions import Registry
from stepwave_server.core.info import RunKey
from stepwave_server.core.inputs import input_of, is_written
from stepwave_server.core.messages import AttemptStarted, Invoke
from stepwave_server.core.state import RunState
from stepwave_server.engine.admission.controller import AdmissionController
from stepwave_server.engine.admission.limiter import Limiter
from stepwave_server.engine.attempts.attempt import Attempt, AttemptOwner
from stepwave_server.engine.attempts.json_evaluator import JsonEvaluator
from stepwave_server.engine.streams.subscribers import Subscribers

__all__ = ["Attempts"]

logger = logging.getLogger(__name__)


class Attempts:
    """What a run has asked admission for, and what of that runs.

    Attributes:
        stale: Steps whose attempt was replaced after its admission: what told of that is about no other.

    Args:
        owner: The run.
        state: Where it stands.
        audience: Who watches it.
        actions: What steps can do.
        entrance: Where attempts wait to start.
        evaluator: What puts inputs together.
    """

    def __init__(
        self,
        owner: AttemptOwner,
        state: RunState,
        audience: Subscribers,
        *,
        actions: Registry,
        entrance: AdmissionController,
        evaluator: JsonEvaluator,
    ) -> None:
        self._owner = owner
        self._key: RunKey = owner.key
        self._state = state
        self._audience = audience
        self._actions = actions
        self._entrance = entrance
        self._evaluator = evaluator
        self.stale: set[str] = set()
        self._attempts: dict[str, Attempt] = {}
        self._missing: dict[str, str] = {}

    def __bool__(self) -> bool:
        """Say whether there are any."""
        return bool(self._attempts)

    def get(self, step_id: str) -> Attempt | None:
        """Return a step's attempt that runs or waits for admission; `None` if it has none."""
        return self._attempts.get(step_id)

    def all(self) -> list[Attempt]:
        """Return all of them."""
        return list(self._attempts.values())

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of those that run."""
        return [attempt.task for attempt in self._attempts.values() if attempt.task is not None]

    @property
    def missing(self) -> tuple[str, ...]:
        """The actions that steps wait for, each once; a step that has ended waits for none, committed or not."""
        steps = self._state.steps
        return tuple(dict.fromkeys(action for step_id, action in self._missing.items() if not steps[step_id].ended))

    def request(self, invoke: Invoke) -> None:
        """Ask admission for a place: no effect of the decision, for the attempt's start will be an event of its own."""
        before = self._attempts.pop(invoke.step_id, None)
        if invoke.fallback:
            self.found_action(invoke.step_id)
        action = self._actions.get(invoke.action)
        if action is None:
            if before is not None:
                self._replace(before)
            self._wait_for_action(invoke)
            return
        gates = self._gates(invoke) if self._entrance.limited else ()
        attempt = self._attempts[invoke.step_id] = Attempt(self._owner, invoke, action, gates)
        if before is None:
            self._entrance.submit(attempt)
        else:
            self._succeed(before, attempt)

    def came_late(self, given: AttemptStarted) -> None:
        """Give back the place of an attempt that may not start any more."""
        attempt = self._attempts.get(given.step_id)
        started = given.step_id in self._state.running
        if attempt is not None and attempt.number == given.attempt and not started:
            self._entrance.release(attempt, None)

    def begin(self, step_id: str) -> Attempt:
        """Return the attempt that starts now, and waits no more; its input is put together."""
        attempt = self._attempts[step_id]
        if attempt.told:
            self._waits_no_more(attempt)
        if attempt.input is None:
            attempt.input = input_of(self._state, self._state.steps[step_id], self._evaluator)
        attempt.strict = is_written(self._state.steps[step_id])
        return attempt

    def end(self, attempt: Attempt) -> None:
        """Forget an attempt that has ended."""
        del self._attempts[attempt.step_id]
        if attempt.said:
            self._audience.forget(attempt.step_id)

    def withdraw(self, step_id: str) -> None:
        """Forget an attempt that has not started, and give back its place."""
        self._withdraw(self._attempts.pop(step_id))

    def found_action(self, step_id: str) -> None:
        """Forget that a step waits for a server with its action."""
        if self._missing.pop(step_id, None) is not None:
            self._audience.forget(step_id)

    def _gates(self, invoke: Invoke) -> tuple[Limiter, ...]:
        """Return the limits that an attempt must pass, those of its key's value included."""
        entrance, evaluator = self._entrance, self._evaluator
        key, step = "", self._state.steps[invoke.step_id]
        if step.spec.concurrency_key is not None and entrance.keyed(invoke.action):
            payload = input_of(self._state, step, evaluator) if invoke.input is None else invoke.input
            key = evaluator.key_of(payload, step.spec.concurrency_key)
        return entrance.gates(invoke.action, key)

    def _succeed(self, before: Attempt, attempt: Attempt) -> None:
        """Let an attempt take the place of one that has not started, if it needs no other."""
        if before.admitted and before.gates == attempt.gates:
            before.admitted, attempt.admitted = False, True
            before.held, attempt.held = (), before.held
            # What told so of the other may have been too late.
            self._owner.tell(AttemptStarted(attempt.step_id, attempt.number))
        else:
            self._replace(before)
            self._entrance.submit(attempt)

    def _replace(self, before: Attempt) -> None:
        """Withdraw an attempt that has not started, for another one that needs a place of its own."""
        if before.admitted:  # what told so is on its way, and is not about the other
            self.stale.add(before.step_id)
        self._withdraw(before)

    def _withdraw(self, attempt: Attempt) -> None:
        """Take an attempt that has not started out of the queue, or give back its place."""
        self._entrance.withdraw(attempt)
        self._entrance.release(attempt, None)
        self._waits_no_more(attempt)

    def _waits_no_more(self, attempt: Attempt) -> None:
        if attempt.told:
            attempt.told = False
            self._owner.told -= 1
            self._audience.forget(attempt.step_id)

    def _wait_for_action(self, invoke: Invoke) -> None:
        """Let a step wait for a server that has its action: the run was accepted by another one, before a restart."""
        if not self._missing:
            told = "run %s waits for a server with the action %s"
            logger.warning(told, self._key.run_id, invoke.action, extra={"run_id": self._key.run_id})
        self._missing[invoke.step_id] = invoke.action
        self._audience.show_missing(invoke.step_id, self._state.sequence, invoke.action)
