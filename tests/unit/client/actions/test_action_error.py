"""The exception `ActionError`."""

import pytest

from stepwave import ActionError


def test_a_retry_after_that_is_too_long_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"retry_after is too long: 1e\+30"):
        ActionError("later", reason="rate_limited", retry_after=1e30)
