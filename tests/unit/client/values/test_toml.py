"""TOML: one kind of error for whatever cannot be parsed."""

import pytest

from stepwave._values.toml import TOMLDecodeError, parse_toml


def test_tables_and_lists_are_parsed() -> None:
    assert parse_toml("a = 1\n[b.c]\nd = [1, [2]]") == {"a": 1, "b": {"c": {"d": [1, [2]]}}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a =", "Invalid value (at end of document)"),
        (f"a = {'[' * 5_000}", "Nested too deeply"),
        (f"a = {'[' * 150}{']' * 150}", "Nested too deeply"),
        (f"{'a.' * 5_000}a = 1", "Nested too deeply"),
        (f"a = {'9' * 5_000}", "Exceeds the limit (4300 digits) for integer string conversion"),
    ],
    ids=["syntax", "open lists", "lists", "keys", "digits"],
)
def test_what_cannot_be_parsed_is_refused(text: str, problem: str) -> None:
    with pytest.raises(TOMLDecodeError) as refused:
        parse_toml(text)
    assert str(refused.value) == problem
