"""What holds for all tests."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def nothing_is_kept_at_home() -> Iterator[None]:
    """Let no server write where its user's own would, whatever the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPWAVE_JOURNAL", "memory")
        yield
