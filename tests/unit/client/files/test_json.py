"""JSON texts become trees with places. The parser accepts the same texts as the standard one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave._files import WorkflowFileError, parse_workflow
from stepwave._files._json import parse_json
from stepwave._files._tree import to_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_every_json_text_is_read_as_the_standard_parser_reads_it(
    value: object, indent: str | int | None, ascii_only: bool
) -> None:
    root, problems = parse_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only))
    assert root is not None
    assert problems == []
    assert json.loads(to_json(root)) == value


def test_numbers_keep_their_digits() -> None:
    root, _ = parse_json("[9007199254740993, 1.50e3]")
    assert root is not None
    assert to_json(root) == "[9007199254740993,1.50e3]"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "1:1: empty: a workflow has a name and steps"),
        ('{"name": "a",}', "1:14: expected a key in double quotes, got '}'"),
        ('{"name" "a"}', '1:9: expected ":", got \'"a"\''),
        ('{"name":\n "a"', '2:5: expected "," or "}", got the end of the file'),
        ("[1 2]", '1:4: expected "," or "]", got \'2\''),
        ("{'name': 1}", "1:2: expected a key in double quotes, got \"'name'\""),
        ('{"name": nan}', "1:10: expected a value, got 'nan'"),
        ('{"name": NaN}', "1:10: expected a value, got 'NaN'"),
        ('{"name": "a\n"}', "1:10: unterminated string"),
        ('{"name": "\\x"}', "1:10: malformed string: Invalid \\escape"),
        ('{} {"a": 1}', "1:4: expected the end of the file, got '{'"),
        ("[" * 100_000, "1:101: nested more than 100 levels deep"),
        ('{"name": "a",\n"name": "b"}', '2:1: duplicate key "name", first on line 1'),
        ('{\n\t"nmae":\t"a"}', '2:2: unknown key "nmae"; did you mean "name"?'),
    ],
)
def test_a_text_that_is_no_workflow_is_reported_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        parse_workflow(text, "flow.json")
    assert str(caught.value) == f"flow.json:{complaint}"


def test_the_names_ending_tells_json_from_yaml() -> None:
    assert parse_workflow("{name: a}", "flow.yml").message.name == "a"
    with pytest.raises(WorkflowFileError):
        parse_workflow("{name: a}", "flow.json")
