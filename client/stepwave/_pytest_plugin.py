"""The pytest plugin: the marker and the fixtures that `stepwave.testing` documents.

It is imported in every test session where Stepwave is installed, so what it needs is imported by those who use it.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ._client_sync import Client

__all__ = ["pytest_configure", "stepwave_actions", "stepwave_client", "stepwave_server"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    text = "stepwave(actions=[], **settings): the actions and the settings of the server behind `stepwave_server`"
    config.addinivalue_line("markers", text)


@pytest.fixture
def stepwave_actions() -> Iterable[object]:
    """Actions for every test that sees this fixture; override it to give some."""
    return ()


@pytest.fixture
def stepwave_server(request: pytest.FixtureRequest, stepwave_actions: Iterable[object]) -> Iterator[str]:
    """The address of a server in this process, for one test."""
    from .testing import serve

    marker = request.node.get_closest_marker("stepwave")
    given = dict(marker.kwargs) if marker else {}
    with serve([*stepwave_actions, *given.pop("actions", ())], **given) as address:
        yield address


@pytest.fixture
def stepwave_client(stepwave_server: str) -> Iterator["Client"]:
    """A client of that server."""
    from ._client_sync import Client

    with Client(stepwave_server) as client:
        yield client
