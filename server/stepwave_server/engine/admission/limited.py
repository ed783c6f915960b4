"""Admission with limits: attempts start as their limiters allow. Pure: the time is given.

Attempts of a namespace that need the same limiters wait in one lane. In a lane, each run has a queue. The first
attempt of a queue has a turn, given when it became the first. Turns are counted up by runs, as in start-time fair
queueing (Goyal, Vin and Cheng, 1996): every run goes once in a round, however wide it is, in a lane as over all lanes
of its namespace. Namespaces have their shares: of the server's places, and of those of a limiter that blocks lanes.

A lane that finds a limiter full is blocked by that limiter. A limiter with room again unblocks the lane whose turn is
first, of the namespace that comes first. It unblocks the next one only when that lane got through, or is blocked
elsewhere. So an admission costs O(log of the waiting attempts), and no attempt is passed over for ever.
"""

import heapq
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

from stepwave_server.engine.admission.base import Group, LimiterPlace, Obstacle, Permit, Ticket, server_full
from stepwave_server.engine.admission.limiter import Feedback, Limiter
from stepwave_server.engine.admission.priority_queue import Priority, PriorityQueue
from stepwave_server.engine.admission.shares import SharesQueue, WeightOf, equal_weights

__all__ = ["LimitedAdmission"]


T = TypeVar("T", bound=Ticket)

NO_PLACES = Permit()


class _Run(Generic[T]):
    """A run with waiting attempts: the earliest turn of its next queue, and its queues by lane."""

    __slots__ = ("queues", "turn")

    def __init__(self) -> None:
        self.turn = 0
        self.queues: dict[_Lane[T], _Queue[T]] = {}


class _Queue(Generic[T]):
    """Attempts of one run in one lane. Withdrawn ones leave when their turn comes."""

    __slots__ = ("run", "run_key", "tickets", "withdrawn")

    def __init__(self, run: _Run[T], run_key: Hashable) -> None:
        self.run = run
        self.run_key = run_key
        self.tickets: deque[T] = deque()
        self.withdrawn: set[T] = set()

    def __len__(self) -> int:
        return len(self.tickets) - len(self.withdrawn)

    def __iter__(self) -> Iterator[T]:
        return (ticket for ticket in self.tickets if ticket not in self.withdrawn)

    def take(self) -> T:
        """Return the first attempt, and remove it."""
        while (ticket := self.tickets.popleft()) in self.withdrawn:
            self.withdrawn.remove(ticket)
        return ticket


class _Lane(Generic[T]):
    """Attempts of a namespace that need the same limiters.

    Attributes:
        namespace: The namespace.
        limiters: The limiters.
        queues: Its queues by run.
        order: Those queues, by their turns.
        blocked_by: The limiter that blocks it; `None`: it is ready to be tried.
        unblocked_by: The limiter that unblocked it, and waits for it to get through.
    """

    __slots__ = ("blocked_by", "limiters", "namespace", "order", "queues", "unblocked_by")

    def __init__(self, namespace: str, limiters: tuple[Limiter, ...]) -> None:
        self.namespace = namespace
        self.limiters = limiters
        self.queues: dict[Hashable, _Queue[T]] = {}
        self.order: PriorityQueue[_Queue[T]] = PriorityQueue()
        self.blocked_by: Limiter | None = None
        self.unblocked_by: Limiter | None = None


class _Blocked(Generic[T]):
    """The lanes that a limiter blocks.

    Attributes:
        lanes: The lanes, by the shares of their namespaces and the turns of their first queues.
        trying: A lane that it unblocked has not got through yet.
        check_time: When the limiter is to be checked again; `None`: when a permit comes back.
    """

    __slots__ = ("check_time", "lanes", "trying")

    def __init__(self, weight_of: WeightOf) -> None:
        self.lanes: SharesQueue[_Lane[T]] = SharesQueue(weight_of)
        self.trying = False
        self.check_time: int | None = None


class LimitedAdmission(Generic[T]):
    """Admits attempts up to a bound, and only as their limiters allow.

    Attributes:
        limit: The bound of attempts in flight, over all runs.
        in_flight: Attempts in flight now.
    """

    def __init__(self, limit: int, weight_of: WeightOf = equal_weights) -> None:
        self.limit = limit
        self.in_flight = 0
        self._weight_of = weight_of
        self._runs: dict[Hashable, _Run[T]] = {}
        self._lanes: dict[tuple[str, tuple[Limiter, ...]], _Lane[T]] = {}
        self._ready: SharesQueue[_Lane[T]] = SharesQueue(weight_of)
        self._blocked: dict[Limiter, _Blocked[T]] = {}
        self._checks: list[tuple[int, int, Limiter]] = []
        self._numbers = count()
        self._turns: defaultdict[str, int] = defaultdict(int)

    @property
    def next_time(self) -> int | None:
        """The time at which to call `admit` again even if nothing has ended; `None`: no need."""
        return self._checks[0][0] if self._checks else None

    def submit(self, ticket: T) -> None:
        """Put an attempt at the end of its run's queue."""
        lane = self._lanes.get((ticket.namespace, ticket.limiters))
        if lane is None:
            lane = self._begin_lane(ticket.namespace, ticket.limiters)
        queue = lane.queues.get(ticket.run_key)
        if queue is None:
            queue = self._begin_queue(lane, ticket.run_key)
        queue.tickets.append(ticket)

    def withdraw(self, ticket: T, now: int) -> None:
        """Remove an attempt that was submitted and not admitted."""
        lane = self._lanes[ticket.namespace, ticket.limiters]
        queue = lane.queues[ticket.run_key]
        queue.withdrawn.add(ticket)
        if not len(queue):
            self._end_queue(lane, queue)
            self._requeue(lane)
            if not lane.queues:
                self._got_through(lane, now)
                if lane.blocked_by is not None:
                    self._check(lane.blocked_by, now)

    def admit(self, now: int) -> tuple[T, Permit] | None:
        """Return the next attempt that may start, with its permit; `None`: none may start now."""
        if self._checks:
            self._check_due(now)
        while self.in_flight < self.limit and (found := self._ready.first()) is not None:
            (turn, _), lane = found
            full = next((limiter for limiter in lane.limiters if limiter.cause(now) is not None), None)
            if full is None:
                admitted = self._take(lane, turn, now)
                self._got_through(lane, now)
                return admitted
            self._block(lane, full, now)
            self._got_through(lane, now)
        if self.in_flight < self.limit:
            self._ready.shares.reset()
        return None

    def occupy(self) -> Permit:
        """Take a place, even beyond the bound."""
        self.in_flight += 1
        return NO_PLACES

    def release(self, permit: Permit, feedback: Feedback, retry_after: int, now: int) -> None:
        """Take a permit back."""
        self.in_flight -= 1
        for limiter, mark in permit.places:
            limiter.give(mark, feedback, retry_after, now)
            self._check(limiter, now)

    def review(self, limiter: Limiter, now: int) -> None:
        """Unblock lanes if a limiter whose bound has changed has room now."""
        self._check(limiter, now)

    def obstacle(self, ticket: T, now: int) -> Obstacle:
        """Return what an attempt that was submitted and not admitted waits for."""
        return self._obstacle(self._lanes[ticket.namespace, ticket.limiters], now)

    def waiting(self, run_key: Hashable, now: int) -> Iterator[Group[T]]:
        """Yield the waiting attempts of a run, lane by lane."""
        run = self._runs.get(run_key)
        for lane, queue in run.queues.items() if run is not None else ():
            yield Group(self._obstacle(lane, now), len(queue), iter(queue))

    def waiting_at(self, limiter: Limiter) -> Iterator[T]:
        """Yield the attempts that a limiter blocks, in no order."""
        blocked = self._blocked.get(limiter)
        for lane in blocked.lanes if blocked is not None else ():
            for queue in lane.queues.values():
                yield from queue

    def _obstacle(self, lane: _Lane[T], now: int) -> Obstacle:
        for limiter in (lane.blocked_by, *lane.limiters):
            if limiter is not None and (cause := limiter.cause(now)) is not None:
                return Obstacle(cause, limiter.why(now), limiter.actions)
        return server_full(self.limit)

    # Lanes and queues begin with their first attempt and end with their last.

    def _begin_lane(self, namespace: str, limiters: tuple[Limiter, ...]) -> _Lane[T]:
        lane = self._lanes[namespace, limiters] = _Lane(namespace, limiters)
        for limiter in limiters:
            limiter.lanes += 1
        return lane

    def _begin_queue(self, lane: _Lane[T], run_key: Hashable) -> _Queue[T]:
        run = self._runs.get(run_key)
        if run is None:
            run = self._runs[run_key] = _Run()
        queue = lane.queues[run_key] = run.queues[lane] = _Queue(run, run_key)
        lane.order.put(queue, self._next_turn(lane, run))
        self._requeue(lane)
        return queue

    def _next_turn(self, lane: _Lane[T], run: _Run[T]) -> Priority:
        turn = max(self._turns[lane.namespace] + 1, run.turn)
        run.turn = turn + 1
        return turn, next(self._numbers)

    def _end_queue(self, lane: _Lane[T], queue: _Queue[T]) -> None:
        lane.order.remove(queue)
        del lane.queues[queue.run_key]
        del queue.run.queues[lane]
        if not queue.run.queues:
            del self._runs[queue.run_key]

    def _requeue(self, lane: _Lane[T]) -> None:
        """Place a lane, among the ready or the blocked ones, by the turn of its first queue; end it if it has none."""
        lanes = self._ready if lane.blocked_by is None else self._blocked[lane.blocked_by].lanes
        first = lane.order.first()
        if first is not None:
            lanes.put(lane, first[0])
            return
        lanes.remove(lane)
        del self._lanes[lane.namespace, lane.limiters]
        for limiter in lane.limiters:
            limiter.lanes -= 1

    def _take(self, lane: _Lane[T], turn: int, now: int) -> tuple[T, Permit]:
        first = lane.order.first()
        assert first is not None, "a ready lane has a queue"
        queue = first[1]
        ticket = queue.take()
        self._turns[lane.namespace] = max(self._turns[lane.namespace], turn)
        if len(queue):
            lane.order.put(queue, self._next_turn(lane, queue.run))
        else:
            self._end_queue(lane, queue)
        self._requeue(lane)
        self._charge(lane)
        self.in_flight += 1
        if not lane.limiters:
            return ticket, NO_PLACES
        return ticket, Permit(tuple(LimiterPlace(limiter, limiter.take(now)) for limiter in lane.limiters))

    def _charge(self, lane: _Lane[T]) -> None:
        """Count a place of a namespace, among the server's and among those of the limiters that block lanes."""
        self._ready.shares.charge(lane.namespace)
        for limiter in lane.limiters:
            if (blocked := self._blocked.get(limiter)) is not None:
                blocked.lanes.shares.charge(lane.namespace)

    # Limiters block lanes, and unblock them one by one.

    def _block(self, lane: _Lane[T], limiter: Limiter, now: int) -> None:
        self._ready.remove(lane)
        if limiter not in self._blocked:
            self._blocked[limiter] = _Blocked(self._weight_of)
        lane.blocked_by = limiter
        self._requeue(lane)
        self._check(limiter, now)

    def _check(self, limiter: Limiter, now: int) -> None:
        """Unblock the first lane that a limiter blocks, if it has room; else check again when time may give it room."""
        blocked = self._blocked.get(limiter)
        if blocked is None or blocked.trying:
            return
        first = blocked.lanes.first()
        if first is None:
            if blocked.check_time is None:
                del self._blocked[limiter]
        elif limiter.cause(now) is None:
            self._unblock(blocked, limiter, first[1])
        else:
            self._schedule_check(blocked, limiter, now)

    def _unblock(self, blocked: _Blocked[T], limiter: Limiter, lane: _Lane[T]) -> None:
        blocked.lanes.remove(lane)
        blocked.trying = True
        lane.blocked_by, lane.unblocked_by = None, limiter
        self._requeue(lane)

    def _got_through(self, lane: _Lane[T], now: int) -> None:
        """Let the limiter that unblocked a lane unblock the next one. The lane got through, is blocked or has ended."""
        limiter, lane.unblocked_by = lane.unblocked_by, None
        if limiter is not None:
            self._blocked[limiter].trying = False
            self._check(limiter, now)

    def _schedule_check(self, blocked: _Blocked[T], limiter: Limiter, now: int) -> None:
        due = limiter.due(now)
        if due > now and (blocked.check_time is None or due < blocked.check_time):
            blocked.check_time = due
            heapq.heappush(self._checks, (due, next(self._numbers), limiter))

    def _check_due(self, now: int) -> None:
        while self._checks and self._checks[0][0] <= now:
            due, _, limiter = heapq.heappop(self._checks)
            blocked = self._blocked.get(limiter)
            if blocked is not None and blocked.check_time == due:
                blocked.check_time = None
                self._check(limiter, now)
