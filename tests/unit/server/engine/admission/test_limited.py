"""Limits: who waits at which gate, whose turn it is when one opens, and what it says meanwhile. On virtual time."""

from stepwave_server.engine.admission.limiter import Feedback
from stepwave_server.engine.admission.limits import Adaptive, Bound, Limit, Rate
from unit.server.engine.admission.script import SECOND, Desk


def _limit(actions: str = "act", *, concurrency: int | None = None, rate: Rate | None = None) -> Limit:
    return Limit(actions=actions, total=Bound(concurrency=concurrency, rate=rate))


def _per_key(actions: str, concurrency: int) -> Limit:
    return Limit(actions=actions, per_key=Bound(concurrency=concurrency))


def _per_second(count: int, burst: int = 1) -> Rate:
    return Rate(count=count, per=SECOND, burst=burst)


# Concurrency.


def test_a_limit_bounds_the_attempts_of_its_action_and_no_others() -> None:
    desk = Desk(_limit(concurrency=2))
    desk.ask("a", 4)
    desk.ask("a", 2, action="other")
    assert sorted(desk.enter()) == ["a0", "a1", "a4", "a5"]
    desk.end("a4")
    assert desk.enter() == []
    desk.end("a0")
    assert desk.enter() == ["a2"]


def test_a_prefix_counts_all_its_actions_together() -> None:
    desk = Desk(_limit("search.*", concurrency=2))
    desk.ask("a", action="search.web")
    desk.ask("a", action="search.news")
    desk.ask("a", action="search.web")
    desk.ask("a", action="search")
    assert sorted(desk.enter()) == ["a0", "a1", "a3"]


def test_every_limit_that_covers_an_action_applies() -> None:
    desk = Desk(_limit("*", concurrency=3), _limit("search.*", concurrency=2), _limit("search.web", concurrency=1))
    desk.ask("a", 2, action="search.web")
    desk.ask("a", 2, action="search.news")
    desk.ask("a", 2, action="other")
    assert desk.enter() == ["a0", "a2", "a4"]
    desk.end("a4")
    assert desk.enter() == ["a5"]
    desk.end("a2", "a5")
    assert desk.enter() == ["a3"]


def test_runs_take_turns_at_a_limit() -> None:
    desk = Desk(_limit(concurrency=1))
    desk.ask("a", 3)
    desk.ask("b", 1)
    desk.ask("c", 2)
    order = []
    while entered := desk.enter():
        order += entered
        desk.end(*entered)
    assert order == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_runs_take_turns_at_the_server_though_one_has_many_keys() -> None:
    desk = Desk(_per_key("act", 1), places=1)
    for number in range(4):
        desk.ask("a", key=f"tenant-{number}")
    desk.ask("b", 3, key="one")
    order = []
    while entered := desk.enter():
        order += entered
        desk.end(*entered)
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2", "a3"]


def test_who_waits_at_one_limit_does_not_hold_up_who_passes_others() -> None:
    desk = Desk(_limit("slow", concurrency=1), places=2)
    desk.ask("a", 100, action="slow")
    desk.ask("a", 2, action="quick")
    assert desk.enter() == ["a0", "a100"]
    desk.end("a100")
    assert desk.enter() == ["a101"]


def test_one_who_goes_away_frees_their_turn() -> None:
    desk = Desk(_limit(concurrency=1))
    desk.ask("a", 1)
    desk.enter()
    desk.ask("b", 1)
    desk.ask("c", 1)
    desk.leave("b0")
    desk.end("a0")
    assert desk.enter() == ["c0"]


def test_one_who_goes_away_on_the_way_from_a_gate_lets_the_next_go() -> None:
    desk = Desk(_per_key("act", 1), _limit(concurrency=1))
    desk.ask("a", 1, key="x")
    desk.enter()
    desk.ask("b", 1, key="y")
    desk.ask("c", 1, key="z")
    desk.enter()
    desk.end("a0")  # the limit sends on the lane of b, which goes away before it is asked
    desk.leave("b0")
    assert desk.enter() == ["c0"]


def test_what_nobody_waits_for_is_forgotten() -> None:
    desk = Desk(_limit(concurrency=1), _per_key("act", 1))
    names = desk.ask("a", 50, key="k")
    desk.enter()
    desk.leave(*names[1:])
    desk.end("a0")
    admission = desk.admission
    assert not any((vars(admission)[name]) for name in ("_runs", "_lanes", "_open", "_posts", "_alarms"))


# Keys.


def test_keys_are_counted_apart() -> None:
    desk = Desk(_per_key("act", 2))
    desk.ask("a", 3, key='"oslo"')
    desk.ask("a", 3, key='"rome"')
    assert desk.enter() == ["a0", "a3", "a1", "a4"]
    desk.end("a3")
    assert desk.enter() == ["a5"]


def test_steps_without_a_key_count_together() -> None:
    desk = Desk(_per_key("act", 1))
    desk.ask("a", 2)
    desk.ask("a", 1, key="x")
    assert desk.enter() == ["a0", "a2"]


def test_a_limit_may_bound_the_whole_and_each_key() -> None:
    limit = Limit(actions="act", total=Bound(concurrency=3), per_key=Bound(concurrency=2))
    desk = Desk(limit)
    for key in "xyz":
        desk.ask(key, 3, key=key)
    assert desk.enter() == ["x0", "y0", "z0"]
    desk.end("y0", "z0")
    assert desk.enter() == ["x1", "y1"]
    desk.end("y1")
    assert desk.enter() == ["z1"]
    desk.end("z1")
    assert desk.enter() == ["y2"]  # x has its two


def test_keys_at_rest_are_forgotten() -> None:
    desk = Desk(_per_key("act", 1))
    for number in range(1_000):
        desk.ask("a", key=str(number))
        desk.end(*desk.enter())
    assert len(desk.book.covering("act")[0].keys) < 5


# Rates.


def test_a_rate_spreads_starts_evenly() -> None:
    desk = Desk(_limit(rate=_per_second(4)))
    desk.ask("a", 4)
    assert desk.enter() == ["a0"]
    assert desk.pass_time(0.249) == []
    assert desk.pass_time(0.001) == ["a1"]
    assert desk.pass_time(0.5) == ["a2", "a3"]


def test_a_burst_may_start_together_after_a_quiet_time() -> None:
    desk = Desk(_limit(rate=_per_second(1, burst=3)))
    desk.ask("a", 5)
    assert desk.enter() == ["a0", "a1", "a2"]
    desk.end("a0", "a1", "a2")
    assert desk.pass_time(1) == ["a3"]
    assert desk.pass_time(1) == ["a4"]
    desk.pass_time(2)
    desk.ask("a", 4)
    assert desk.enter() == ["a5", "a6"]  # two of the three have come back
    assert desk.pass_time(1) == ["a7"]


def test_a_rate_that_does_not_divide_evenly_is_not_exceeded_and_lets_in_all_but_the_last() -> None:
    desk = Desk(_limit(rate=_per_second(3)))
    desk.ask("a", 400)
    assert 300 <= len(desk.enter()) + len(desk.pass_time(100)) <= 301


def test_admission_tells_when_to_ask_again_and_not_when_that_is_in_vain() -> None:
    desk = Desk(_limit(rate=_per_second(2)), _limit(concurrency=1))
    desk.ask("a", 2)
    desk.enter()
    assert desk.admission.next_time == SECOND // 2
    assert desk.pass_time(1) == []
    assert desk.admission.next_time is None  # the place is what it waits for now
    desk.end("a0")
    assert desk.enter() == ["a1"]


# What those who wait say.


def test_those_who_wait_say_for_which_limit() -> None:
    desk = Desk(_limit("act", concurrency=1), _limit("paced", rate=_per_second(2)), _per_key("keyed", 1))
    for action in ("act", "paced", "keyed"):
        desk.ask("a", 2, action=action)
    desk.enter()
    assert desk.why("a1") == ("concurrency", 'the only place of the limit "act" is taken')
    assert desk.why("a3") == ("rate", 'the limit "paced" lets 2 start every 1 s')
    assert desk.why("a5") == ("concurrency", 'the only place of the limit "keyed" for this key is taken')
    found = {group.obstacle.limit: group.size for group in desk.admission.waiting("a", desk.now)}
    assert found == {"act": 1, "paced": 1, "keyed": 1}


# What refusals do.

ADAPTIVE = Limit(actions="act", total=Bound(adaptive=Adaptive(initial=4, least=1, most=16)))


def test_a_refusal_takes_places_away_at_once_from_all_runs() -> None:
    desk = Desk(ADAPTIVE)
    desk.ask("a", 4)
    desk.ask("b", 4)
    assert desk.enter() == ["a0", "b0", "a1", "b1"]
    desk.end("a0", verdict=Feedback.REFUSED)
    assert desk.enter() == []
    desk.end("b0", verdict=Feedback.SUCCEEDED)
    assert desk.enter() == ["a2"]


def test_a_refusal_that_names_a_time_pauses_the_action_until_then() -> None:
    desk = Desk(ADAPTIVE)
    desk.ask("a", 8)
    assert len(desk.enter()) == 4
    desk.end("a0", verdict=Feedback.REFUSED, retry_after=2)
    desk.end("a1", "a2", "a3", verdict=Feedback.SUCCEEDED)
    assert desk.enter() == []
    assert desk.why("a4") == ("rate", '"act" is paused for another 2 s, as its service asked')
    assert [str(it) for it in desk.admission.waiting_at(desk.waiting["a4"].gates[0])] == ["a4", "a5", "a6", "a7"]
    assert desk.pass_time(1.99) == []
    assert desk.pass_time(0.01) == ["a4", "a5", "a6"]


def test_a_longer_pause_counts_and_a_shorter_one_does_not() -> None:
    desk = Desk(ADAPTIVE)
    desk.ask("a", 5)
    desk.enter()
    desk.end("a0", verdict=Feedback.REFUSED, retry_after=2)
    desk.end("a1", verdict=Feedback.REFUSED, retry_after=5)
    desk.end("a2", verdict=Feedback.REFUSED, retry_after=1)
    assert desk.pass_time(4.9) == []
    assert desk.pass_time(0.1) == ["a4"]


def test_refusals_mean_nothing_to_limits_that_do_not_adapt() -> None:
    desk = Desk(_limit(concurrency=2))
    desk.ask("a", 3)
    desk.enter()
    desk.end("a0", verdict=Feedback.REFUSED, retry_after=60)
    assert desk.enter() == ["a2"]
