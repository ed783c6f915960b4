"""YAML texts become JSON values, or problems with their places."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave._files import WorkflowFileError, parse_workflow
from stepwave._files._tree import to_json
from stepwave._files._yaml import parse_yaml

# JSON escapes characters beyond the basic plane as surrogate pairs, which YAML does not have.
TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=50)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def read_value(text: str) -> object:
    """Return the JSON of a step's input in YAML."""
    loaded = parse_workflow(f"name: a\nsteps:\n- id: s\n  action: x\n  input: {text}\n", "flow.yaml")
    return json.loads(loaded.message.steps[0].input.json, parse_float=str, parse_int=str)


def problems(text: str) -> list[str]:
    """Return the problems of a text."""
    with pytest.raises(WorkflowFileError) as caught:
        parse_workflow(text, "flow.yaml")
    return str(caught.value).splitlines()


@given(VALUES)
def test_json_is_yaml(value: object) -> None:
    root, problems = parse_yaml(json.dumps(value))
    assert root is not None
    assert problems == []
    assert json.loads(to_json(root)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("NO", "NO"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ('"true"', "true"),
        ("<<", "<<"),
        ("|\n    two\n    lines", "two\nlines\n"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_only_json_scalars_are_not_strings(text: str, value: object) -> None:
    assert read_value(text) == value


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("9007199254740993", "9007199254740993"),
        ("1.50", "1.50"),
        ("-0.0", "-0.0"),
        ("1e300", "1e300"),
        (".5", "0.5"),
        ("1.", "1.0"),
        ("+3", "3"),
        ("-.5e-3", "-0.5e-3"),
    ],
)
def test_numbers_keep_their_digits(text: str, digits: str) -> None:
    assert read_value(text) == digits


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".nan", "[1, .NAN]"])
def test_numbers_that_json_lacks_are_refused(text: str) -> None:
    (line,) = problems(f"steps: [{{id: s, action: x, input: {text}}}]")
    assert "is not a JSON number" in line


def test_a_leading_zero_is_refused_because_readers_disagree_about_it() -> None:
    (line,) = problems("name: a\nsteps: [{id: s, action: x, input: 0644}]")
    assert line == "flow.yaml:2:35: 0644 could be octal: drop the leading zero, or put it in quotes if it is text"


def test_an_alias_repeats_its_anchor() -> None:
    assert read_value("{a: &x {k: [1]}, b: *x, c: [*x]}") == {"a": {"k": ["1"]}, "b": {"k": ["1"]}, "c": [{"k": ["1"]}]}


def test_aliases_that_multiply_are_refused() -> None:
    levels = "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    (line,) = problems(f"a: &a0 [{', '.join('1' * 10)}]\n{levels}")
    assert "aliases repeat more than 100,000 values" in line


def test_an_alias_inside_its_own_anchor_is_refused() -> None:
    assert problems("name: &a [*a]") == ["flow.yaml:1:11: *a is inside the value that it repeats"]


def test_deep_nesting_is_refused_where_it_goes_too_deep() -> None:
    assert problems("[" * 500) == ["flow.yaml:1:101: nested more than 100 levels deep"]


def test_nesting_beyond_the_parsers_own_limit_is_refused_alike() -> None:
    (line,) = problems("[" * 100_000)
    assert re.fullmatch(r"flow\.yaml:1:\d+: nested more than 100 levels deep", line)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "1:1: empty: a workflow has a name and steps"),
        ("# nothing\n", "1:1: empty: a workflow has a name and steps"),
        ("just text", '1:1: expected a mapping, got the string "just text"'),
        ("- a", "1:1: expected a mapping, got a list"),
        ("name: a: b", "1:8: mapping values are not allowed in this context"),
        ("name: *x", "1:7: unknown alias *x"),
        ("name: a\n---\nname: b", "2:1: a second document begins here; a workflow file has one workflow"),
        ("name: a\nname: b", '2:1: duplicate key "name", first on line 1'),
        ("name: a\0", '1:8: YAML does not allow the character "\\u0000"'),
        ("labels: !!binary aGk=\nname: a", "1:9: unknown tag !!binary; a workflow file has only the types of JSON"),
        ("<<: [{name: a}, 5]", "1:17: << merges a mapping, or a list of mappings, got the number 5"),
        ("<<: a", '1:5: << merges a mapping, or a list of mappings, got the string "a"'),
        ("1: a", "1:1: a key must be a string, got 1; put it in quotes"),
        ("[a]: b", "1:1: a key must be a string, got a list or mapping"),
    ],
)
def test_a_text_that_is_no_workflow_is_reported_with_its_place(text: str, complaint: str) -> None:
    assert problems(text)[0] == f"flow.yaml:{complaint}"


def test_a_tab_is_reported_with_advice() -> None:
    (line,) = problems("name: a\nsteps:\n\t- id: b")
    assert line.startswith("flow.yaml:3:1: found character")
    assert "indent with spaces" in line


def test_every_problem_is_listed_in_the_files_order() -> None:
    text = "nmae: a\nsteps:\n- id: 5\n  depend_on: []\n  depends_on: b\n  timeout: .inf\ntimeout: soon\n"
    places = [line.split(":")[1:3] for line in problems(text)]
    assert places == [["1", "1"], ["3", "7"], ["4", "3"], ["5", "15"], ["6", "12"], ["6", "12"], ["7", "10"]]


# As in Compose files.


def test_a_merge_key_brings_in_the_keys_of_a_mapping() -> None:
    usual = "x-usual: &usual\n  action: search\n  timeout: 5s\n"
    flow = "steps:\n- {<<: *usual, id: a}\n- {<<: *usual, id: b, timeout: 9s}\n"
    loaded = parse_workflow(usual + flow, "flow.yaml")
    assert [(step.id, step.action, step.timeout.seconds) for step in loaded.message.steps] == [
        ("a", "search", 5),
        ("b", "search", 9),
    ]
    assert loaded.place_of("steps[0].timeout") == (3, 12)


def test_the_first_of_several_merged_mappings_counts() -> None:
    text = "x-a: &a {timeout: 1s}\nx-b: &b {timeout: 2s, action: x}\nsteps:\n- {<<: [*a, *b], id: s}\n"
    (step,) = parse_workflow(text, "flow.yaml").message.steps
    assert (step.timeout.seconds, step.action) == (1, "x")


def test_a_merge_key_works_within_an_input() -> None:
    text = "x-a: &a {unit: km}\nsteps:\n- {id: s, action: x, input: {<<: *a, to: Oslo}}\n"
    assert parse_workflow(text, "flow.yaml").message.steps[0].input.json == '{"unit":"km","to":"Oslo"}'


def test_a_merge_key_in_quotes_is_data() -> None:
    assert read_value('{"<<": {a: 1}}') == {"<<": {"a": "1"}}


def test_extension_keys_are_allowed_at_the_top_level_only() -> None:
    assert parse_workflow("x-notes: [anything, {b: no}]\nname: a\n", "f.yaml").message.name == "a"
    assert problems("name: a\nsteps:\n- {id: s, action: x, x-notes: 1}\n")[0].startswith(
        'flow.yaml:3:22: unknown key "x-notes"'
    )


def test_aliases_that_are_merged_keep_their_bound() -> None:
    many = "\n".join(f"k{number}: 1" for number in range(1_000)).replace("\n", "\n  ")
    steps = "".join("- {<<: *many, id: s}\n" for _ in range(200))
    with pytest.raises(WorkflowFileError, match="aliases repeat more than"):
        parse_workflow(f"x-many: &many\n  {many}\nsteps:\n{steps}", "flow.yaml")
