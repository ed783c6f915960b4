"""Settings of all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_server import RedisServer
from temporal_server import SharedTemporalServer, TemporalServer

POLYGLOT = Path(__file__).parent / "polyglot"

ONE_SERVER = "one_server"
"""The mark of tests of what only one server has. Its argument is what that is. They do not run on Temporal."""

NO_ENGINE = "no_engine"
"""The mark of tests of what no engine takes part in. Its argument is why. They do not run on Temporal either."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks."""
    config.addinivalue_line("markers", f"{ONE_SERVER}(reason): it tests what only one server with a journal has")
    config.addinivalue_line("markers", f"{NO_ENGINE}(reason): it tests what no engine takes part in")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests on Temporal of what only one server has or no engine does. Bring long tests to the front."""
    left_out = {item for item in items if _is_on_temporal(item) and _is_marked(item)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = sorted((item for item in items if item not in left_out), key=_turn)


def _turn(item: pytest.Item) -> int:
    """Return when a test comes. Those at the end of a run keep one process busy while the others are idle.

    Programs in other languages take long to build. The tests that need Temporal take longest of all, and share it.
    """
    if POLYGLOT in item.path.parents:
        return 0
    return 1 if _needs_temporal(item) else 2


def _is_marked(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(mark) for mark in (ONE_SERVER, NO_ENGINE))


def _is_on_temporal(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("serve") == "temporal"


def _needs_temporal(item: pytest.Item) -> bool:
    return _is_on_temporal(item) or "temporal_server" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def shared_temporal_server() -> Iterator[SharedTemporalServer]:
    """Share a development server of Temporal among the tests of a process, which come one after another."""
    server = SharedTemporalServer()
    yield server
    server.stop()


@pytest.fixture
def temporal_server(shared_temporal_server: SharedTemporalServer) -> TemporalServer:
    """Return a development server of Temporal."""
    return shared_temporal_server.get()


@pytest.fixture(autouse=True)
def no_temporal_server_without_need(request: pytest.FixtureRequest) -> None:
    """End the server of Temporal before a test that does not need it: it takes processor time also when idle."""
    if not _needs_temporal(request.node):
        request.getfixturevalue("shared_temporal_server").stop()


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
