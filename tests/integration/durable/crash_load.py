"""Many random runs at once, on servers that are killed again and again: all drawn from a seed."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Protocol

import grpc

from integration.durable.invariants import check_event_order, check_side_effects
from integration.durable.random_workflows import PAUSES, draw_workflow
from integration.durable.resuming_watchers import RawWatcher, complete, follow, open_channel, read_all
from integration.durable.server_process import ServerProcess, SideEffects
from integration.server.build import end_of, payload, seconds, state_of
from stepwave import AsyncClient, Event
from stepwave.testing import replay
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import RunEvent

__all__ = ["Crash", "CrashLoad", "EventCounter", "RandomLoad", "draw_crashes"]

WINDOW = 60.0
"""The reconnect window of attached runs, in seconds: longer than any client stays disconnected."""

CONNECTIONS = 8
"""The number of channels, and of SDK clients, that the runs share."""

MODES = ("sdk", "attached", "detached", "composed")


@dataclass(frozen=True, slots=True)
class Crash:
    """When a server is killed.

    Attributes:
        events: The number of events that clients see before that.
        starting: The servers that follow it and are killed as they start: the lifetime of each, in seconds.
    """

    events: int
    starting: tuple[float, ...] = ()


def draw_crashes(draw: Random, count: int, most_events: int) -> list[Crash]:
    """Draw when servers are killed: some as soon as they serve, some before that."""
    return [
        Crash(
            draw.choice([0, draw.randint(1, 30), draw.randint(0, most_events), draw.randint(0, most_events)]),
            tuple(draw.uniform(0.1, 0.8) for _ in range(draw.choice([0, 0, 0, 1]))),
        )
        for _ in range(count)
    ]


class EventCounter:
    """Counts the events that clients saw."""

    def __init__(self) -> None:
        self.count = 0
        self._goal: tuple[int, asyncio.Event] | None = None

    def add(self, count: int) -> None:
        """Count more events."""
        self.count += count
        if self._goal is not None and self.count >= self._goal[0]:
            self._goal[1].set()

    async def wait_more(self, count: int) -> None:
        """Wait until clients have seen this many more events."""
        reached = asyncio.Event()
        self._goal = (self.count + count, reached)
        self.add(0)
        await reached.wait()


@dataclass(slots=True)
class Submitted:
    """A run, and what its client saw of it.

    Attributes:
        run_id: The run.
        flow: Its workflow.
        mode: How its client follows it: one of `MODES`.
        given: Its input.
        cancel_after: The number of events after which the client cancels it; `None`: it does not.
        parts: Its steps in the parts in which a planner adds them, if it is composed.
        raw_events: The encoded events, unless the client is the SDK.
        sdk_events: The events of the SDK.
        ended: Whether the client saw the end.
    """

    run_id: str
    flow: workflow_pb2.Workflow
    mode: str
    given: dict[str, float]
    cancel_after: int | None
    parts: Sequence[Sequence[workflow_pb2.Step]] = ()
    raw_events: Sequence[bytes] = ()
    sdk_events: list[Event] = field(default_factory=list)
    ended: bool = False


class Served(Protocol):
    """The servers of the runs.

    Attributes:
        address: The target of a client.
        side_effects: The side effects of attempts.
    """

    address: str
    side_effects: SideEffects


class RandomLoad:
    """Random runs, all under way at once, and their clients.

    Attributes:
        counter: Counts the events that clients saw.

    Args:
        served: What serves the runs.
        seed: The seed of the runs.
        runs: The number of runs.
        name: The beginning of their ids.
        pauses: The durations of steps, in seconds.
        modes: How clients follow runs.
    """

    def __init__(
        self,
        served: Served,
        seed: str,
        runs: int,
        *,
        name: str = "run",
        pauses: Sequence[float] = PAUSES,
        modes: Sequence[str] = MODES,
    ) -> None:
        self.counter = EventCounter()
        self._ended = asyncio.Event()
        self._served = served
        self._runs = [_draw_run(f"{name}{place}", seed, pauses, modes) for place in range(runs)]

    async def run(self, crashes: Awaitable[None]) -> None:
        """Run all to their ends during crashes of the server, which serves at the start.

        Raises:
            ExceptionGroup: Raised when a client saw gaps, repeats or errors.
        """
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            channels = [await stack.enter_async_context(open_channel(self._served.address)) for _ in range(CONNECTIONS)]
            clients = [await stack.enter_async_context(self._client(self._served.address)) for _ in range(CONNECTIONS)]
            for place, run in enumerate(self._runs):
                group.create_task(
                    self._follow(run, clients[place % CONNECTIONS], channels[place % CONNECTIONS]), name=run.run_id
                )
            await crashes

    async def wait_events(self, count: int) -> None:
        """Wait until clients have seen this many more events, or all runs have ended."""
        waits = [asyncio.ensure_future(self.counter.wait_more(count)), asyncio.ensure_future(self._ended.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def left(self) -> int:
        """Return the number of runs whose end their client has not seen."""
        return sum(not run.ended for run in self._runs)

    def _client(self, address: str) -> AsyncClient:
        return AsyncClient(address, insecure=True, connect_timeout=WINDOW, reconnect_window=WINDOW, timeout=WINDOW)

    async def _follow(self, run: Submitted, client: AsyncClient, channel: grpc.aio.Channel) -> None:
        if run.mode == "sdk":
            on_waiting = partial(complete, channel, run.run_id)
            run.sdk_events = await follow(
                client, run.flow, run.given, run.run_id, self.counter.add, run.cancel_after, on_waiting
            )
        else:
            watcher = RawWatcher(channel, run.run_id, self.counter.add, run.cancel_after, completes=True)
            run.raw_events = watcher.events
            workflow, given = run.flow, payload(run.given)
            if run.mode == "attached":
                await watcher.execute(
                    pb.ExecuteWorkflowRequest(
                        workflow=workflow, input=given, run_id=run.run_id, reconnect_window=seconds(WINDOW)
                    )
                )
            elif run.mode == "detached":
                await watcher.start(pb.StartRunRequest(workflow=workflow, input=given, run_id=run.run_id))
            else:
                await watcher.compose(
                    pb.StartRunRequest(workflow=workflow, input=given, run_id=run.run_id, open=True), run.parts
                )
        run.ended = True
        if not self.left():
            self._ended.set()

    async def check(self, address: str = "") -> Counter[str]:
        """Check every run, and return the number of runs by final state.

        Args:
            address: The server that is asked; empty: any.
        """
        states: Counter[str] = Counter()
        address = address or self._served.address
        async with open_channel(address) as channel, self._client(address) as client:
            for run in self._runs:
                kept = await read_all(channel, run.run_id)
                events = [RunEvent.FromString(data) for data in kept]
                check_event_order(events)
                check_side_effects(self._served.side_effects, run.run_id, events)
                if run.mode == "sdk":
                    async with client.watch(run.run_id) as watch:
                        assert run.sdk_events == [event async for event in watch if event.sequence]
                    assert [event.sequence for event in run.sdk_events] == [event.sequence for event in events]
                else:
                    assert run.raw_events == kept
                replay(await client.export(run.run_id))
                states[state_of(end_of(events).state)] += 1
        return states


class CrashLoad(RandomLoad):
    """Random runs on one server after the other.

    Attributes:
        under_way: The number of runs that had not ended, each time that a server died.

    Args:
        process: The servers.
        seed: The seed of the runs.
        runs: The number of runs.
        name: The beginning of their ids.
        pauses: The durations of steps, in seconds.
        modes: How clients follow runs.
        arguments: Command-line arguments of the servers.
    """

    def __init__(
        self,
        process: ServerProcess,
        seed: str,
        runs: int,
        *,
        name: str = "run",
        pauses: Sequence[float] = PAUSES,
        modes: Sequence[str] = MODES,
        arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(process, seed, runs, name=name, pauses=pauses, modes=modes)
        self.under_way: list[int] = []
        self._process = process
        self._arguments = arguments

    async def crash_servers(self, crashes: Sequence[Crash]) -> None:
        """Kill servers, and start others."""
        for crash in crashes:
            await self.counter.wait_more(crash.events)
            self._process.kill()
            self.under_way.append(self.left())
            await self._process.wait_exit()
            for seconds_alive in crash.starting:
                await self._process.launch(*self._arguments)
                await asyncio.sleep(seconds_alive)
                self._process.kill()
                await self._process.wait_exit()
            await self._process.start(*self._arguments)

    async def crash_at(self, failpoint: str, times: int) -> None:
        """Start servers that kill themselves, until all runs have ended or enough servers died; then start a last one.

        Args:
            failpoint: Where the servers die. The server that serves at the start dies there too.
            times: The number of servers that die.
        """
        for left in range(times, 0, -1):
            if not await self._dies():
                return
            self.under_way.append(self.left())
            await self._process.launch(*(("--die-at", failpoint) if left > 1 else ()), *self._arguments)
        assert await self._process.wait_serving()

    async def _dies(self) -> bool:
        """Wait until the server dies or all runs end, and return whether it died first."""
        death = asyncio.ensure_future(self._process.wait_gone())
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait({death, ended}, return_when=asyncio.FIRST_COMPLETED)
        for wait in (death, ended):
            wait.cancel()
        return not self._ended.is_set()


def _draw_run(run_id: str, seed: str, pauses: Sequence[float], modes: Sequence[str]) -> Submitted:
    draw = Random(f"{seed}/{run_id}")
    flow, mode, given = draw_workflow(draw, pauses), draw.choice(modes), {"seconds": draw.choice([0.0, 0.05, 0.2])}
    parts = _draw_parts(flow, draw) if mode == "composed" else ()
    return Submitted(run_id, flow, mode, given, draw.choice([None] * 9 + [draw.randint(1, 20)]), parts)


def _draw_parts(flow: workflow_pb2.Workflow, draw: Random) -> list[list[workflow_pb2.Step]]:
    """Take the steps out of a workflow, and return them in random order, in parts. An open run has no barrier."""
    steps = draw.sample([*flow.steps], len(flow.steps))
    flow.ClearField("steps")
    flow.scheduling = workflow_pb2.SCHEDULING_EAGER
    parts = []
    while steps:
        size = draw.randint(1, 4)
        parts.append(steps[:size])
        steps = steps[size:]
    return parts
