"""Tests of the workflow in virtual time. The script replaces actions, and pauses take no time."""

from pathlib import Path

from stepwave.testing import Takes, run_scripted

FLOW = Path(__file__).parent / "flows" / "research.yaml"


def test_a_failed_search_is_tried_again() -> None:
    script = {"search": [ConnectionError(), Takes(5, ["fjords are old"])], "recall": "Hello again."}
    run = run_scripted(FLOW, script, actions=["actions"])  # the action `write` is not replaced
    assert run.attempts("search") == 2
    assert run.outputs["write"] == "Hello again. In short: fjords are old. "


def test_the_topic_is_the_input_of_the_run() -> None:
    run = run_scripted(FLOW, input={"topic": "glaciers"}, actions=["actions"])
    assert "glaciers are cold" in str(run.outputs["write"])
    run.assert_order("search", "write")
