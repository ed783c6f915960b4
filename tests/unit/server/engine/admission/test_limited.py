"""Tests of limited admission on virtual time: blocking limiters, the turns of runs, and obstacles."""

from stepwave_server.engine.admission.limiter import Feedback
from stepwave_server.engine.admission.limits import Adaptive, Bound, Limit, Rate
from unit.server.engine.admission.harness import SECOND, AdmissionHarness


def _limit(actions: str = "act", *, concurrency: int | None = None, rate: Rate | None = None) -> Limit:
    return Limit(actions=actions, total=Bound(concurrency=concurrency, rate=rate))


def _per_key(actions: str, concurrency: int) -> Limit:
    return Limit(actions=actions, per_key=Bound(concurrency=concurrency))


def _per_second(count: int, burst: int = 1) -> Rate:
    return Rate(count=count, per=SECOND, burst=burst)


# Concurrency.


def test_a_limit_bounds_the_attempts_of_its_action_and_no_others() -> None:
    harness = AdmissionHarness(_limit(concurrency=2))
    harness.submit("a", 4)
    harness.submit("a", 2, action="other")
    assert sorted(harness.admit()) == ["a0", "a1", "a4", "a5"]
    harness.release("a4")
    assert harness.admit() == []
    harness.release("a0")
    assert harness.admit() == ["a2"]


def test_a_prefix_counts_all_its_actions_together() -> None:
    harness = AdmissionHarness(_limit("search.*", concurrency=2))
    harness.submit("a", action="search.web")
    harness.submit("a", action="search.news")
    harness.submit("a", action="search.web")
    harness.submit("a", action="search")
    assert sorted(harness.admit()) == ["a0", "a1", "a3"]


def test_every_limit_that_covers_an_action_applies() -> None:
    harness = AdmissionHarness(
        _limit("*", concurrency=3), _limit("search.*", concurrency=2), _limit("search.web", concurrency=1)
    )
    harness.submit("a", 2, action="search.web")
    harness.submit("a", 2, action="search.news")
    harness.submit("a", 2, action="other")
    assert harness.admit() == ["a0", "a2", "a4"]
    harness.release("a4")
    assert harness.admit() == ["a5"]
    harness.release("a2", "a5")
    assert harness.admit() == ["a3"]


def test_runs_take_turns_at_a_limit() -> None:
    harness = AdmissionHarness(_limit(concurrency=1))
    harness.submit("a", 3)
    harness.submit("b", 1)
    harness.submit("c", 2)
    order = []
    while admitted := harness.admit():
        order += admitted
        harness.release(*admitted)
    assert order == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_runs_take_turns_at_the_servers_bound_even_if_one_has_many_keys() -> None:
    harness = AdmissionHarness(_per_key("act", 1), places=1)
    for number in range(4):
        harness.submit("a", key=f"tenant-{number}")
    harness.submit("b", 3, key="one")
    order = []
    while admitted := harness.admit():
        order += admitted
        harness.release(*admitted)
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2", "a3"]


def test_attempts_that_wait_for_one_limit_do_not_delay_attempts_of_others() -> None:
    harness = AdmissionHarness(_limit("slow", concurrency=1), places=2)
    harness.submit("a", 100, action="slow")
    harness.submit("a", 2, action="quick")
    assert harness.admit() == ["a0", "a100"]
    harness.release("a100")
    assert harness.admit() == ["a101"]


def test_a_withdrawn_attempt_frees_its_turn() -> None:
    harness = AdmissionHarness(_limit(concurrency=1))
    harness.submit("a", 1)
    harness.admit()
    harness.submit("b", 1)
    harness.submit("c", 1)
    harness.withdraw("b0")
    harness.release("a0")
    assert harness.admit() == ["c0"]


def test_an_unblocked_attempt_that_is_withdrawn_lets_the_next_one_start() -> None:
    harness = AdmissionHarness(_per_key("act", 1), _limit(concurrency=1))
    harness.submit("a", 1, key="x")
    harness.admit()
    harness.submit("b", 1, key="y")
    harness.submit("c", 1, key="z")
    harness.admit()
    harness.release("a0")  # unblocks the lane of b, whose attempt is withdrawn before it is tried
    harness.withdraw("b0")
    assert harness.admit() == ["c0"]


def test_lanes_without_waiting_attempts_are_forgotten() -> None:
    harness = AdmissionHarness(_limit(concurrency=1), _per_key("act", 1))
    names = harness.submit("a", 50, key="k")
    harness.admit()
    harness.withdraw(*names[1:])
    harness.release("a0")
    admission = harness.admission
    assert not any((vars(admission)[name]) for name in ("_runs", "_lanes", "_ready", "_blocked", "_checks"))


# Keys.


def test_keys_are_counted_separately() -> None:
    harness = AdmissionHarness(_per_key("act", 2))
    harness.submit("a", 3, key='"oslo"')
    harness.submit("a", 3, key='"rome"')
    assert harness.admit() == ["a0", "a3", "a1", "a4"]
    harness.release("a3")
    assert harness.admit() == ["a5"]


def test_steps_without_a_key_count_together() -> None:
    harness = AdmissionHarness(_per_key("act", 1))
    harness.submit("a", 2)
    harness.submit("a", 1, key="x")
    assert harness.admit() == ["a0", "a2"]


def test_a_limit_may_bound_the_total_and_each_key() -> None:
    limit = Limit(actions="act", total=Bound(concurrency=3), per_key=Bound(concurrency=2))
    harness = AdmissionHarness(limit)
    for key in "xyz":
        harness.submit(key, 3, key=key)
    assert harness.admit() == ["x0", "y0", "z0"]
    harness.release("y0", "z0")
    assert harness.admit() == ["x1", "y1"]
    harness.release("y1")
    assert harness.admit() == ["z1"]
    harness.release("z1")
    assert harness.admit() == ["y2"]  # two attempts of x are in flight


def test_unused_keys_are_forgotten() -> None:
    harness = AdmissionHarness(_per_key("act", 1))
    for number in range(1_000):
        harness.submit("a", key=str(number))
        harness.release(*harness.admit())
    assert len(harness.registry.covering("act")[0].keys) < 5


# Rates.


def test_a_rate_spreads_starts_evenly() -> None:
    harness = AdmissionHarness(_limit(rate=_per_second(4)))
    harness.submit("a", 4)
    assert harness.admit() == ["a0"]
    assert harness.advance(0.249) == []
    assert harness.advance(0.001) == ["a1"]
    assert harness.advance(0.5) == ["a2", "a3"]


def test_a_burst_may_start_together_after_a_quiet_time() -> None:
    harness = AdmissionHarness(_limit(rate=_per_second(1, burst=3)))
    harness.submit("a", 5)
    assert harness.admit() == ["a0", "a1", "a2"]
    harness.release("a0", "a1", "a2")
    assert harness.advance(1) == ["a3"]
    assert harness.advance(1) == ["a4"]
    harness.advance(2)
    harness.submit("a", 4)
    assert harness.admit() == ["a5", "a6"]  # two of the three tokens are back
    assert harness.advance(1) == ["a7"]


def test_a_rate_that_does_not_divide_evenly_is_used_and_not_exceeded() -> None:
    harness = AdmissionHarness(_limit(rate=_per_second(3)))
    harness.submit("a", 400)
    assert 300 <= len(harness.admit()) + len(harness.advance(100)) <= 301


def test_the_next_time_is_set_only_while_time_alone_may_admit_an_attempt() -> None:
    harness = AdmissionHarness(_limit(rate=_per_second(2)), _limit(concurrency=1))
    harness.submit("a", 2)
    harness.admit()
    assert harness.admission.next_time == SECOND // 2
    assert harness.advance(1) == []
    assert harness.admission.next_time is None  # now it waits for the place
    harness.release("a0")
    assert harness.admit() == ["a1"]


# Obstacles.


def test_an_obstacle_names_the_limit() -> None:
    harness = AdmissionHarness(_limit("act", concurrency=1), _limit("paced", rate=_per_second(2)), _per_key("keyed", 1))
    for action in ("act", "paced", "keyed"):
        harness.submit("a", 2, action=action)
    harness.admit()
    assert harness.obstacle_of("a1") == ("concurrency", 'the only place of the limit "act" is taken')
    assert harness.obstacle_of("a3") == ("rate", 'the limit "paced" lets 2 start every 1 s')
    assert harness.obstacle_of("a5") == ("concurrency", 'the only place of the limit "keyed" for this key is taken')
    found = {group.obstacle.limit: group.size for group in harness.admission.waiting("a", harness.now)}
    assert found == {"act": 1, "paced": 1, "keyed": 1}


# Refusals.

ADAPTIVE = Limit(actions="act", total=Bound(adaptive=Adaptive(initial=4, least=1, most=16)))


def test_a_refusal_lowers_the_bound_at_once_for_all_runs() -> None:
    harness = AdmissionHarness(ADAPTIVE)
    harness.submit("a", 4)
    harness.submit("b", 4)
    assert harness.admit() == ["a0", "b0", "a1", "b1"]
    harness.release("a0", feedback=Feedback.REFUSED)
    assert harness.admit() == []
    harness.release("b0", feedback=Feedback.SUCCEEDED)
    assert harness.admit() == ["a2"]


def test_a_refusal_that_names_a_time_pauses_the_action_until_then() -> None:
    harness = AdmissionHarness(ADAPTIVE)
    harness.submit("a", 8)
    assert len(harness.admit()) == 4
    harness.release("a0", feedback=Feedback.REFUSED, retry_after=2)
    harness.release("a1", "a2", "a3", feedback=Feedback.SUCCEEDED)
    assert harness.admit() == []
    assert harness.obstacle_of("a4") == ("rate", '"act" is paused for another 2 s, as its service asked')
    assert [str(it) for it in harness.admission.waiting_at(harness.waiting["a4"].limiters[0])] == [
        "a4",
        "a5",
        "a6",
        "a7",
    ]
    assert harness.advance(1.99) == []
    assert harness.advance(0.01) == ["a4", "a5", "a6"]


def test_a_longer_pause_counts_and_a_shorter_one_does_not() -> None:
    harness = AdmissionHarness(ADAPTIVE)
    harness.submit("a", 5)
    harness.admit()
    harness.release("a0", feedback=Feedback.REFUSED, retry_after=2)
    harness.release("a1", feedback=Feedback.REFUSED, retry_after=5)
    harness.release("a2", feedback=Feedback.REFUSED, retry_after=1)
    assert harness.advance(4.9) == []
    assert harness.advance(0.1) == ["a4"]


def test_refusals_do_not_affect_limits_that_are_not_adaptive() -> None:
    harness = AdmissionHarness(_limit(concurrency=2))
    harness.submit("a", 3)
    harness.admit()
    harness.release("a0", feedback=Feedback.REFUSED, retry_after=60)
    assert harness.admit() == ["a2"]
