"""Plays drawn runs on a server: releases one outcome at a time, and waits for all that it leads to."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from conformance.programs import Move, Program
from integration.server.build import kind_of, payload
from integration.server.raw_client import RawClient
from stepwave import ActionError, Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave.v1.event_pb2 import RunEvent

__all__ = ["Player", "masked"]

GUARD = 60.0
"""Seconds in which a move leads to all that it leads to."""


class Player:
    """Plays runs on one server.

    Attributes:
        client: The client of the server.
    """

    client: RawClient

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, str, int], asyncio.Future[str]] = {}
        self._started: set[tuple[str, str, int]] = set()
        self._cancelled: set[tuple[str, str, int]] = set()
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def actions(self) -> list[Callable[..., object]]:
        """Return the actions of the server."""

        @action
        async def acts(context: Context, input: object = None) -> str:
            """End as the player says."""
            return await self._perform(context)

        @action
        async def other(context: Context, input: object = None) -> str:
            """End as the player says."""
            return await self._perform(context)

        return cast("list[Callable[..., object]]", [acts, other])

    async def _perform(self, context: Context) -> str:
        key = (context.run_id, context.step_id, context.attempt)
        outcome = self._outcome(key)
        self._note(self._started, key)
        while not outcome.done():
            try:
                await asyncio.shield(outcome)
            except asyncio.CancelledError:
                self._note(self._cancelled, key)
        match outcome.result():
            case "stop":
                raise asyncio.CancelledError
            case "raise":
                raise ActionError("raised", retryable=False)
            case "break":
                raise ConnectionError("broken")
        return context.step_id

    def _outcome(self, key: tuple[str, str, int]) -> asyncio.Future[str]:
        if key not in self._outcomes:
            self._outcomes[key] = asyncio.get_running_loop().create_future()
        return self._outcomes[key]

    def _note(self, what: set[tuple[str, str, int]], key: tuple[str, str, int]) -> None:
        what.add(key)
        self._changed[key[0]].set()

    def release_all(self) -> None:
        """End all attempts, so that the server can stop."""
        for outcome in self._outcomes.values():
            if not outcome.done():
                outcome.set_result("stop")

    async def play(self, program: Program, run_id: str) -> list[RunEvent]:
        """Play a run to its end, and return its numbered events.

        Raises:
            AssertionError: A move did not lead to what it should lead to.
        """
        await self._start(program, run_id)
        seen: list[RunEvent] = []
        async with self.client.watch(run_id) as watch:
            for place, move in enumerate(program.moves):
                await self._make(move, run_id)
                try:
                    async with asyncio.timeout(GUARD):
                        while watch.position < move.sequence:
                            if await watch.message() is None:
                                break
                        await self._wait_for(move, run_id)
                except TimeoutError:
                    raise AssertionError(self._explain(place, move, run_id, watch.seen)) from None
            seen = [event for event in await watch.rest() if event.sequence]
        assert seen[-1].HasField("run_finished")
        return seen

    async def _start(self, program: Program, run_id: str) -> None:
        await self.client.stub.StartRun(
            pb.StartRunRequest(workflow=program.workflow, input=payload({"x": 1}), run_id=run_id, open=program.is_open)
        )

    async def _make(self, move: Move, run_id: str) -> None:
        match move.kind:
            case "end":
                self._outcome((run_id, move.step_id, move.attempt)).set_result(move.outcome)
            case "cancel":
                await self.client.cancel(run_id, "as drawn")
            case "add":
                await self.client.add(*move.steps, seal=move.seal, run_id=run_id)
            case "complete":
                request = pb.CompleteStepRequest(run_id=run_id, step_id=move.step_id)
                if move.outcome == "answer":
                    request.output.CopyFrom(payload(move.step_id))
                else:
                    request.failure.CopyFrom(
                        run_pb2.Failure(reason=run_pb2.FAILURE_REASON_ACTION_ERROR, message="refused")
                    )
                await self.client.stub.CompleteStep(request)

    async def _wait_for(self, move: Move, run_id: str) -> None:
        """Wait until the attempts of a move have started, and those to be cancelled know it."""
        running = {(run_id, *attempt) for attempt in move.running}
        cancelled = {(run_id, *attempt) for attempt in move.cancelled}
        changed = self._changed[run_id]
        while not (running <= self._started and cancelled <= self._cancelled):
            changed.clear()
            await changed.wait()

    def _explain(self, place: int, move: Move, run_id: str, seen: Sequence[RunEvent]) -> str:
        started = {key[1:] for key in self._started if key[0] == run_id}
        cancelled = {key[1:] for key in self._cancelled if key[0] == run_id}
        shown = "\n".join(f"{event.sequence} {kind_of(event)}" for event in seen)
        missing = f"not started: {set(move.running) - started}; not cancelled: {set(move.cancelled) - cancelled}"
        return f"move {place} of {run_id}: {move}\n{missing}\nevents:\n{shown}"


def masked(events: Sequence[RunEvent]) -> list[RunEvent]:
    """Return copies of events without their times and the id of their run."""
    found = []
    for event in events:
        copy = RunEvent()
        copy.CopyFrom(event)
        copy.run_id = ""
        _mask(copy)
        found.append(copy)
    return found


def _mask(message: Message) -> None:
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if descriptor.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
            message.ClearField(descriptor.name)
        elif descriptor.message_type.GetOptions().map_entry:
            continue
        elif isinstance(value, Message):
            _mask(value)
        else:
            for part in value:
                _mask(part)
