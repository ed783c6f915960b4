"""Tests of the timeouts of attempts."""

import pytest

from stepwave_server.engine.attempts.deadlines import Deadlines
from unit.server.clocked import ClockedLoop


@pytest.fixture
def expired() -> list[str]:
    return []


@pytest.fixture
def deadlines(loop: ClockedLoop, expired: list[str]) -> Deadlines[str]:
    return Deadlines(loop, expired.append)


def test_an_item_expires_once_when_its_timeout_has_passed(
    loop: ClockedLoop, deadlines: Deadlines[str], expired: list[str]
) -> None:
    deadlines.begin("a", 5)
    loop.advance(4.9)
    assert expired == []
    loop.advance(0.2)
    loop.advance(100)
    assert expired == ["a"]


def test_an_item_that_ends_in_time_does_not_expire(
    loop: ClockedLoop, deadlines: Deadlines[str], expired: list[str]
) -> None:
    deadlines.begin("a", 5)
    deadlines.end("a", 5)
    loop.advance(100)
    assert expired == []


def test_each_item_expires_at_its_own_time(loop: ClockedLoop, deadlines: Deadlines[str], expired: list[str]) -> None:
    deadlines.begin("a", 5)
    loop.advance(2)
    deadlines.begin("b", 5)
    deadlines.begin("c", 1)
    loop.advance(1)
    assert expired == ["c"]
    loop.advance(2)
    assert expired == ["c", "a"]
    loop.advance(2)
    assert expired == ["c", "a", "b"]


def test_a_timeout_can_be_used_again_after_its_lane_was_removed(
    loop: ClockedLoop, deadlines: Deadlines[str], expired: list[str]
) -> None:
    deadlines.begin("a", 5)
    loop.advance(5)
    deadlines.begin("b", 5)
    loop.advance(5)
    assert expired == ["a", "b"]


def test_ending_an_item_that_never_began_is_no_error(deadlines: Deadlines[str]) -> None:
    deadlines.end("a", 5)


def test_many_items_with_one_timeout_share_a_timer(loop: ClockedLoop, deadlines: Deadlines[str]) -> None:
    for number in range(1_000):
        deadlines.begin(f"s{number}", 600)
    assert len(deadlines._handles) == 1


def test_nothing_expires_after_closing(loop: ClockedLoop, deadlines: Deadlines[str], expired: list[str]) -> None:
    deadlines.begin("a", 5)
    deadlines.close()
    loop.advance(100)
    assert expired == []
