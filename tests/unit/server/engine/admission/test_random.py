"""Property tests of admission: no limit is exceeded, no attempt waits forever, and all places are released."""

from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from stepwave_server.engine.admission.limiter import Feedback
from stepwave_server.engine.admission.limits import Adaptive, Bound, Limit, Rate
from unit.server.engine.admission.harness import SECOND, AdmissionHarness, Applicant

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
_SUBMIT = st.tuples(
    st.just("submit"),
    st.sampled_from("abc"),
    st.integers(1, 4),
    st.sampled_from(_ACTIONS),
    st.sampled_from(["", "k", "l"]),
)
_RELEASE = st.tuples(st.just("release"), st.integers(0, 99), st.sampled_from(Feedback), st.sampled_from([0, 0.5, 2]))
_WITHDRAW = st.tuples(st.just("withdraw"), st.integers(0, 99))
_ADVANCE = st.tuples(st.just("advance"), st.sampled_from([0.1, 0.7, 3]))
_OPERATIONS = st.lists(_SUBMIT | _RELEASE | _WITHDRAW | _ADVANCE, max_size=60)


class _CheckedHarness(AdmissionHarness):
    """A harness that checks all limiters after every operation.

    Attributes:
        starts: The times of starts, by limiter.
    """

    def __init__(self, *limits: Limit, places: int) -> None:
        super().__init__(*limits, places=places)
        self.places = places
        self.starts: defaultdict[object, list[int]] = defaultdict(list)

    def admit(self) -> list[str]:
        found = super().admit()
        for name in found:
            for limiter in self.admitted[name].limiters:
                self.starts[limiter].append(self.now)
        self.check()
        return found

    def check(self) -> None:
        counts = Counter(limiter for ticket in self.admitted.values() for limiter in ticket.limiters)
        assert self.admission.in_flight == len(self.admitted) <= self.places
        for limiter, count in counts.items():
            assert limiter.in_flight == count
            if limiter.bound.concurrency is not None:
                assert count <= limiter.bound.concurrency
            if limiter.bound.adaptive is not None:
                assert count <= limiter.bound.adaptive.most
        for ticket in self.waiting.values():  # no attempt waits that could start
            assert self.admission.in_flight == self.places or any(
                limiter.cause(self.now) for limiter in ticket.limiters
            )

    def check_rates(self) -> None:
        """Check that no period has more starts than the rate and the burst allow."""
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


def _play(harness: AdmissionHarness, operations: list[tuple[object, ...]]) -> None:
    for operation in operations:
        match operation:
            case ("submit", str(run), int(count), str(action), str(key)):
                harness.submit(run, count, action=action, key=key)
            case ("release", int(index), Feedback() as feedback, int() | float() as after) if harness.admitted:
                harness.release(_nth(harness.admitted, index), feedback=feedback, retry_after=after)
            case ("withdraw", int(index)) if harness.waiting:
                harness.withdraw(_nth(harness.waiting, index))
            case ("advance", int() | float() as seconds):
                harness.advance(seconds)
        harness.admit()


def _nth(tickets: dict[str, Applicant], index: int) -> str:
    return list(tickets)[index % len(tickets)]


@settings(max_examples=300, deadline=None)
@given(_LIMITS, st.integers(1, 6), _OPERATIONS)
def test_no_limit_is_exceeded_and_no_attempt_waits_that_could_start(
    limits: list[Limit], places: int, operations: list[tuple[object, ...]]
) -> None:
    harness = _CheckedHarness(*limits, places=places)
    _play(harness, operations)
    harness.check_rates()


@settings(max_examples=200, deadline=None)
@given(_LIMITS, st.integers(1, 6), _OPERATIONS)
def test_all_attempts_are_admitted_and_all_places_are_released(
    limits: list[Limit], places: int, operations: list[tuple[object, ...]]
) -> None:
    harness = AdmissionHarness(*limits, places=places)
    _play(harness, operations)
    for _ in range(2_000):
        if not harness.waiting and not harness.admitted:
            break
        harness.release(*harness.admitted, feedback=Feedback.SUCCEEDED)
        harness.advance(1)
    assert not harness.waiting
    assert harness.admission.in_flight == 0
    limiters = [
        limiter
        for limit in harness.registry._limits
        for limiter in (limit.total, *limit.keys.values())
        if limiter is not None
    ]
    assert all((limiter.in_flight, limiter.lanes) == (0, 0) for limiter in limiters)
    harness.advance(600)
    assert harness.admission.next_time is None
    assert not any(vars(harness.admission)[name] for name in ("_runs", "_lanes", "_ready", "_blocked"))


@settings(max_examples=100, deadline=None)
@given(_LIMITS, st.integers(1, 6), _OPERATIONS)
def test_equal_histories_admit_equally(limits: list[Limit], places: int, operations: list[tuple[object, ...]]) -> None:
    first, second = (AdmissionHarness(*limits, places=places) for _ in range(2))
    for harness in (first, second):
        _play(harness, operations)
    assert (list(first.admitted), list(first.waiting)) == (list(second.admitted), list(second.waiting))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.integers(1, 4), st.booleans())
def test_no_waiting_run_is_more_than_one_turn_behind_another(widths: list[int], concurrency: int, keyed: bool) -> None:
    bound = Bound(concurrency=concurrency)
    harness = AdmissionHarness(Limit(actions="*", total=bound, per_key=Bound(concurrency=2) if keyed else None))
    for run, width in enumerate(widths):
        harness.submit("abcdef"[run], width, key="k" if run % 2 else "")
    served: Counter[str] = Counter()
    while admitted := harness.admit():
        served.update(name[0] for name in admitted)
        waiting = {name[0] for name in harness.waiting} if not keyed else set()
        assert max((served[run] for run in waiting), default=0) - min((served[run] for run in waiting), default=0) <= 1
        harness.release(*admitted)
    assert sum(served.values()) == sum(widths)
