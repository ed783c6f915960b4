"""The pytest plugin: the marker and the fixtures that `stepwave.testing` documents.

Every test session with Stepwave installed imports it, so fixtures import what they need themselves.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stepwave._client.blocking import Client
    from stepwave._client.local import LocalServer
    from stepwave._scripted.report import ScriptedRun

__all__ = [
    "pytest_assertrepr_compare",
    "pytest_configure",
    "stepwave_actions",
    "stepwave_client",
    "stepwave_scripted",
    "stepwave_server",
]


_SERVER: "pytest.StashKey[LocalServer]" = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    text = "stepwave(actions=[], **settings): the actions and the settings of the server behind `stepwave_server`"
    config.addinivalue_line("markers", text)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Describe a step's attempts when a test expected another number of them."""
    report = sys.modules.get("stepwave._scripted.report")
    for side in (left, right):
        if report is not None and isinstance(side, report.AttemptCount):
            return [f"{left} {op} {right}", *side.history.splitlines()]
    return None


@pytest.fixture
def stepwave_actions() -> Iterable[object]:
    """Actions for all tests in the scope of this fixture; override it to add some."""
    return ()


@pytest.fixture
def stepwave_server(request: pytest.FixtureRequest, stepwave_actions: Iterable[object]) -> Iterator[str]:
    """The address of a server in this process, for one test."""
    from stepwave._client.local import server_on_thread

    actions, settings = _options(request, stepwave_actions)
    with server_on_thread(actions, settings) as server:
        request.node.stash[_SERVER] = server
        yield server.address


@pytest.fixture
def stepwave_client(request: pytest.FixtureRequest, stepwave_server: str) -> Iterator["Client"]:
    """A client of that server. The functions of its workflows need not be among the server's actions."""
    from stepwave._client.blocking import Client, ClientInProcess

    server = request.node.stash.get(_SERVER, None)
    overridden = server is None or server.address != stepwave_server
    with Client(stepwave_server) if overridden else ClientInProcess(server) as client:
        yield client


@pytest.fixture
def stepwave_scripted(
    request: pytest.FixtureRequest, stepwave_actions: Iterable[object]
) -> "Callable[..., ScriptedRun]":
    """`stepwave.testing.run_scripted` with the actions and settings of `stepwave_server`."""
    from stepwave.testing import run_scripted

    actions, settings = _options(request, stepwave_actions)
    return partial(run_scripted, actions=actions, **settings)


def _options(request: pytest.FixtureRequest, actions: Iterable[object]) -> tuple[list[object], dict[str, Any]]:
    """Return the actions and settings of a test."""
    marker = request.node.get_closest_marker("stepwave")
    settings = dict(marker.kwargs) if marker else {}
    return [*actions, *settings.pop("actions", ())], settings
