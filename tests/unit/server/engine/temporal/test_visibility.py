"""Search attributes and queries of runs."""

import pytest

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.model import State
from stepwave_server.engine.temporal.visibility import (
    LABELS,
    NAMESPACE,
    STATE,
    WORKFLOW,
    attributes_of,
    from_memo,
    matches_none,
    query_of,
    time_text,
    to_memo,
)
from stepwave_server.journal import Listing

ALL = "WorkflowType = 'stepwave.run' AND TaskQueue = 'queue' AND StepwaveNamespace IS NULL"


def query(**fields: object) -> str:
    """Return the terms of a query beside those that every query has."""
    text = query_of(Listing("default", **fields), "queue")  # type: ignore[arg-type]  # the fields of a test
    assert text.startswith(ALL)
    return text.removeprefix(ALL).removeprefix(" AND ")


def test_a_run_has_its_name_its_state_and_its_labels() -> None:
    attributes = attributes_of("default", "flow", {"team": "red", "tier": "1"})
    assert attributes[WORKFLOW] == "flow"
    assert attributes[STATE] == "running"
    assert attributes[LABELS] == ["team=red", "tier=1"]
    assert attributes_of("default", "flow", {}).get(LABELS) is None


@pytest.mark.parametrize(
    "label", [{"note": 'a "quote"'}, {"note": "it's"}, {"note": "\\"}, {"note": "é"}, {"n": "v" * 256}]
)
def test_a_label_that_queries_cannot_hold_is_marked(label: dict[str, str]) -> None:
    assert attributes_of("default", "flow", {"team": "red", **label})[LABELS] == ["team=red", "*"]
    assert query(labels=label) == "StepwaveLabels = '*'"


def test_labels_stay_within_the_size_of_an_attribute() -> None:
    kept = attributes_of("default", "flow", {f"key{number}": "v" * 200 for number in range(30)})[LABELS]
    assert kept[-1] == "*"
    assert 1_000 < sum(len(label) + 4 for label in kept) < 2_048


def test_labels_in_the_attribute_are_asked_for() -> None:
    assert query(labels={"team": "red"}) == "(StepwaveLabels = 'team=red' OR StepwaveLabels = '*')"


def test_states_are_asked_for_as_workflows_set_them() -> None:
    terminated = "(StepwaveState = 'running' AND ExecutionStatus != 'Running')"
    assert query(states=frozenset({State.FAILED})) == f"(StepwaveState IN ('failed') OR {terminated})"
    assert query(states=frozenset({State.RUNNING})) == "(StepwaveState = 'running')"
    both = query(states=frozenset({State.PENDING, State.SUCCEEDED, State.CANCELLED}))
    assert both == "(StepwaveState IN ('cancelled', 'succeeded') OR StepwaveState = 'running')"


def test_names_and_prefixes_are_asked_for() -> None:
    expected = "StepwaveWorkflow = 'flow.one' AND WorkflowId STARTS_WITH 'run-1'"
    assert query(workflow_name="flow.one", prefix="run-1") == expected


@pytest.mark.parametrize("fields", [{"workflow_name": "it's"}, {"prefix": "a'"}, {"prefix": "ü"}, {"prefix": "a:b"}])
def test_nothing_is_asked_for_what_no_run_can_have(fields: dict[str, str]) -> None:
    assert matches_none(Listing("default", **fields))  # type: ignore[arg-type]  # the fields of a test


def test_times_in_queries_have_nanoseconds() -> None:
    assert time_text(1_795_839_786_928_178_987) == "2026-11-28T04:23:06.928178987Z"
    assert time_text(5) == "1970-01-01T00:00:00.000000005Z"


def test_the_final_state_comes_back_from_the_memo() -> None:
    info = RunInfo(
        RunKey("default", "run"),
        "flow",
        State.FAILED,
        {"team": "red"},
        7_000,
        8_000,
        9_000,
        (0, 0, 1, 2, 0, 3),
        42,
        False,
        False,
        rerun_of="other",
        workflow_digest="ab",
    )
    assert from_memo(info.key, 7_000, to_memo(info)) == info


def test_a_query_of_another_namespace_finds_its_runs_alone() -> None:
    terms = ["StepwaveNamespace = 'research'", "WorkflowId STARTS_WITH 'research/abc'"]
    found = query_of(Listing("research", prefix="abc"), "queue").split(" AND ")
    assert found[2:] == terms
    assert attributes_of("research", "flow", {})[NAMESPACE] == "research"
    assert attributes_of("default", "flow", {}).get(NAMESPACE) is None
