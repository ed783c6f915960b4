"""Settings of all tests."""

from collections.abc import Iterator

import pytest

from redis_server import RedisServer
from temporal_server import TemporalServer

ONE_SERVER = "one_server"
"""The mark of tests of what only one server has. Its argument is what that is. They do not run on Temporal."""

NO_ENGINE = "no_engine"
"""The mark of tests of what no engine takes part in. Its argument is why. They do not run on Temporal either."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks."""
    config.addinivalue_line("markers", f"{ONE_SERVER}(reason): it tests what only one server with a journal has")
    config.addinivalue_line("markers", f"{NO_ENGINE}(reason): it tests what no engine takes part in")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests on Temporal of what only one server has, and of what has nothing to do with engines."""
    left_out = [item for item in items if _is_on_temporal(item) and _is_marked(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _is_marked(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(mark) for mark in (ONE_SERVER, NO_ENGINE))


def _is_on_temporal(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("serve") == "temporal"


@pytest.fixture(scope="session")
def temporal_server() -> Iterator[TemporalServer]:
    """Start a development server of Temporal, once for each test process."""
    with TemporalServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Start a server of Redis, once for each test process."""
    with RedisServer() as server:
        yield server


@pytest.fixture(autouse=True, scope="session")
def nothing_is_kept_at_home() -> Iterator[None]:
    """Keep journals in memory by default, so that no test writes to the user's journal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPWAVE_JOURNAL", "memory")
        yield
