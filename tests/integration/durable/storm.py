"""Many runs at once, and a server that is killed again and again: all of it drawn by a seed."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random

import grpc

from integration.durable.claims import check_effects, check_order
from integration.durable.process import Victim
from integration.durable.shapes import PAUSES, draw_flow
from integration.durable.watchers import RawWatcher, follow, open_channel, read_all
from integration.server.build import end_of, payload, seconds, state_of
from stepwave import AsyncClient, Event, Workflow
from stepwave.testing import replay
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import RunEvent

__all__ = ["Blow", "Storm", "Tally", "draw_blows"]

WINDOW = 60.0
"""Seconds that a held run outlives its streams: none of them stays away that long."""

WAYS = 8
"""Channels, and as many clients, that the callers share."""

MANNERS = ("sdk", "attached", "detached")


@dataclass(frozen=True, slots=True)
class Blow:
    """When a server dies.

    Attributes:
        events: After so many more events have been seen.
        starting: How many seconds servers that come in its place live, one after the other, before one may serve.
    """

    events: int
    starting: tuple[float, ...] = ()


def draw_blows(draw: Random, count: int, most_events: int) -> list[Blow]:
    """Draw when servers die: some as soon as they serve, some before they do."""
    return [
        Blow(
            draw.choice([0, draw.randint(1, 30), draw.randint(0, most_events), draw.randint(0, most_events)]),
            tuple(draw.uniform(0.1, 0.8) for _ in range(draw.choice([0, 0, 0, 1]))),
        )
        for _ in range(count)
    ]


class Tally:
    """Counts the events that callers saw."""

    def __init__(self) -> None:
        self.count = 0
        self._goal: tuple[int, asyncio.Event] | None = None

    def saw(self, count: int) -> None:
        """Take that some more were seen."""
        self.count += count
        if self._goal is not None and self.count >= self._goal[0]:
            self._goal[1].set()

    async def more(self, count: int) -> None:
        """Wait until so many more have been seen."""
        reached = asyncio.Event()
        self._goal = (self.count + count, reached)
        self.saw(0)
        await reached.wait()


@dataclass(slots=True)
class Submitted:
    """A run, and what its caller saw of it: bytes, or the SDK's events; `patience` events later, it cancels it."""

    run_id: str
    flow: Workflow
    manner: str
    given: dict[str, float]
    patience: int | None
    seen: Sequence[bytes] = ()
    told: list[Event] = field(default_factory=list)
    ended: bool = False


class Storm:
    """Runs of mixed shape, all under way at once, and their callers.

    Attributes:
        tally: The events that callers saw.
        under_way: How many runs had not ended, each time that a server died.

    Args:
        victim: The servers.
        seed: Draws the runs.
        runs: How many there are.
        name: What their ids begin with.
        pauses: How many seconds its steps take.
        manners: How its callers call.
        arguments: What the servers are told.
    """

    def __init__(
        self,
        victim: Victim,
        seed: str,
        runs: int,
        *,
        name: str = "run",
        pauses: Sequence[float] = PAUSES,
        manners: Sequence[str] = MANNERS,
        arguments: Sequence[str] = (),
    ) -> None:
        self.tally = Tally()
        self.under_way: list[int] = []
        self._ended = asyncio.Event()
        self._victim = victim
        self._arguments = arguments
        self._runs = [_draw_run(f"{name}{place}", seed, pauses, manners) for place in range(runs)]

    async def rage(self, harm: Awaitable[None]) -> None:
        """Run all to their ends, while harm comes to the server, that serves now.

        Raises:
            ExceptionGroup: Callers saw what they must not.
        """
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            channels = [await stack.enter_async_context(open_channel(self._victim.address)) for _ in range(WAYS)]
            clients = [await stack.enter_async_context(self._client()) for _ in range(WAYS)]
            for place, run in enumerate(self._runs):
                group.create_task(self._follow(run, clients[place % WAYS], channels[place % WAYS]), name=run.run_id)
            await harm

    async def strike(self, blows: Sequence[Blow]) -> None:
        """Kill servers, and start others."""
        for blow in blows:
            await self.tally.more(blow.events)
            self._victim.kill()
            self.under_way.append(self._left())
            await self._victim.death()
            for life in blow.starting:
                await self._victim.begin(*self._arguments)
                await asyncio.sleep(life)
                self._victim.kill()
                await self._victim.death()
            await self._victim.start(*self._arguments)

    async def die_at(self, failpoint: str, times: int) -> None:
        """Let servers that kill themselves follow one another, unless all runs end before; then start one that lives.

        Args:
            failpoint: Where the servers die; the first, that serves now, does so too.
            times: How many of them there are.
        """
        for left in range(times, 0, -1):
            if not await self._dies():
                return
            self.under_way.append(self._left())
            await self._victim.begin(*(("--die-at", failpoint) if left > 1 else ()), *self._arguments)
        assert await self._victim.serves()

    async def _dies(self) -> bool:
        """Wait until the server dies or all runs end; say which."""
        death = asyncio.ensure_future(self._victim.gone())
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait({death, ended}, return_when=asyncio.FIRST_COMPLETED)
        for wait in (death, ended):
            wait.cancel()
        return not self._ended.is_set()

    def _left(self) -> int:
        """Return how many runs have not ended, as far as their callers know."""
        return sum(not run.ended for run in self._runs)

    def _client(self) -> AsyncClient:
        return AsyncClient(self._victim.address, connect_timeout=WINDOW, reconnect_window=WINDOW, timeout=WINDOW)

    async def _follow(self, run: Submitted, client: AsyncClient, channel: grpc.aio.Channel) -> None:
        if run.manner == "sdk":
            run.told = await follow(client, run.flow, run.given, run.run_id, self.tally.saw, run.patience)
        else:
            watcher = RawWatcher(channel, run.run_id, self.tally.saw, run.patience)
            run.seen = watcher.seen
            workflow, given = run.flow.to_proto(), payload(run.given)
            if run.manner == "attached":
                await watcher.execute(
                    pb.ExecuteWorkflowRequest(
                        workflow=workflow, input=given, run_id=run.run_id, reconnect_window=seconds(WINDOW)
                    )
                )
            else:
                await watcher.start(pb.StartRunRequest(workflow=workflow, input=given, run_id=run.run_id))
        run.ended = True
        if not self._left():
            self._ended.set()

    async def check(self) -> Counter[str]:
        """Check what became of every run; return how many ended in which state."""
        states: Counter[str] = Counter()
        async with open_channel(self._victim.address) as channel, self._client() as client:
            for run in self._runs:
                kept = await read_all(channel, run.run_id)
                events = [RunEvent.FromString(data) for data in kept]
                check_order(events)
                check_effects(self._victim.marks, run.run_id, events)
                if run.manner == "sdk":
                    async with client.watch(run.run_id) as watch:
                        assert run.told == [event async for event in watch if event.sequence]
                    assert [event.sequence for event in run.told] == [event.sequence for event in events]
                else:
                    assert run.seen == kept
                replay(await client.export(run.run_id))
                states[state_of(end_of(events).state)] += 1
        return states


def _draw_run(run_id: str, seed: str, pauses: Sequence[float], manners: Sequence[str]) -> Submitted:
    draw = Random(f"{seed}/{run_id}")
    flow, manner, given = draw_flow(draw, pauses), draw.choice(manners), {"seconds": draw.choice([0.0, 0.05, 0.2])}
    return Submitted(run_id, flow, manner, given, draw.choice([None] * 9 + [draw.randint(1, 20)]))
