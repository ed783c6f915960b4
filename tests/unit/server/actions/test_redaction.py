"""The redactor: no exact value of a secret is left in a text or payload, whose form stays valid."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.redaction import NOTHING_SECRET, Redactor
from stepwave_server.core.model import Blob, Failure, Reason
from stepwave_server.telemetry.redaction import set_redaction

ONE = Redactor({"A": "12345678"})

values = st.text(min_size=8, max_size=20).filter(lambda text: "[secret A]" not in text and text not in "[secret A]")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@given(values, json_values, st.booleans())
def test_json_stays_valid_and_has_no_value(value: str, around: object, escaped: bool) -> None:
    document = {"a": [value, around, {f"<{value}>": 1}], "b": around}
    text = json.dumps(document) if escaped else _written(document)
    redacted = Redactor({"A": value}).payload(text)
    assert isinstance(redacted, str)
    json.loads(redacted)
    assert value not in redacted
    assert json.dumps(value)[1:-1] not in redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('{"a":"x12345678y"}', '{"a": "x[secret A]y"}'),
        ("[12345678,1.50]", '["[secret A]", 1.50]'),
        ('{"12345678":1}', '{"[secret A]": 1}'),
        ('"\\u0031\\u0032345678"', '"[secret A]"'),
        ('["\\u0031"]', '["\\u0031"]'),
        ('{"a":1.50}', '{"a":1.50}'),
    ],
)
def test_a_value_is_found_in_strings_keys_and_numbers(text: str, redacted: str) -> None:
    assert ONE.payload(text) == redacted


def test_a_value_that_looks_like_json_is_found_in_its_text() -> None:
    assert Redactor({"A": "1,2,3,4,5"}).payload("[1,2,3,4,5]") == '"[secret A]"'


@pytest.mark.parametrize(
    ("value", "text", "redacted"),
    [
        ("Bearer 12345678", "no such token: 12345678", "no such token: [secret A]"),
        ("Bearer 12345678", "got Bearer 12345678", "got [secret A]"),
        ("bearer 1234567", "1234567 items", "1234567 items"),
        ("the bearer 12345678", "12345678 items", "12345678 items"),
    ],
)
def test_the_credentials_after_a_scheme_are_found_alone(value: str, text: str, redacted: str) -> None:
    assert Redactor({"A": value}).text(text) == redacted


def test_a_value_is_found_in_a_blob() -> None:
    assert ONE.payload(Blob("text/12345678", b"\xff12345678")) == Blob("text/[secret A]", b"\xff[secret A]")


def test_a_value_is_found_as_urls_have_it() -> None:
    redactor = Redactor({"A": "a+b/c d=é"})
    for form in ("a%2Bb/c%20d%3D%C3%A9", "a%2Bb%2Fc%20d%3D%C3%A9", "a%2Bb%2Fc+d%3D%C3%A9"):
        assert redactor.text(f"https://host/?key={form}&x=1") == "https://host/?key=[secret A]&x=1"


def test_a_value_is_found_without_the_space_around_it() -> None:
    assert Redactor({"A": "\n12345678 "}).text("x12345678y") == "x[secret A]y"


def test_a_value_that_has_another_one_in_it_is_found_whole() -> None:
    both = Redactor({"A": "12345678", "B": "0123456789"})
    assert both.text("0123456789 12345678") == "[secret B] [secret A]"


def test_a_failure_is_redacted_in_its_message_and_details() -> None:
    failure = Failure(Reason.INTERNAL, "no 12345678", details=(("12345678", "x12345678"),))
    assert ONE.failure(failure) == Failure(Reason.INTERNAL, "no [secret A]", details=(("[secret A]", "x[secret A]"),))


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep = "[" * 100_000 + '"12345678"' + "]" * 100_000
    with pytest.raises(ActionFailed, match="nested too deeply"):
        ONE.payload(deep)


def test_without_secrets_everything_stays() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert NOTHING_SECRET.payload(deep) is deep
    assert not NOTHING_SECRET


def test_a_record_whose_text_cannot_be_read_shows_no_arguments(caplog: pytest.LogCaptureFixture) -> None:
    ONE.enter()
    logging.getLogger("some.library").warning("%d", "12345678")
    set_redaction(None)
    assert [record.getMessage() for record in caplog.records] == ["(its text cannot be read)"]


def test_a_record_that_a_library_makes_itself_is_redacted(caplog: pytest.LogCaptureFixture) -> None:
    record = logging.LogRecord("some.library", logging.WARNING, "file", 1, "the key is %s", ("12345678",), None)
    ONE.enter()
    logging.getLogger("some.library").handle(record)
    set_redaction(None)
    assert [record.getMessage() for record in caplog.records] == ["the key is [secret A]"]


def test_records_of_other_contexts_stay_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    ONE.enter()
    set_redaction(None)
    logging.getLogger("some.library").warning("%s", "12345678")
    assert caplog.records[0].args == ("12345678",)
