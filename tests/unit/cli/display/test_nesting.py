"""Lists, nested workflows and steps that wait to be completed, in the live view and as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave._model.events import WaitCause
from stepwave._model.results import State
from stepwave.cli.display.lines import EventLines
from stepwave.cli.display.run_view import RunView
from stepwave.cli.display.step_view import Activity
from unit.cli.display.test_frames import draw
from unit.cli.display.test_lines import lines
from unit.cli.script import RUN_ID, Script, failure


def row(script: Script, name: str, *, view: RunView | None = None, width: int = 100) -> str:
    """Return the row of a step in the frame after a script."""
    return next(line for line in draw(script, width=width, view=view) if f" {name} " in f"{line} ")


def a_list(count: int = 1_000) -> Script:
    """Return a run with a list that has just begun."""
    return Script(("pages",), ("end",)).expanded("pages", count)


def test_a_list_is_one_row_with_the_number_of_items_that_have_ended_run_and_failed() -> None:
    script = a_list().started("pages[0]", "pages[1]", "pages[2]").succeeded("pages[0]")
    script.failed("pages[1]", failure("no such page"))
    assert row(script, "pages").endswith("2/1,000  1 running, 1 failed  pages[1]: no such page")
    assert len(draw(script)) == 6


def test_the_header_counts_the_children_of_lists() -> None:
    script = a_list().started("pages[0]").succeeded("pages[0]")
    assert draw(script)[1].endswith("1/1,002 steps  1,000 pending, 1 running, 1 succeeded")


def test_a_list_that_has_ended_shows_how_many_items_it_had() -> None:
    script = a_list(2).started("pages[0]", "pages[1]").succeeded("pages[0]").failed("pages[1]", failure())
    assert row(script.succeeded("pages"), "pages").endswith("2 items, 1 failed")


def test_children_that_have_ended_are_forgotten() -> None:
    view = RunView()
    script = a_list(3)
    for index in range(3):
        script.started(f"pages[{index}]").succeeded(f"pages[{index}]")
    draw(script, view=view)
    assert list(view.steps) == ["pages", "end"]
    assert not view.started
    assert not view.within
    assert view.counts[Activity.PENDING] == 1


def test_the_steps_of_the_workflow_of_an_item_are_counted_and_have_no_row() -> None:
    view = RunView({"pages": "", "pages/fetch": "fetch", "pages/parse": "parse"})
    script = a_list(2).expanded("pages[0]").started("pages[0]/fetch").succeeded("pages[0]/fetch")
    drawn = draw(script, view=view)
    assert drawn[1].endswith("1/6 steps  3 pending, 2 running, 1 succeeded")
    assert not any("fetch" in line for line in drawn)


def test_the_steps_of_a_nested_workflow_are_indented_below_their_step_while_it_runs() -> None:
    view = RunView({"sub": "core.workflow", "sub/fetch": "fetch", "sub/parse": "parse"})
    script = Script(("sub",)).expanded("sub").started("sub/fetch").succeeded("sub/fetch").started("sub/parse")
    assert [line.split()[1:3] for line in draw(script, view=view)[3:]] == [
        ["sub", "core.workflow"],
        ["fetch", "tools.search"],
        ["parse", "tools.search"],
    ]
    assert row(script, "sub", view=RunView()).endswith("1/2")


def test_they_are_folded_when_it_has_ended() -> None:
    script = Script(("sub",), ("end",)).expanded("sub", name="chosen", names="fetch parse")
    for name in ("fetch", "parse"):
        script.started(f"sub/{name}").succeeded(f"sub/{name}")
    drawn = draw(script.succeeded("sub"))
    assert [line.split()[1] for line in drawn[2:]] == ["0", "sub", "1", "end"]
    assert drawn[3].endswith("2 steps")


def test_workflows_within_workflows_are_indented_further() -> None:
    script = Script(("sub",)).expanded("sub", names="deep").expanded("sub/deep", names="one").started("sub/deep/one")
    drawn = draw(script)
    assert [len(line) - len(line.lstrip()) for line in drawn[3:]] == [2, 4, 6]


def test_of_a_large_nested_workflow_the_steps_that_do_something_are_shown() -> None:
    names = [f"s{number}" for number in range(50)]
    drawn = draw(Script(("sub",)).expanded("sub", names=" ".join(names)).started("sub/s30", "sub/s40"))
    assert [line.split()[1] for line in drawn[4:]] == ["s30", "s40", "48"]
    assert drawn[-1].strip() == "… 48 more"


def test_a_step_that_waits_for_someone_says_how_to_approve_it() -> None:
    script = Script(("approval",)).started("approval", action="core.wait")
    title, _, _, waiting, hint = draw(script)
    assert "waits for an answer" in title
    assert waiting.endswith("waits for an answer")
    assert hint.strip() == f"stepwave approve {RUN_ID} approval"


def test_a_child_that_waits_for_someone_is_named_so_that_a_shell_reads_it() -> None:
    script = a_list(2).started("pages[1]", action="core.wait")
    assert draw(script)[4].strip() == f"stepwave approve {RUN_ID} 'pages[1]'"
    script.started("pages[0]", action="core.wait")
    assert draw(script)[4].strip() == f"2 wait: stepwave approve {RUN_ID}"


def test_in_this_process_nobody_can_approve_a_step() -> None:
    script = Script(("approval",)).started("approval", action="core.wait")
    script.waiting("approval", cause=WaitCause.EXTERNAL)
    hint = "which nobody can give: run it on a server (stepwave serve)"
    assert draw(script, view=RunView(in_process=True))[-1].strip() == hint
    formatter = EventLines(in_process=True)
    assert [formatter.line(event) or "" for event in script.events][-1].endswith(f"for an answer, {hint}")


def test_a_completed_step_has_no_hint() -> None:
    script = Script(("approval",)).started("approval", action="core.wait").succeeded("approval")
    assert not any("approve" in line for line in draw(script))


@pytest.mark.parametrize("height", [6, 7, 8, 10, 12])
@pytest.mark.parametrize("width", [40, 60, 100])
def test_frames_with_nested_steps_fit_the_terminal(width: int, height: int) -> None:
    script = (
        Script(("sub", "pages", "approval", "other"), ("end",)).expanded("sub", names="a b c d").expanded("pages", 9)
    )
    script.started("sub/a", "sub/b", "pages[3]", "other").started("approval", "pages[2]", action="core.wait")
    assert len(draw(script, width=width, height=height)) <= max(height, 7)


@given(st.lists(st.integers(0, 5), max_size=40))
def test_the_counts_of_any_run_add_up(choices: list[int]) -> None:
    view, script, started = RunView(), a_list(20), 0
    for choice in choices:
        if choice < 3 and started < 20:
            script.started(f"pages[{started}]")
            started += 1
        elif started:
            step_id = f"pages[{choice % started}]"
            if step_id not in script.ended:
                script.succeeded(step_id)
    draw(script, view=view)
    assert view.counts.total() == 22
    assert view.steps["pages"].inner_counts.total() == 20


def test_as_text_a_list_has_its_own_lines_and_those_of_failed_children() -> None:
    script = a_list().started("pages[0]", "pages[1]").waiting("pages[2]").progress("pages[0]", 0.5, "halfway")
    script.succeeded("pages[0]").failed("pages[1]", failure("no such page")).log("pages[2]", "hello")
    script.succeeded("pages").finished(State.SUCCEEDED)
    assert lines(script)[1:-1] == [
        "pages   expanded   1,000 items",
        "pages[1]  failed     400 ms: no such page",
        "pages[2]  info       hello",
        "pages     succeeded",
    ]


def test_as_text_the_steps_of_a_nested_workflow_have_their_lines() -> None:
    script = Script(("sub",)).expanded("sub", name="chosen", names="a b").started("sub/a").succeeded("sub/a")
    assert lines(script)[1:] == [
        "sub     expanded   chosen, 2 steps",
        "sub/a   started    tools.search",
        "sub/a   succeeded  100 ms",
    ]


def test_as_text_a_wait_says_how_to_approve_it() -> None:
    script = a_list(2).started("pages[1]", action="core.wait").waiting("pages[1]", cause=WaitCause.EXTERNAL)
    assert lines(script)[2:] == [
        "pages[1]  started    core.wait",
        f"pages[1]  waiting    for an answer: stepwave approve {RUN_ID} 'pages[1]'",
    ]
