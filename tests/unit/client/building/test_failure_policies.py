"""Invalid retry policies and fallbacks are refused where they are made."""

from typing import Any

import pytest

from stepwave import Retry, Workflow


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_attempts": 2.5}, "max_attempts must be a whole number, got 2.5"),
        ({"max_attempts": True}, "max_attempts must be a whole number, got True"),
        ({"max_attempts": 10**12}, "max_attempts must be 0 to 1,000, got 1,000,000,000,000"),
        ({"max_attempts": -1}, "max_attempts must be 0 to 1,000, got -1"),
        ({"max_attempts": 2, "backoff_multiplier": 0}, "backoff_multiplier must be at least 1, got 0"),
        ({"max_attempts": 2, "jitter": "x"}, "jitter must be a number, got 'x'"),
        ({"max_attempts": 2, "backoff_multiplier": "x"}, "backoff_multiplier must be a number, got 'x'"),
    ],
)
def test_an_invalid_policy_is_refused_with_the_name_of_its_field(given: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Retry(**given)


def test_an_invalid_fallback_is_refused_with_an_example() -> None:
    wrong: Any = "cached_search"
    with pytest.raises(TypeError, match=r'fallback must be a Fallback, such as Fallback\("cached_search"\), got'):
        Workflow("flow").step("search", "search", fallback=wrong)


def test_a_retry_policy_of_another_type_is_refused_with_what_is_wanted() -> None:
    wrong: Any = {"max_attempts": 3}
    message = r"retry must be a Retry, such as Retry\(max_attempts=3\), got \{'max_attempts': 3\}"
    with pytest.raises(TypeError, match=message):
        Workflow("flow", retry=wrong)
    with pytest.raises(TypeError, match="retry must be a Retry"):
        Workflow("flow").step("a", "noop", retry=wrong)
