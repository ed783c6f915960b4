"""Runs as a client follows them: watched from outside, or started by it and attached to it."""

import logging

from stepwave._convert.collect import Collector
from stepwave._convert.results import run_from_proto
from stepwave._model.events import Event
from stepwave._model.results import Run, RunResult, State
from stepwave._transport.base import CANCEL
from stepwave._transport.link import Link
from stepwave.exceptions import RunCancelled, RunFailed, StepwaveError
from stepwave.v1 import orchestrator_pb2 as pb

from .follow import Follower
from .functions import UnknownActionHint

__all__ = ["AttachedRun", "WatchedRun", "checked"]

_CANCEL_WITHIN = 5.0  # seconds; the caller is leaving, and waits for this

_logger = logging.getLogger("stepwave")


class WatchedRun:
    """A run that is watched. Leaving does not affect it."""

    def __init__(self, follower: Follower, collector: Collector) -> None:
        self._follower = follower
        self._collector = collector
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

    async def events(self) -> list[Event]:
        """Return the next events, at least one; none after the last."""
        return self._collector.events(await self._follower.read())

    async def leave(self) -> None:
        """Free the stream. Idempotent."""
        self._left = True
        await self._follower.close()

    def _check_not_left(self) -> None:
        if self._left:
            raise RuntimeError("a run is followed only once, and this one was left before its end")


class AttachedRun(WatchedRun):
    """A run that this client starts. Leaving it before its end cancels it."""

    def __init__(
        self, link: Link, request: pb.ExecuteWorkflowRequest, *, timeout: float | None, hint: UnknownActionHint
    ) -> None:
        self.run_id = request.run_id
        self._hint = hint
        self._link = link
        self._namespace = request.namespace
        watch = pb.WatchRunRequest(namespace=request.namespace, run_id=request.run_id, attach=True)
        workflow = request.workflow if request.HasField("workflow") else None
        super().__init__(Follower(link, watch, execute=request, timeout=timeout), Collector(workflow))

    async def events(self) -> list[Event]:
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

    async def cancel(self, reason: str) -> Run:
        """Cancel the run, and keep following it to its end."""
        return await self._cancel(reason, within=None)

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
