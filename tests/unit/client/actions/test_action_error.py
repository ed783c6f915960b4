"""What an action may say of its failure."""

import pytest

from stepwave import ActionError


def test_a_wait_longer_than_time_holds_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"retry_after is too long: 1e\+30"):
        ActionError("later", reason="rate_limited", retry_after=1e30)
