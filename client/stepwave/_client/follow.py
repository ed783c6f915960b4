"""Follows one run: reads its events, each once and in order, over as many streams as that takes.

The invariant: after every read, `_last` is the number of the newest event that was handed out, and the next stream is
asked for what comes after it. So a lost stream costs time, but neither loses nor repeats a numbered event.
"""

import logging
from collections.abc import Sequence
from typing import NoReturn

from stepwave._transport.base import EXECUTE, WATCH, MessageStream
from stepwave._transport.link import Link
from stepwave.exceptions import DeadlineExceeded, NotFound, RunLost, ServerError, ServerUnavailable, StepwaveError
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb

__all__ = ["Follower"]

_logger = logging.getLogger("stepwave.connection")


class Follower:
    """The events of one run.

    Args:
        link: The way to the server.
        watch: How to ask for the run's events; where to begin stands in it.
        execute: How to start the run; `None`: it has been. Sent again until the first message: the run id in it makes
            that safe.
        timeout: How many seconds all of it may take; `None`: for ever.

    Attributes:
        ended: Whether the run's last event has been read.
        held: Whether this stream has, as far as it knows, started or joined a run that may still be under way.
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
        self._heard = False
        self._lost = False
        self._chunks: dict[str, tuple[int, int]] = {}  # by step: the attempt, and the index of its next chunk
        self._patience = link.patience(link.settings.connect_timeout)
        self._stream: MessageStream[pb.ExecuteWorkflowResponse | pb.WatchRunResponse] | None = None

    def open(self) -> None:
        """Begin to follow; the run starts now, if this is to start it. Idempotent."""
        self._opened()

    async def read(self) -> Sequence[event_pb2.RunEvent]:
        """Return the next events, at least one; none after the last.

        Raises:
            ServerUnavailable: There is no server, or the one there was did not come back in time.
            DeadlineExceeded: The timeout passed.
            StepwaveError: The server refused.
        """
        while not self.ended:
            stream, lost, message = self._opened(), None, None
            try:
                message = await stream.read()
            except ServerUnavailable as error:
                lost = error
            except StepwaveError as error:
                self._explain(error)
                raise
            if message is None:  # lost, or closed by a server that is about to stop
                await self._bear(lost)
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

    def _opened(self) -> MessageStream[pb.ExecuteWorkflowResponse | pb.WatchRunResponse]:
        if self._stream is None:
            left = self._left()
            self.attached = True  # first: an interrupt from the keyboard may come while the call begins
            if self._execute is not None and not self._heard:
                self._stream = self._link.transport.stream(EXECUTE, self._execute, left)
            else:
                self._watch.after_sequence = self._last
                self._stream = self._link.transport.stream(WATCH, self._watch, left)
        return self._stream

    def _take(self, message: pb.ExecuteWorkflowResponse | pb.WatchRunResponse) -> list[event_pb2.RunEvent]:
        """Pick what is new from a message; nothing, if it is but a sign of life."""
        if not self._heard:
            self._heard = True
            self._patience = self._link.patience(self._link.settings.reconnect_window)
        self._patience.renew()
        if self._lost:
            self._lost = False
            _logger.info("reconnected")
        fresh = self._new_events(message.events)
        if self._watch.kinds:  # what was filtered out is behind us too
            self._last = max(self._last, message.last_sequence)
        if fresh and fresh[-1].HasField("run_finished"):
            self.ended, self.attached = True, False
        return fresh

    def _new_events(self, events: Sequence[event_pb2.RunEvent]) -> list[event_pb2.RunEvent]:
        fresh, last, gaps = [], self._last, bool(self._watch.kinds)
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
            fresh.append(event)
        self._last = last
        return fresh

    def _repeats(self, event: event_pb2.RunEvent) -> bool:
        """Say whether a chunk was handed out before: who joins again gets those so far once more."""
        if not event.HasField("step_chunk"):
            return False
        chunk = event.step_chunk
        attempt, following = self._chunks.get(chunk.step_id, (0, 0))
        if attempt == chunk.attempt and chunk.index < following:
            return True
        self._chunks[chunk.step_id] = (chunk.attempt, chunk.index + 1)
        return False

    async def _bear(self, error: ServerUnavailable | None) -> None:
        """Pause before the next stream.

        Raises:
            ServerUnavailable: Patience is at its end.
            DeadlineExceeded: The timeout passed.
        """
        await self.close()
        pause, left = self._patience.pause(), self._left()
        if pause is None:
            self.attached = False  # out of reach: the server cancels it by itself once nobody holds it
            self._give_up(error)
        if error is not None and self._heard and not self._lost:
            self._lost = True
            _logger.warning("lost the server at %s; reconnecting", self._link.transport.address)
        await self._link.transport.sleep(pause if left is None else min(pause, left))

    def _give_up(self, error: ServerUnavailable | None) -> NoReturn:
        if error is not None and not self._heard:
            raise error
        address, window = self._link.transport.address, self._patience.window
        message = f"lost the server at {address}; it did not come back in {window:g} s"
        raise ServerUnavailable(message, address=address) from error

    def _left(self) -> float | None:
        """Return the seconds until the timeout.

        Raises:
            DeadlineExceeded: It has passed.
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

    def _explain(self, error: StepwaveError) -> None:
        """Note whether the run goes on in spite of an error, and raise a clearer one if there is."""
        if isinstance(error, DeadlineExceeded) and self._timeout is not None:
            raise self._timed_out() from error
        if not self._heard:  # refused: a run of that id, if there is one, is not ours
            self.attached = False
        elif isinstance(error, NotFound):
            self.attached = False
            run_id, address = self._watch.run_id, self._link.transport.address
            message = f"run {run_id!r} is lost: the server at {address} does not know it any more"
            raise RunLost(message, run_id=run_id, reason=error.reason) from error
