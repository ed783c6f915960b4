"""Engines on a loop whose clock the test moves."""

from collections.abc import Iterator

import pytest

from stepwave_server.engine.admission.limits import Bound, Limit, Rate
from unit.server.clocked import ClockedLoop
from unit.server.engine.clocked_engine import SECOND, EngineHarness


@pytest.fixture
def harness(loop: ClockedLoop) -> Iterator[EngineHarness]:
    harness = EngineHarness(loop)
    yield harness
    close(harness)


@pytest.fixture(params=[1])
def limited(loop: ClockedLoop, request: pytest.FixtureRequest) -> Iterator[EngineHarness]:
    """Return an engine with few places, and with limits of actions."""
    one = Bound(concurrency=1)
    paced = Limit(actions="fails", total=Bound(rate=Rate(count=1, per=60 * SECOND)))
    limits = (Limit(actions="waits", total=one), Limit(actions="stubborn", total=one), paced)
    harness = EngineHarness(loop, places=request.param, limits=limits)
    yield harness
    close(harness)


@pytest.fixture
def single_place(loop: ClockedLoop) -> Iterator[EngineHarness]:
    """Return an engine with one place."""
    harness = EngineHarness(loop, places=1)
    yield harness
    close(harness)


def close(harness: EngineHarness) -> None:
    for event in harness.releases.values():
        event.set()
    harness.loop.turn()
    harness.loop.run(harness.engine.close())
