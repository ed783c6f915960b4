"""Runs as a client follows them: watched from outside, or started by it and attached to it."""

import logging
from collections.abc import Iterable
from difflib import get_close_matches

from stepwave._convert.collect import Collector
from stepwave._convert.paths import outermost
from stepwave._convert.results import run_from_proto
from stepwave._model.events import AnyEvent
from stepwave._model.results import Run, RunResult, State, StepResult
from stepwave._transport.base import CANCEL
from stepwave._transport.link import Link
from stepwave.exceptions import RunCancelled, RunFailed, StepwaveError
from stepwave.v1 import orchestrator_pb2 as pb

from .follow import Follower
from .functions import UnknownActionHint

__all__ = ["AttachedRun", "WatchedRun", "checked"]

_CANCEL_WITHIN = 5.0  # seconds; the caller is leaving, and waits for this

_COMPARED = 1_000  # steps whose ids are compared with an unknown one; the time is linear

_logger = logging.getLogger("stepwave")


class WatchedRun:
    """A run that is watched. Leaving does not affect it."""

    def __init__(self, follower: Follower, collector: Collector, *, kinds: Iterable[str] = ()) -> None:
        self._follower = follower
        self._collector = collector
        self._kinds = frozenset(kinds)
        self._left = False

    @property
    def result(self) -> RunResult | None:
        """The run's result; `None` until its last event was read."""
        return self._collector.result

    def open(self) -> None:
        """Begin to watch. Idempotent.

        Raises:
            RuntimeError: The run was left.
        """
        self._check_not_left()
        self._follower.open()

    async def events(self) -> list[AnyEvent]:
        """Return the next events, at least one; none after the last."""
        return self._collector.events(await self._follower.read())

    async def leave(self) -> None:
        """Free the stream. Idempotent."""
        self._left = True
        await self._follower.close()

    def step(self, step_id: str) -> StepResult | None:
        """Return a step's result; `None` until its end was read."""
        return self._collector.step(step_id)

    def checked(self, result: RunResult) -> RunResult:
        """Return the run's result if it succeeded.

        Raises:
            RunFailed, RunCancelled: It did not.
        """
        return checked(result)

    def check_step(self, step_id: str) -> None:
        """Check that the run has a step, if the plan is known.

        Raises:
            ValueError: It has no such step.
        """
        planned = self._collector.planned()
        if planned is None or outermost(step_id) in planned:
            return
        near = get_close_matches(step_id, planned[:_COMPARED], 1)
        raise ValueError(f"the run has no step {step_id!r}" + (f"; did you mean {near[0]!r}?" if near else ""))

    def check_kinds(self, needed: frozenset[str]) -> None:
        """Check that the run is watched for some kinds of events.

        Raises:
            ValueError: It is watched for other kinds alone.
        """
        if self._kinds and (missing := sorted(needed - self._kinds)):
            raise ValueError(f"the text of a step needs more kinds of events: add {', '.join(missing)} to `kinds`")

    def _check_not_left(self) -> None:
        if self._left:
            hint = "`client.wait(run_id, check=False)` returns its result"
            raise RuntimeError(f"a run is followed only once, and this one was left before its end; {hint}")


class AttachedRun(WatchedRun):
    """A run that this client starts. Leaving it before its end cancels it."""

    def __init__(
        self, link: Link, request: pb.ExecuteWorkflowRequest, *, timeout: float | None, hint: UnknownActionHint
    ) -> None:
        self.run_id = request.run_id
        self._cancel_requested = False
        self._hint = hint
        self._link = link
        self._namespace = request.namespace
        watch = pb.WatchRunRequest(namespace=request.namespace, run_id=request.run_id, attach=True)
        is_known = request.HasField("workflow") and not request.open
        workflow = request.workflow if is_known else None
        super().__init__(Follower(link, watch, execute=request, timeout=timeout), Collector(workflow))

    async def events(self) -> list[AnyEvent]:
        """Return the next events, at least one; none after the last."""
        with self._hint:
            return await super().events()

    async def complete(self) -> RunResult:
        """Read to the end, leave, and return the result. No event objects are made.

        Raises:
            StepwaveError: The run was refused, or its server was lost.
            RuntimeError: The run was left before its end.
        """
        self._check_not_left()
        try:
            with self._hint:
                while messages := await self._follower.read():
                    self._collector.absorb(messages)
        finally:
            await self.leave()
        assert self.result is not None, "a follower ends with the run's last event"
        return self.result

    def checked(self, result: RunResult) -> RunResult:
        """Return the run's result if it succeeded, or was cancelled and `cancel` was called here.

        Raises:
            RunFailed, RunCancelled: Neither.
        """
        return result if result.state is State.CANCELLED and self._cancel_requested else checked(result)

    async def cancel(self, reason: str) -> Run:
        """Cancel the run, and keep following it to its end."""
        before, self._cancel_requested = self._cancel_requested, True  # the run's end may be read before the answer
        try:
            return await self._cancel(reason, within=None)
        except BaseException:
            self._cancel_requested = before
            raise

    async def leave(self) -> None:
        """Free the stream, and cancel the run if it may still be under way. Idempotent."""
        under_way, self._follower.attached = self._follower.attached, False
        # The stream first: a start that is still on its way ends with it, so it cannot arrive after the cancel.
        await super().leave()
        if under_way:
            await self._link.transport.shielded(self._cancel_quietly())

    async def _cancel_quietly(self) -> None:
        try:
            await self._cancel("its caller left before the end", within=_CANCEL_WITHIN)
        except (StepwaveError, RuntimeError) as error:  # the server cancels it once the reconnect window has passed
            _logger.debug("could not cancel run %s: %s", self.run_id, error)

    async def _cancel(self, reason: str, *, within: float | None) -> Run:
        request = pb.CancelRunRequest(namespace=self._namespace, run_id=self.run_id, reason=reason)
        return run_from_proto((await self._link.call(CANCEL, request, within=within)).run)


def checked(result: RunResult) -> RunResult:
    """Return the result of a run that succeeded.

    Raises:
        RunCancelled: The run was cancelled.
        RunFailed: The run failed.
    """
    if result.succeeded:
        return result
    raise RunCancelled(result) if result.state is State.CANCELLED else RunFailed(result)
