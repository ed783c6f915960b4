"""A loop whose time the test moves."""

from collections.abc import Iterator

import pytest

from unit.server.clocked import ClockedLoop


@pytest.fixture
def loop() -> Iterator[ClockedLoop]:
    loop = ClockedLoop()
    yield loop
    loop.close()
