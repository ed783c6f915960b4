"""Every field that a server refuses has a line and column in the file."""

import pytest

from stepwave._files import parse_workflow
from stepwave.exceptions import Violation

TEXT = """\
name: briefing
labels:
  team: a
steps:
- id: search
  action: search
- {id: brief, action: summarise, depends_on: [search, serach],
   input: {facts: [{$from: search}, {$from: wheather/summary}]}}
"""


@pytest.mark.parametrize(
    ("field", "line", "column"),
    [
        ("name", 1, 7),
        ("labels.team", 3, 9),
        ("labels.gone", 2, 1),
        ("steps", 4, 1),
        ("steps[0]", 5, 3),
        ("steps[0].id", 5, 7),
        ("steps[0].timeout", 5, 3),
        ("steps[1].depends_on[1]", 7, 55),
        ("steps[1].bindings[1]", 8, 45),
        ("steps[1].bindings[1].step.id", 8, 45),
        ("steps[1].bindings[1].target", 8, 45),
        ("workflow.steps[1].depends_on[1]", 7, 55),
        ("steps[7].id", 4, 1),
        ("timeout", 1, 1),
        ("", 1, 1),
    ],
)
def test_a_field_has_its_own_place_or_that_of_its_parent(field: str, line: int, column: int) -> None:
    assert parse_workflow(TEXT, "flow.yaml").place_of(field) == (line, column)


def test_a_violation_of_a_server_has_the_form_of_a_file_problem() -> None:
    violation = Violation("steps[1].depends_on[1]", 'unknown step "serach"; did you mean "search"?')
    error = parse_workflow(TEXT, "flow.yaml").locate([violation])
    assert str(error) == 'flow.yaml:7:55: steps[1].depends_on[1]: unknown step "serach"; did you mean "search"?'
