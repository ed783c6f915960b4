"""Whatever comes in whatever order: no limit is ever passed, nobody waits for ever, and every place comes back."""

from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from stepwave_server.engine.admission.limiter import Feedback
from stepwave_server.engine.admission.limits import Adaptive, Bound, Limit, Rate
from unit.server.engine.admission.script import SECOND, Applicant, Applicants

_ACTIONS = ("one.a", "one.b", "two")
_PATTERNS = ("one.a", "one.*", "two", "*")
_RATES = st.builds(Rate, count=st.integers(1, 5), per=st.sampled_from([SECOND, 3 * SECOND]), burst=st.integers(1, 4))
_BOUNDS = st.builds(
    Bound,
    concurrency=st.none() | st.integers(1, 4),
    rate=st.none() | _RATES,
    adaptive=st.none() | st.just(Adaptive(initial=3, least=1, most=5)),
)
_LIMITS = st.lists(
    st.builds(Limit, actions=st.sampled_from(_PATTERNS), total=st.none() | _BOUNDS, per_key=st.none() | _BOUNDS),
    max_size=4,
)
_ASK = st.tuples(
    st.just("ask"),
    st.sampled_from("abc"),
    st.integers(1, 4),
    st.sampled_from(_ACTIONS),
    st.sampled_from(["", "k", "l"]),
)
_END = st.tuples(st.just("end"), st.integers(0, 99), st.sampled_from(Feedback), st.sampled_from([0, 0.5, 2]))
_LEAVE = st.tuples(st.just("leave"), st.integers(0, 99))
_PASS = st.tuples(st.just("pass"), st.sampled_from([0.1, 0.7, 3]))
_STEPS = st.lists(_ASK | _END | _LEAVE | _PASS, max_size=60)


class _Watched(Applicants):
    """A applicants that checks every limiter after everything that happens.

    Attributes:
        starts: When attempts passed each limiter.
    """

    def __init__(self, *limits: Limit, places: int) -> None:
        super().__init__(*limits, places=places)
        self.places = places
        self.starts: defaultdict[object, list[int]] = defaultdict(list)

    def enter(self) -> list[str]:
        found = super().enter()
        for name in found:
            for limiter in self.inside[name].limiters:
                self.starts[limiter].append(self.now)
        self.check()
        return found

    def check(self) -> None:
        held = Counter(limiter for ticket in self.inside.values() for limiter in ticket.limiters)
        assert self.admission.in_flight == len(self.inside) <= self.places
        for limiter, count in held.items():
            assert limiter.in_flight == count
            if limiter.bound.concurrency is not None:
                assert count <= limiter.bound.concurrency
            if limiter.bound.adaptive is not None:
                assert count <= limiter.bound.adaptive.most
        for ticket in self.waiting.values():  # nobody waits who could go
            assert self.admission.in_flight == self.places or any(
                limiter.cause(self.now) for limiter in ticket.limiters
            )

    def check_rates(self) -> None:
        """Check that no stretch of time saw more starts than its rate and burst allow."""
        limiters = {
            limiter: limiter.bound.rate
            for limit in self.registry._limits
            for limiter in (limit.total, *limit.keys.values())
            if limiter
        }
        for limiter, rate in limiters.items():
            times = self.starts[limiter]
            for first, begin in enumerate(times) if rate is not None else ():
                for last, end in enumerate(times[first:], 1):
                    assert rate is not None
                    assert last <= rate.burst + (end - begin) * rate.count // rate.per


def _play(applicants: Applicants, steps: list[tuple[object, ...]]) -> None:
    for step in steps:
        match step:
            case ("ask", str(run), int(count), str(action), str(key)):
                applicants.ask(run, count, action=action, key=key)
            case ("end", int(index), Feedback() as feedback, int() | float() as after) if applicants.inside:
                applicants.end(_nth(applicants.inside, index), feedback=feedback, retry_after=after)
            case ("leave", int(index)) if applicants.waiting:
                applicants.leave(_nth(applicants.waiting, index))
            case ("pass", int() | float() as seconds):
                applicants.pass_time(seconds)
        applicants.enter()


def _nth(tickets: dict[str, Applicant], index: int) -> str:
    return list(tickets)[index % len(tickets)]


@settings(max_examples=300, deadline=None)
@given(_LIMITS, st.integers(1, 6), _STEPS)
def test_no_limit_is_passed_and_nobody_waits_who_could_go(
    limits: list[Limit], places: int, steps: list[tuple[object, ...]]
) -> None:
    applicants = _Watched(*limits, places=places)
    _play(applicants, steps)
    applicants.check_rates()


@settings(max_examples=200, deadline=None)
@given(_LIMITS, st.integers(1, 6), _STEPS)
def test_everybody_gets_in_and_every_place_comes_back(
    limits: list[Limit], places: int, steps: list[tuple[object, ...]]
) -> None:
    applicants = Applicants(*limits, places=places)
    _play(applicants, steps)
    for _ in range(2_000):
        if not applicants.waiting and not applicants.inside:
            break
        applicants.end(*applicants.inside, feedback=Feedback.SUCCEEDED)
        applicants.pass_time(1)
    assert not applicants.waiting
    assert applicants.admission.in_flight == 0
    limiters = [
        limiter
        for limit in applicants.registry._limits
        for limiter in (limit.total, *limit.keys.values())
        if limiter is not None
    ]
    assert all((limiter.in_flight, limiter.lanes) == (0, 0) for limiter in limiters)
    applicants.pass_time(600)
    assert applicants.admission.next_time is None
    assert not any(vars(applicants.admission)[name] for name in ("_runs", "_lanes", "_ready", "_blocked"))


@settings(max_examples=100, deadline=None)
@given(_LIMITS, st.integers(1, 6), _STEPS)
def test_equal_histories_admit_equally(limits: list[Limit], places: int, steps: list[tuple[object, ...]]) -> None:
    first, second = (Applicants(*limits, places=places) for _ in range(2))
    for applicants in (first, second):
        _play(applicants, steps)
    assert (list(first.inside), list(first.waiting)) == (list(second.inside), list(second.waiting))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.integers(1, 4), st.booleans())
def test_no_run_is_more_than_a_turn_behind_another_that_waits_too(
    widths: list[int], concurrency: int, keyed: bool
) -> None:
    bound = Bound(concurrency=concurrency)
    applicants = Applicants(Limit(actions="*", total=bound, per_key=Bound(concurrency=2) if keyed else None))
    for run, width in enumerate(widths):
        applicants.ask("abcdef"[run], width, key="k" if run % 2 else "")
    served: Counter[str] = Counter()
    while entered := applicants.enter():
        served.update(name[0] for name in entered)
        waiting = {name[0] for name in applicants.waiting} if not keyed else set()
        assert max((served[run] for run in waiting), default=0) - min((served[run] for run in waiting), default=0) <= 1
        applicants.end(*entered)
    assert sum(served.values()) == sum(widths)
