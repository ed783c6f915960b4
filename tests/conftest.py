"""Settings of all tests."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def nothing_is_kept_at_home() -> Iterator[None]:
    """Keep journals in memory by default, so that no test writes to the user's journal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPWAVE_JOURNAL", "memory")
        yield
