"""Follows one run: reads its events once and in order, and opens a new stream when one is lost.

Invariant: after every read, `_last` is the number of the newest event that was returned, and the next stream begins
after it. So a lost stream neither loses nor repeats a numbered event.
"""

import logging
from collections.abc import Sequence
from typing import NoReturn

from stepwave._transport.base import EXECUTE, WATCH, MessageStream
from stepwave._transport.link import Link
from stepwave.exceptions import (
    DeadlineExceeded,
    LimitExceeded,
    NotFound,
    RunLost,
    ServerError,
    ServerUnavailable,
    StepwaveError,
)
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb

__all__ = ["Follower"]

_logger = logging.getLogger("stepwave.connection")


class Follower:
    """The events of one run.

    Args:
        link: The link to the server.
        watch: The request for the run's events, with the number to begin after.
        execute: The request to start the run; `None`: it was started. It is sent again until the first message: its
            run id makes that safe.
        timeout: The longest that the run may take, in seconds; `None`: no limit.

    Attributes:
        ended: Whether the run's last event has been read.
        attached: Whether this follower started or joined a run that may still be under way.
    """

    def __init__(
        self,
        link: Link,
        watch: pb.WatchRunRequest,
        *,
        execute: pb.ExecuteWorkflowRequest | None = None,
        timeout: float | None = None,
    ) -> None:
        self.ended = False
        self.attached = False
        self._link = link
        self._watch = watch
        self._execute = execute
        self._timeout = timeout
        self._deadline: float | None = None
        self._last = watch.after_sequence
        self._received = False
        self._lost = False
        self._chunks: dict[str, tuple[int, int]] = {}  # by step: the attempt and the index of its next chunk
        self._backoff = link.backoff(link.settings.connect_timeout)
        self._stream: MessageStream[pb.ExecuteWorkflowResponse | pb.WatchRunResponse] | None = None

    def open(self) -> None:
        """Open the first stream, which starts the run if there is an `execute` request. Idempotent."""
        self._current_stream()

    async def read(self) -> Sequence[event_pb2.RunEvent]:
        """Return the next events, at least one; none after the last.

        Raises:
            ServerUnavailable: The server does not answer, or did not come back in time.
            DeadlineExceeded: The timeout passed.
            StepwaveError: The server refused the request.
        """
        while not self.ended:
            stream, message = self._current_stream(), None
            lost: ServerUnavailable | LimitExceeded | None = None
            try:
                message = await stream.read()
            except ServerUnavailable as error:
                lost = error
            except LimitExceeded as error:
                if error.retry_after is None:
                    self._refused(error)
                    raise
                lost = error
            except StepwaveError as error:
                self._refused(error)
                raise
            if message is None:  # lost, or closed by a server that is stopping
                await self._pause(lost)
            elif events := self._take(message):
                return events
        return ()

    async def close(self) -> None:
        """Free the stream. Idempotent."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if self.ended:
            await stream.finish()
        else:
            stream.cancel()

    def _current_stream(self) -> MessageStream[pb.ExecuteWorkflowResponse | pb.WatchRunResponse]:
        if self._stream is None:
            left = self._time_left()
            self.attached = True  # first: a KeyboardInterrupt may come while the call begins
            if self._execute is not None and not self._received:
                self._stream = self._link.transport.stream(EXECUTE, self._execute, left)
            else:
                self._watch.after_sequence = self._last
                self._stream = self._link.transport.stream(WATCH, self._watch, left)
        return self._stream

    def _take(self, message: pb.ExecuteWorkflowResponse | pb.WatchRunResponse) -> list[event_pb2.RunEvent]:
        """Return the new events of a message; none for a keep-alive."""
        if not self._received:
            self._received = True
            self._backoff = self._link.backoff(self._link.settings.reconnect_window)
        self._backoff.reset()
        if self._lost:
            self._lost = False
            _logger.info("reconnected")
        events = self._new_events(message.events)
        if self._watch.kinds:  # events that were filtered out count as read
            self._last = max(self._last, message.last_sequence)
        if events and events[-1].HasField("run_finished"):
            self.ended, self.attached = True, False
        return events

    def _new_events(self, events: Sequence[event_pb2.RunEvent]) -> list[event_pb2.RunEvent]:
        found, last, gaps = [], self._last, bool(self._watch.kinds)
        for event in events:
            sequence = event.sequence
            if sequence:
                if sequence <= last:
                    continue
                if sequence != last + 1 and not gaps:
                    raise ServerError(f"run {self._watch.run_id!r}: event {sequence} came after event {last}")
                last = sequence
            elif self._repeats(event):
                continue
            found.append(event)
        self._last = last
        return found

    def _repeats(self, event: event_pb2.RunEvent) -> bool:
        """Return whether a chunk was returned before: a new stream begins with all chunks so far."""
        if not event.HasField("step_chunk"):
            return False
        chunk = event.step_chunk
        attempt, following = self._chunks.get(chunk.step_id, (0, 0))
        if attempt == chunk.attempt and chunk.index < following:
            return True
        self._chunks[chunk.step_id] = (chunk.attempt, chunk.index + 1)
        return False

    async def _pause(self, error: ServerUnavailable | LimitExceeded | None) -> None:
        """Pause before the next stream.

        Raises:
            ServerUnavailable: The window has passed.
            DeadlineExceeded: The timeout passed.
        """
        await self.close()
        pause = self._backoff.pause() if error is None else self._backoff.pause_after(error)
        left = self._time_left()
        if pause is None:
            self.attached = False  # the server cancels the run itself when its reconnect window has passed
            self._give_up(error)
        if error is not None and self._received and not self._lost:
            self._lost = True
            _logger.warning("lost the server at %s; reconnecting", self._link.transport.address)
        await self._link.transport.sleep(pause if left is None else min(pause, left))

    def _give_up(self, error: ServerUnavailable | LimitExceeded | None) -> NoReturn:
        if error is not None and not self._received:
            raise error
        address, window = self._link.transport.address, self._backoff.window
        message = f"lost the server at {address}; it did not come back in {window:g} s"
        raise ServerUnavailable(message, address=address) from error

    def _time_left(self) -> float | None:
        """Return the seconds until the timeout; `None`: no timeout.

        Raises:
            DeadlineExceeded: The timeout has passed.
        """
        if self._timeout is None:
            return None
        now = self._link.transport.now()
        if self._deadline is None:
            self._deadline = now + self._timeout
        if self._deadline <= now:
            raise self._timed_out()
        return self._deadline - now

    def _timed_out(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"run {self._watch.run_id!r} did not end within {self._timeout:g} s")

    def _refused(self, error: StepwaveError) -> None:
        """Update `attached` after an error, and raise a more specific one where there is one."""
        if isinstance(error, DeadlineExceeded) and self._timeout is not None:
            raise self._timed_out() from error
        if not self._received:  # a run with this id, if any, was not started here
            self.attached = False
        elif isinstance(error, NotFound):
            self.attached = False
            run_id, address = self._watch.run_id, self._link.transport.address
            message = f"run {run_id!r} is lost: the server at {address} does not know it any more"
            raise RunLost(message, run_id=run_id, reason=error.reason) from error
