"""Plays drawn runs on a server: releases one outcome at a time, and waits for all that it leads to."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import AioRpcError

from conformance.moves import Move, Program
from conformance.timeouts import Timed
from integration.server.build import kind_of, payload
from integration.server.raw_client import RawClient, Stream
from stepwave import ActionError, Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.temporal import SAME_WORKFLOWS

__all__ = ["Ambiguous", "Player", "masked"]

GUARD = 60.0
"""Seconds in which a move leads to all that it leads to."""

SLACK = 100_000_000
"""Nanoseconds between an event and a timeout that passes after it."""


class Ambiguous(Exception):
    """Raised when a machine was too slow for a run: a timeout may have passed before what was to precede it."""


class _Timeouts:
    """The timeouts of one run: when they pass, as its events tell, or at the earliest."""

    def __init__(self) -> None:
        self._made: list[int] = []
        self._deadlines: dict[str, int] = {}
        self._ready: dict[str, int] = {}
        self._expanded: dict[str, int] = {}

    def make(self, move: Move, begun: Iterable[Timed]) -> None:
        """Note that a move is made now.

        Args:
            move: The move.
            begun: The timeouts that have begun before it.

        Raises:
            Ambiguous: One of them passes too soon.
        """
        if move.passes:
            self._made.append(min(map(self._due, move.passes)))
        else:
            now = time.time_ns()
            self.check(now, begun)
            self._made.append(now)

    def note(self, event: RunEvent) -> None:
        """Note what an event tells of timeouts."""
        match kind_of(event):
            case "run_started":
                self._deadlines["run"] = event.run_started.deadline.ToNanoseconds()
            case "step_started":
                started = event.step_started
                self._ready[started.step_id] = started.ready_time.ToNanoseconds()
                self._expanded.pop(started.step_id, None)
                for kind in ("attempt", "own"):
                    name = f"{kind} {started.step_id} {started.attempt}"
                    self._deadlines[name] = started.deadline.ToNanoseconds()
            case "step_expanded":
                expanded = event.step_expanded
                self._ready[expanded.step_id] = expanded.ready_time.ToNanoseconds()
                self._expanded[expanded.step_id] = event.time.ToNanoseconds()

    def check(self, moment: int, timed: Iterable[Timed]) -> None:
        """Check that something happened before timeouts passed.

        Raises:
            Ambiguous: One of them may have passed before.
        """
        for one in timed:
            if moment + SLACK >= self._due(one):
                raise Ambiguous(one.name)

    def _due(self, timed: Timed) -> int:
        """Return when a timeout passes, in nanoseconds since the epoch. If no event tells, it is the earliest time."""
        length = round(timed.seconds * 1e9)
        if timed.kind == "own" and timed.step_id in self._expanded:
            return self._expanded[timed.step_id] + length
        if timed.kind == "total" and timed.step_id in self._ready:
            return self._ready[timed.step_id] + length
        return self._deadlines.get(timed.name, self._made[timed.armed] + length)


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
        self._given_up: set[str] = set()

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
            if key[0] in self._given_up:
                self._outcomes[key].set_result("stop")
        return self._outcomes[key]

    def _note(self, what: set[tuple[str, str, int]], key: tuple[str, str, int]) -> None:
        what.add(key)
        self._changed[key[0]].set()

    def release_all(self) -> None:
        """End all attempts, so that the server can stop."""
        self._release({key[0] for key in self._outcomes})

    def _release(self, run_ids: set[str]) -> None:
        self._given_up |= run_ids
        for key, outcome in self._outcomes.items():
            if key[0] in run_ids and not outcome.done():
                outcome.set_result("stop")

    async def give_up(self, run_id: str) -> None:
        """End a run that was not played to its end, if it has begun."""
        self._release({run_id})
        with suppress(AioRpcError):
            await self.client.cancel(run_id)

    async def play(self, program: Program, run_id: str) -> list[RunEvent]:
        """Play a run to its end, and return its numbered events.

        Raises:
            Ambiguous: The machine was too slow for the timeouts of the run.
            AssertionError: A move did not lead to what it should lead to.
        """
        timeouts = _Timeouts()
        timeouts.make(program.moves[0], ())
        await self._start(program, run_id)
        async with self.client.watch(run_id) as watch:
            await self._follow(Move("none"), program.moves[0], run_id, watch, timeouts)
            for before, move in pairwise(program.moves):
                timeouts.make(move, before.timed)
                await self._make(move, run_id)
                await self._follow(before, move, run_id, watch, timeouts)
            seen = [event for event in await watch.rest() if event.sequence]
        assert seen[-1].HasField("run_finished")
        return seen

    async def _follow(self, before: Move, move: Move, run_id: str, watch: Stream, timeouts: _Timeouts) -> None:
        """Wait for all that a move leads to. Check that no other timeout passes meanwhile."""
        others = (before.timed | move.timed).difference(move.passes)
        try:
            async with asyncio.timeout(GUARD):
                while _check_events(before, move, watch.seen, timeouts, others) < move.sequence:
                    if await watch.message() is None:
                        break
                await self._wait_for(move, run_id)
        except TimeoutError:
            raise AssertionError(self._explain(move, run_id, watch.seen)) from None
        now = time.time_ns()
        timeouts.check(now, move.silenced)
        if move.sequence == before.sequence:
            timeouts.check(now, others)

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

    def _explain(self, move: Move, run_id: str, seen: Sequence[RunEvent]) -> str:
        started = {key[1:] for key in self._started if key[0] == run_id}
        cancelled = {key[1:] for key in self._cancelled if key[0] == run_id}
        shown = "\n".join(f"{event.sequence} {kind_of(event)}" for event in seen)
        missing = f"not started: {set(move.running) - started}; not cancelled: {set(move.cancelled) - cancelled}"
        return f"a move of {run_id}: {move}\n{missing}\nevents:\n{shown}"


def _check_events(
    before: Move, move: Move, seen: Sequence[RunEvent], timeouts: _Timeouts, others: Iterable[Timed]
) -> int:
    """Check that the events of a move came before timeouts passed. Return the number of the last event.

    Raises:
        Ambiguous: A timeout may have passed before one of them.
    """
    numbered = [event for event in seen if event.sequence]
    events = [event for event in numbered if before.sequence < event.sequence <= move.sequence]
    for event in events:
        timeouts.note(event)
    for event in events:
        timeouts.check(event.time.ToNanoseconds(), others)
    return numbered[-1].sequence if numbered else 0


def masked(events: Sequence[RunEvent]) -> list[RunEvent]:
    """Return copies of events without their times, the id of their run, and what only a cluster has to say."""
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
        if isinstance(value, str):
            setattr(message, descriptor.name, value.replace(f" ({SAME_WORKFLOWS})", ""))
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
