"""Limits: who waits at which limiter, whose turn it is when one opens, and what it says meanwhile. On virtual time."""

from stepwave_server.engine.admission.limiter import Feedback
from stepwave_server.engine.admission.limits import Adaptive, Bound, Limit, Rate
from unit.server.engine.admission.script import SECOND, Applicants


def _limit(actions: str = "act", *, concurrency: int | None = None, rate: Rate | None = None) -> Limit:
    return Limit(actions=actions, total=Bound(concurrency=concurrency, rate=rate))


def _per_key(actions: str, concurrency: int) -> Limit:
    return Limit(actions=actions, per_key=Bound(concurrency=concurrency))


def _per_second(count: int, burst: int = 1) -> Rate:
    return Rate(count=count, per=SECOND, burst=burst)


# Concurrency.


def test_a_limit_bounds_the_attempts_of_its_action_and_no_others() -> None:
    applicants = Applicants(_limit(concurrency=2))
    applicants.ask("a", 4)
    applicants.ask("a", 2, action="other")
    assert sorted(applicants.enter()) == ["a0", "a1", "a4", "a5"]
    applicants.end("a4")
    assert applicants.enter() == []
    applicants.end("a0")
    assert applicants.enter() == ["a2"]


def test_a_prefix_counts_all_its_actions_together() -> None:
    applicants = Applicants(_limit("search.*", concurrency=2))
    applicants.ask("a", action="search.web")
    applicants.ask("a", action="search.news")
    applicants.ask("a", action="search.web")
    applicants.ask("a", action="search")
    assert sorted(applicants.enter()) == ["a0", "a1", "a3"]


def test_every_limit_that_covers_an_action_applies() -> None:
    applicants = Applicants(
        _limit("*", concurrency=3), _limit("search.*", concurrency=2), _limit("search.web", concurrency=1)
    )
    applicants.ask("a", 2, action="search.web")
    applicants.ask("a", 2, action="search.news")
    applicants.ask("a", 2, action="other")
    assert applicants.enter() == ["a0", "a2", "a4"]
    applicants.end("a4")
    assert applicants.enter() == ["a5"]
    applicants.end("a2", "a5")
    assert applicants.enter() == ["a3"]


def test_runs_take_turns_at_a_limit() -> None:
    applicants = Applicants(_limit(concurrency=1))
    applicants.ask("a", 3)
    applicants.ask("b", 1)
    applicants.ask("c", 2)
    order = []
    while entered := applicants.enter():
        order += entered
        applicants.end(*entered)
    assert order == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_runs_take_turns_at_the_server_though_one_has_many_keys() -> None:
    applicants = Applicants(_per_key("act", 1), places=1)
    for number in range(4):
        applicants.ask("a", key=f"tenant-{number}")
    applicants.ask("b", 3, key="one")
    order = []
    while entered := applicants.enter():
        order += entered
        applicants.end(*entered)
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2", "a3"]


def test_who_waits_at_one_limit_does_not_hold_up_who_passes_others() -> None:
    applicants = Applicants(_limit("slow", concurrency=1), places=2)
    applicants.ask("a", 100, action="slow")
    applicants.ask("a", 2, action="quick")
    assert applicants.enter() == ["a0", "a100"]
    applicants.end("a100")
    assert applicants.enter() == ["a101"]


def test_one_who_goes_away_frees_their_turn() -> None:
    applicants = Applicants(_limit(concurrency=1))
    applicants.ask("a", 1)
    applicants.enter()
    applicants.ask("b", 1)
    applicants.ask("c", 1)
    applicants.leave("b0")
    applicants.end("a0")
    assert applicants.enter() == ["c0"]


def test_one_who_goes_away_on_the_way_from_a_gate_lets_the_next_go() -> None:
    applicants = Applicants(_per_key("act", 1), _limit(concurrency=1))
    applicants.ask("a", 1, key="x")
    applicants.enter()
    applicants.ask("b", 1, key="y")
    applicants.ask("c", 1, key="z")
    applicants.enter()
    applicants.end("a0")  # the limit sends on the lane of b, which goes away before it is asked
    applicants.leave("b0")
    assert applicants.enter() == ["c0"]


def test_what_nobody_waits_for_is_forgotten() -> None:
    applicants = Applicants(_limit(concurrency=1), _per_key("act", 1))
    names = applicants.ask("a", 50, key="k")
    applicants.enter()
    applicants.leave(*names[1:])
    applicants.end("a0")
    admission = applicants.admission
    assert not any((vars(admission)[name]) for name in ("_runs", "_lanes", "_ready", "_blocked", "_checks"))


# Keys.


def test_keys_are_counted_apart() -> None:
    applicants = Applicants(_per_key("act", 2))
    applicants.ask("a", 3, key='"oslo"')
    applicants.ask("a", 3, key='"rome"')
    assert applicants.enter() == ["a0", "a3", "a1", "a4"]
    applicants.end("a3")
    assert applicants.enter() == ["a5"]


def test_steps_without_a_key_count_together() -> None:
    applicants = Applicants(_per_key("act", 1))
    applicants.ask("a", 2)
    applicants.ask("a", 1, key="x")
    assert applicants.enter() == ["a0", "a2"]


def test_a_limit_may_bound_the_whole_and_each_key() -> None:
    limit = Limit(actions="act", total=Bound(concurrency=3), per_key=Bound(concurrency=2))
    applicants = Applicants(limit)
    for key in "xyz":
        applicants.ask(key, 3, key=key)
    assert applicants.enter() == ["x0", "y0", "z0"]
    applicants.end("y0", "z0")
    assert applicants.enter() == ["x1", "y1"]
    applicants.end("y1")
    assert applicants.enter() == ["z1"]
    applicants.end("z1")
    assert applicants.enter() == ["y2"]  # x has its two


def test_keys_at_rest_are_forgotten() -> None:
    applicants = Applicants(_per_key("act", 1))
    for number in range(1_000):
        applicants.ask("a", key=str(number))
        applicants.end(*applicants.enter())
    assert len(applicants.registry.covering("act")[0].keys) < 5


# Rates.


def test_a_rate_spreads_starts_evenly() -> None:
    applicants = Applicants(_limit(rate=_per_second(4)))
    applicants.ask("a", 4)
    assert applicants.enter() == ["a0"]
    assert applicants.pass_time(0.249) == []
    assert applicants.pass_time(0.001) == ["a1"]
    assert applicants.pass_time(0.5) == ["a2", "a3"]


def test_a_burst_may_start_together_after_a_quiet_time() -> None:
    applicants = Applicants(_limit(rate=_per_second(1, burst=3)))
    applicants.ask("a", 5)
    assert applicants.enter() == ["a0", "a1", "a2"]
    applicants.end("a0", "a1", "a2")
    assert applicants.pass_time(1) == ["a3"]
    assert applicants.pass_time(1) == ["a4"]
    applicants.pass_time(2)
    applicants.ask("a", 4)
    assert applicants.enter() == ["a5", "a6"]  # two of the three have come back
    assert applicants.pass_time(1) == ["a7"]


def test_a_rate_that_does_not_divide_evenly_is_not_exceeded_and_lets_in_all_but_the_last() -> None:
    applicants = Applicants(_limit(rate=_per_second(3)))
    applicants.ask("a", 400)
    assert 300 <= len(applicants.enter()) + len(applicants.pass_time(100)) <= 301


def test_admission_tells_when_to_ask_again_and_not_when_that_is_in_vain() -> None:
    applicants = Applicants(_limit(rate=_per_second(2)), _limit(concurrency=1))
    applicants.ask("a", 2)
    applicants.enter()
    assert applicants.admission.next_time == SECOND // 2
    assert applicants.pass_time(1) == []
    assert applicants.admission.next_time is None  # the place is what it waits for now
    applicants.end("a0")
    assert applicants.enter() == ["a1"]


# What those who wait say.


def test_those_who_wait_say_for_which_limit() -> None:
    applicants = Applicants(_limit("act", concurrency=1), _limit("paced", rate=_per_second(2)), _per_key("keyed", 1))
    for action in ("act", "paced", "keyed"):
        applicants.ask("a", 2, action=action)
    applicants.enter()
    assert applicants.why("a1") == ("concurrency", 'the only place of the limit "act" is taken')
    assert applicants.why("a3") == ("rate", 'the limit "paced" lets 2 start every 1 s')
    assert applicants.why("a5") == ("concurrency", 'the only place of the limit "keyed" for this key is taken')
    found = {group.obstacle.limit: group.size for group in applicants.admission.waiting("a", applicants.now)}
    assert found == {"act": 1, "paced": 1, "keyed": 1}


# What refusals do.

ADAPTIVE = Limit(actions="act", total=Bound(adaptive=Adaptive(initial=4, least=1, most=16)))


def test_a_refusal_takes_places_away_at_once_from_all_runs() -> None:
    applicants = Applicants(ADAPTIVE)
    applicants.ask("a", 4)
    applicants.ask("b", 4)
    assert applicants.enter() == ["a0", "b0", "a1", "b1"]
    applicants.end("a0", feedback=Feedback.REFUSED)
    assert applicants.enter() == []
    applicants.end("b0", feedback=Feedback.SUCCEEDED)
    assert applicants.enter() == ["a2"]


def test_a_refusal_that_names_a_time_pauses_the_action_until_then() -> None:
    applicants = Applicants(ADAPTIVE)
    applicants.ask("a", 8)
    assert len(applicants.enter()) == 4
    applicants.end("a0", feedback=Feedback.REFUSED, retry_after=2)
    applicants.end("a1", "a2", "a3", feedback=Feedback.SUCCEEDED)
    assert applicants.enter() == []
    assert applicants.why("a4") == ("rate", '"act" is paused for another 2 s, as its service asked')
    assert [str(it) for it in applicants.admission.waiting_at(applicants.waiting["a4"].limiters[0])] == [
        "a4",
        "a5",
        "a6",
        "a7",
    ]
    assert applicants.pass_time(1.99) == []
    assert applicants.pass_time(0.01) == ["a4", "a5", "a6"]


def test_a_longer_pause_counts_and_a_shorter_one_does_not() -> None:
    applicants = Applicants(ADAPTIVE)
    applicants.ask("a", 5)
    applicants.enter()
    applicants.end("a0", feedback=Feedback.REFUSED, retry_after=2)
    applicants.end("a1", feedback=Feedback.REFUSED, retry_after=5)
    applicants.end("a2", feedback=Feedback.REFUSED, retry_after=1)
    assert applicants.pass_time(4.9) == []
    assert applicants.pass_time(0.1) == ["a4"]


def test_refusals_mean_nothing_to_limits_that_do_not_adapt() -> None:
    applicants = Applicants(_limit(concurrency=2))
    applicants.ask("a", 3)
    applicants.enter()
    applicants.end("a0", feedback=Feedback.REFUSED, retry_after=60)
    assert applicants.enter() == ["a2"]
