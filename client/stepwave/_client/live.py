"""Runs under way, as a client follows them: watched from outside, or started and held."""

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

__all__ = ["LiveRun", "Watch", "checked"]

_CANCEL_WITHIN = 5.0  # seconds; the caller is leaving, and waits for this

_logger = logging.getLogger("stepwave")


class Watch:
    """A run that is watched; leaving it changes nothing for it."""

    def __init__(self, follower: Follower, collector: Collector) -> None:
        self._follower = follower
        self._collector = collector
        self._left = False

    @property
    def result(self) -> RunResult | None:
        """What the run came to; `None` until its last event was read."""
        return self._collector.result

    def open(self) -> None:
        """Begin to watch. Idempotent.

        Raises:
            RuntimeError: It was left.
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


class LiveRun(Watch):
    """A run that this client starts and holds; leaving it before its end cancels it."""

    def __init__(self, link: Link, request: pb.ExecuteWorkflowRequest, *, timeout: float | None) -> None:
        self.run_id = request.run_id
        self._link = link
        self._namespace = request.namespace
        again = pb.WatchRunRequest(namespace=request.namespace, run_id=request.run_id, attach=True)
        workflow = request.workflow if request.HasField("workflow") else None
        super().__init__(Follower(link, again, execute=request, timeout=timeout), Collector(workflow))

    async def complete(self) -> RunResult:
        """Read to the end and return the result, without making events of what comes; and leave.

        Raises:
            StepwaveError: The run was refused, or its server was lost.
            RuntimeError: It was left before its end.
        """
        self._check_not_left()
        try:
            while messages := await self._follower.read():
                self._collector.absorb(messages)
        finally:
            await self.leave()
        assert self.result is not None, "a follower ends with the run's last event"
        return self.result

    async def cancel(self, reason: str) -> Run:
        """Cancel the run, and go on following it to its end."""
        return await self._cancel(reason, within=None)

    async def leave(self) -> None:
        """Free the stream, and cancel the run if it may still be under way. Idempotent."""
        under_way, self._follower.held = self._follower.held, False
        # First the stream: a start that is still on its way then ends there, and cannot come after the cancel.
        await super().leave()
        if under_way:
            await self._link.transport.shielded(self._cancel_quietly())

    async def _cancel_quietly(self) -> None:
        try:
            await self._cancel("its caller left before the end", within=_CANCEL_WITHIN)
        except (StepwaveError, RuntimeError) as error:  # then the server does it, once the reconnect window has passed
            _logger.debug("could not cancel run %s: %s", self.run_id, error)

    async def _cancel(self, reason: str, *, within: float | None) -> Run:
        request = pb.CancelRunRequest(namespace=self._namespace, run_id=self.run_id, reason=reason)
        return run_from_proto((await self._link.call(CANCEL, request, within=within)).run)


def checked(result: RunResult) -> RunResult:
    """Return a result if its run succeeded.

    Raises:
        RunCancelled: It was cancelled.
        RunFailed: It failed.
    """
    if result.succeeded:
        return result
    raise RunCancelled(result) if result.state is State.CANCELLED else RunFailed(result)
