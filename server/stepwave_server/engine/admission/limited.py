"""Admission with limits: attempts start as the gates allow that each of them passes. Pure: it is given the time.

Attempts that pass the same gates wait in one lane, and in it each run has a queue. A queue's first attempt has a turn,
given when it became the first: turns are counted up by runs, as start-time fair queueing does (Goyal, Vin and Cheng,
1996), so that every run, however wide, goes once in a round, in a lane as over all lanes. A lane that finds a gate shut
waits at that gate; a gate that opens sends on the lane whose turn is first, and the next one only when that one is
through, or stuck elsewhere. So an admission costs O(log of those who wait), and nobody is passed over for ever.
"""

import heapq
from collections import deque
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

from stepwave_server.engine.admission.base import Group, Held, Obstacle, Ticket, server_full
from stepwave_server.engine.admission.limiter import Feedback, Limiter
from stepwave_server.engine.admission.priority_queue import Priority, PriorityQueue

__all__ = ["LimitedAdmission"]


T = TypeVar("T", bound=Ticket)


class _Run(Generic[T]):
    """A run of which something waits: the turn that its next queue gets at the earliest, and its queues by lane."""

    __slots__ = ("queues", "turn")

    def __init__(self) -> None:
        self.turn = 0
        self.queues: dict[_Lane[T], _Queue[T]] = {}


class _Queue(Generic[T]):
    """Attempts of one run in one lane; `waiting` counts those that are not withdrawn."""

    __slots__ = ("run", "run_key", "tickets", "waiting")

    def __init__(self, run: _Run[T], run_key: Hashable) -> None:
        self.run = run
        self.run_key = run_key
        self.tickets: deque[T] = deque()
        self.waiting = 0


class _Lane(Generic[T]):
    """Attempts that pass the same gates.

    Attributes:
        queues: Its queues by run.
        order: Those queues, by their turns.
        at: The gate where it waits; `None`: it is to be tried.
        sent_by: The gate that sent it on and waits for it to get through.
    """

    __slots__ = ("at", "gates", "order", "queues", "sent_by")

    def __init__(self, gates: tuple[Limiter, ...]) -> None:
        self.gates = gates
        self.queues: dict[Hashable, _Queue[T]] = {}
        self.order: PriorityQueue[_Queue[T]] = PriorityQueue()
        self.at: Limiter | None = None
        self.sent_by: Limiter | None = None


class _Post(Generic[T]):
    """A gate's waiting lanes, whether one that it sent on is on its way, and when it is to be looked at again."""

    __slots__ = ("alarm", "lanes", "sent")

    def __init__(self) -> None:
        self.lanes: PriorityQueue[_Lane[T]] = PriorityQueue()
        self.sent = False
        self.alarm: int | None = None


class LimitedAdmission(Generic[T]):
    """Lets at most `limit` attempts be in flight, and only as the gates allow that each of them passes.

    Attributes:
        limit: Attempts in flight at once, over all runs.
        in_flight: How many there are now.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self._runs: dict[Hashable, _Run[T]] = {}
        self._lanes: dict[tuple[Limiter, ...], _Lane[T]] = {}
        self._open: PriorityQueue[_Lane[T]] = PriorityQueue()
        self._posts: dict[Limiter, _Post[T]] = {}
        self._alarms: list[tuple[int, int, Limiter]] = []
        self._numbers = count()
        self._turn = 0

    @property
    def next_time(self) -> int | None:
        """When to call `admit` again although nothing has ended; `None`: that would be in vain."""
        return self._alarms[0][0] if self._alarms else None

    def submit(self, ticket: T) -> None:
        """Put an attempt at the end of its run's queue."""
        lane = self._lanes.get(ticket.gates)
        if lane is None:
            lane = self._begin_lane(ticket.gates)
        queue = lane.queues.get(ticket.run_key)
        if queue is None:
            queue = self._begin_queue(lane, ticket.run_key)
        queue.tickets.append(ticket)
        queue.waiting += 1

    def withdraw(self, ticket: T, now: int) -> None:
        """Let an attempt wait no more that was submitted and not admitted."""
        ticket.withdrawn = True
        lane = self._lanes[ticket.gates]
        queue = lane.queues[ticket.run_key]
        queue.waiting -= 1
        if not queue.waiting:
            self._end_queue(lane, queue)
            self._settle(lane)
            if not lane.queues:
                self._arrived(lane, now)
                if lane.at is not None:
                    self._look(lane.at, now)

    def admit(self, now: int) -> T | None:
        """Return the attempt whose turn it is, its places taken; `None` if none may start now."""
        if self._alarms:
            self._ring(now)
        while self.in_flight < self.limit and (found := self._open.first()) is not None:
            (turn, _), lane = found
            gate = next((gate for gate in lane.gates if gate.cause(now) is not None), None)
            if gate is None:
                ticket = self._take(lane, turn, now)
                self._arrived(lane, now)
                return ticket
            self._wait(lane, gate, now)
            self._arrived(lane, now)
        return None

    def release(self, ticket: T, verdict: Feedback, retry_after: int, now: int) -> None:
        """Give back the places of an attempt that has ended."""
        self.in_flight -= 1
        held, ticket.held = ticket.held, ()
        for gate, mark in held:
            gate.give(mark, verdict, retry_after, now)
            self._look(gate, now)

    def obstacle(self, ticket: T, now: int) -> Obstacle:
        """Say what an attempt that was submitted and not admitted waits for."""
        return self._obstacle(self._lanes[ticket.gates], now)

    def waiting(self, run_key: Hashable, now: int) -> Iterator[Group[T]]:
        """Yield what attempts of a run wait for, lane by lane."""
        run = self._runs.get(run_key)
        for lane, queue in run.queues.items() if run is not None else ():
            yield Group(self._obstacle(lane, now), queue.waiting, _in(queue))

    def waiting_at(self, gate: Limiter) -> Iterator[T]:
        """Yield the attempts that a gate holds up, in no order."""
        post = self._posts.get(gate)
        for lane in post.lanes if post is not None else ():
            for queue in lane.queues.values():
                yield from _in(queue)

    def _obstacle(self, lane: _Lane[T], now: int) -> Obstacle:
        for gate in (lane.at, *lane.gates):
            if gate is not None and (cause := gate.cause(now)) is not None:
                return Obstacle(cause, gate.why(now), gate.actions)
        return server_full(self.limit)

    # Lanes and queues begin with their first attempt and end with their last.

    def _begin_lane(self, gates: tuple[Limiter, ...]) -> _Lane[T]:
        lane = self._lanes[gates] = _Lane(gates)
        for gate in gates:
            gate.passers += 1
        return lane

    def _begin_queue(self, lane: _Lane[T], run_key: Hashable) -> _Queue[T]:
        run = self._runs.get(run_key)
        if run is None:
            run = self._runs[run_key] = _Run()
        queue = lane.queues[run_key] = run.queues[lane] = _Queue(run, run_key)
        lane.order.put(queue, self._next_turn(run))
        self._settle(lane)
        return queue

    def _next_turn(self, run: _Run[T]) -> Priority:
        turn = max(self._turn + 1, run.turn)
        run.turn = turn + 1
        return turn, next(self._numbers)

    def _end_queue(self, lane: _Lane[T], queue: _Queue[T]) -> None:
        queue.tickets.clear()
        lane.order.leave(queue)
        del lane.queues[queue.run_key]
        del queue.run.queues[lane]
        if not queue.run.queues:
            del self._runs[queue.run_key]

    def _settle(self, lane: _Lane[T]) -> None:
        """Let a lane wait where it does by the turn of its first queue; end it if there is none."""
        line = self._open if lane.at is None else self._posts[lane.at].lanes
        first = lane.order.first()
        if first is not None:
            line.put(lane, first[0])
            return
        line.leave(lane)
        del self._lanes[lane.gates]
        for gate in lane.gates:
            gate.passers -= 1

    def _take(self, lane: _Lane[T], turn: int, now: int) -> T:
        first = lane.order.first()
        assert first is not None, "a lane that is to be tried has a queue"
        queue = first[1]
        ticket = queue.tickets.popleft()
        while ticket.withdrawn:
            ticket = queue.tickets.popleft()
        self._turn = max(self._turn, turn)
        queue.waiting -= 1
        if queue.waiting:
            lane.order.put(queue, self._next_turn(queue.run))
        else:
            self._end_queue(lane, queue)
        self._settle(lane)
        self.in_flight += 1
        if lane.gates:
            ticket.held = tuple(Held(gate, gate.take(now)) for gate in lane.gates)
        return ticket

    # Gates hold lanes up, and send them on one by one.

    def _wait(self, lane: _Lane[T], gate: Limiter, now: int) -> None:
        """Let a lane wait at a gate that is shut."""
        self._open.leave(lane)
        self._posts.setdefault(gate, _Post())
        lane.at = gate
        self._settle(lane)
        self._look(gate, now)

    def _look(self, gate: Limiter, now: int) -> None:
        """Send on the first lane that waits at a gate, if that is open; else come back when time may have opened it."""
        post = self._posts.get(gate)
        if post is None or post.sent:
            return
        first = post.lanes.first()
        if first is None:
            if post.alarm is None:
                del self._posts[gate]
        elif gate.cause(now) is None:
            self._send(post, gate, first[1])
        else:
            self._set_alarm(post, gate, now)

    def _send(self, post: _Post[T], gate: Limiter, lane: _Lane[T]) -> None:
        post.lanes.leave(lane)
        post.sent = True
        lane.at, lane.sent_by = None, gate
        self._settle(lane)

    def _arrived(self, lane: _Lane[T], now: int) -> None:
        """Let the gate that sent a lane on send the next one: this one got through, is stuck elsewhere, or is gone."""
        gate, lane.sent_by = lane.sent_by, None
        if gate is not None:
            self._posts[gate].sent = False
            self._look(gate, now)

    def _set_alarm(self, post: _Post[T], gate: Limiter, now: int) -> None:
        due = gate.due(now)
        if due > now and (post.alarm is None or due < post.alarm):
            post.alarm = due
            heapq.heappush(self._alarms, (due, next(self._numbers), gate))

    def _ring(self, now: int) -> None:
        while self._alarms and self._alarms[0][0] <= now:
            due, _, gate = heapq.heappop(self._alarms)
            post = self._posts.get(gate)
            if post is not None and post.alarm == due:
                post.alarm = None
                self._look(gate, now)


def _in(queue: _Queue[T]) -> Iterator[T]:
    return (ticket for ticket in queue.tickets if not ticket.withdrawn)
