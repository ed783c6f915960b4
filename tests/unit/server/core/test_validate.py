"""All problems of a workflow's graph are reported at once, each with its field."""

from dataclasses import replace

import pytest

from stepwave_server.core.model import (
    Binding,
    FallbackAction,
    ForEach,
    FromInput,
    FromStep,
    Join,
    Reason,
    Retry,
    Scheduling,
    Step,
    Workflow,
)
from stepwave_server.core.validate import Limits, Violation, did_you_mean, pointer_problem, validate
from unit.server.core.build import flow, step

ID_PATTERN = "[A-Za-z_][A-Za-z0-9_-]{0,127}"


def problems(*steps: Step, open_run: bool = False, limits: Limits | None = None) -> list[tuple[str, str]]:
    """Return the problems of a workflow of these steps."""
    found = validate(flow(*steps), limits or Limits(), open_run=open_run)
    return [(violation.field, violation.description) for violation in found]


def test_a_sound_workflow_has_no_problems() -> None:
    steps = (step("a"), step("b", "a", join=Join.ANY), step("c", "b", "a", join=Join.ALL_DONE))
    assert problems(*steps) == []


def test_a_workflow_needs_a_step() -> None:
    assert problems() == [("steps", "a workflow needs at least one step")]


def test_an_open_run_needs_no_step() -> None:
    assert problems(open_run=True) == []


@pytest.mark.parametrize("name", ["a b", "1st", "-", "x" * 129, "a/b", "naïve", "a\n"])
def test_an_invalid_workflow_name_is_reported(name: str) -> None:
    found = validate(Workflow(name=name, steps=(step("a"),)), Limits())
    assert found == [Violation("name", f'malformed name "{name}": want [A-Za-z_][A-Za-z0-9_.-]{{0,127}}')]


def test_an_empty_workflow_name_is_named() -> None:
    assert validate(Workflow(name="", steps=(step("a"),)), Limits()) == [Violation("name", "must not be empty")]


# Ids.


def test_an_empty_id_is_named() -> None:
    assert problems(step("a"), step("")) == [("steps[1].id", "must not be empty")]


@pytest.mark.parametrize("odd", ["1a", "a.b", "a/b", "a[0]", "a b", "é", "-a", "x" * 129, "a\n"])
def test_an_invalid_id_is_reported(odd: str) -> None:
    assert problems(step(odd)) == [("steps[0].id", f'malformed name "{odd}": want {ID_PATTERN}')]


@pytest.mark.parametrize("good", ["a", "_", "A-1_b", "x" * 128])
def test_a_valid_id_is_accepted(good: str) -> None:
    assert problems(step(good)) == []


def test_a_duplicate_id_is_named_with_its_first_owner() -> None:
    assert problems(step("b"), step("a"), step("c"), step("a")) == [
        ("steps[3].id", '"a" is the id of steps[1] already'),
    ]


# References.


def test_an_unknown_dependency_is_named_as_such() -> None:
    assert problems(step("a"), step("b", "a", "zzz")) == [("steps[1].depends_on[1]", 'unknown step "zzz"')]


def test_a_near_name_is_suggested() -> None:
    assert problems(step("search"), step("b", "serach")) == [
        ("steps[1].depends_on[0]", 'unknown step "serach"; did you mean "search"?'),
    ]


def test_an_unknown_dependency_is_never_called_a_cycle() -> None:
    assert problems(step("a", "nobody"), step("b", "a"), step("c", "b")) == [
        ("steps[0].depends_on[0]", 'unknown step "nobody"'),
    ]


def test_a_step_that_depends_on_itself_is_named() -> None:
    assert problems(step("a", "a")) == [("steps[0].depends_on[0]", 'step "a" depends on itself')]


def test_a_binding_to_its_own_step_is_named() -> None:
    assert problems(step("a", bindings=(Binding("", FromStep("a")),))) == [
        ("steps[0].bindings[0].step.id", 'step "a" depends on itself'),
    ]


def test_a_binding_to_an_unknown_step_is_named_by_its_place_in_the_message() -> None:
    bindings = (Binding("/a", FromInput()), Binding("/b", FromStep("serach"), position=4))
    assert problems(step("search"), step("b", bindings=bindings)) == [
        ("steps[1].bindings[4].step.id", 'unknown step "serach"; did you mean "search"?'),
    ]


def test_malformed_pointers_are_named() -> None:
    bindings = (Binding("a", FromInput("b"), position=0), Binding("/~2", FromStep("a", "/x~"), position=1))
    begin = 'it must be empty or begin with "/"'
    tilde = '"~" must be followed by 0 or 1'
    assert problems(step("a"), step("b", bindings=bindings)) == [
        ("steps[1].bindings[0].target", f'malformed JSON Pointer "a": {begin}'),
        ("steps[1].bindings[0].input", f'malformed JSON Pointer "b": {begin}'),
        ("steps[1].bindings[1].target", f'malformed JSON Pointer "/~2": {tilde}'),
        ("steps[1].bindings[1].step.path", f'malformed JSON Pointer "/x~": {tilde}'),
    ]


def test_a_malformed_concurrency_key_is_named() -> None:
    steps = [Step(name, "act", concurrency_key=key) for name, key in (("a", "tenant"), ("b", ""), ("c", "/~2"))]
    assert problems(*steps) == [
        ("steps[0].concurrency_key", 'malformed JSON Pointer "tenant": it must be empty or begin with "/"'),
        ("steps[2].concurrency_key", 'malformed JSON Pointer "/~2": "~" must be followed by 0 or 1'),
    ]


@pytest.mark.parametrize("pointer", ["", "/", "/a", "/a/0/b", "/~0~1", "//", "/é\n", "/-"])
def test_a_pointer_of_rfc_6901_is_accepted(pointer: str) -> None:
    assert pointer_problem(pointer) == ""


def test_an_open_run_may_refer_to_steps_added_later() -> None:
    assert problems(step("a", "later"), step("b", bindings=(Binding("", FromStep("later")),)), open_run=True) == []


def test_an_open_run_may_not_refer_to_steps_that_can_never_come() -> None:
    bindings = (Binding("", FromStep("")),)
    assert problems(step("a", "b/c", bindings=bindings), open_run=True) == [
        ("steps[0].depends_on[0]", f'malformed name "b/c": want {ID_PATTERN}'),
        ("steps[0].bindings[0].step.id", "must not be empty"),
    ]


def test_an_unknown_output_is_named() -> None:
    found = validate(flow(step("a"), outputs=("a", "b")), Limits())
    assert found == [Violation("outputs[1]", 'unknown step "b"')]


def test_the_outputs_of_an_open_run_may_be_added_later() -> None:
    assert validate(flow(step("a"), outputs=("b",)), Limits(), open_run=True) == []


def test_an_open_run_cannot_be_scheduled_by_waves() -> None:
    workflow = Workflow(name="flow", scheduling=Scheduling.WAVE)
    assert validate(workflow, Limits(), open_run=True) == [
        Violation("scheduling", "an open run cannot be scheduled by waves"),
    ]


# Cycles.


def test_a_cycle_is_named_by_its_path() -> None:
    assert problems(step("a", "b"), step("b", "a")) == [("steps[0].depends_on", "dependency cycle: a → b → a")]


def test_bindings_that_fill_the_same_place_are_refused() -> None:
    targets = ("/a", "", "/b", "/a", "")
    bindings = tuple(Binding(target, FromInput(), position=place) for place, target in enumerate(targets))
    assert problems(step("a", bindings=bindings)) == [
        ("steps[0].bindings[3].target", 'bindings[0] fills "/a" already'),
        ("steps[0].bindings[4].target", "bindings[1] fills the whole input already"),
    ]


def test_a_cycle_through_bindings_is_named() -> None:
    assert problems(step("a", bindings=(Binding("", FromStep("b")),)), step("b", "a")) == [
        ("steps[0].depends_on", "dependency cycle: a → b → a"),
    ]


def test_a_cycles_path_leaves_out_steps_that_only_lead_to_it() -> None:
    steps = (step("x", "a"), step("y", "c"), step("c", "b"), step("a", "c"), step("b", "a"), step("z"))
    assert problems(*steps) == [("steps[2].depends_on", "dependency cycle: c → b → a → c")]


def test_every_cycle_is_named() -> None:
    steps = (step("a", "b"), step("b", "a"), step("c", "d"), step("d", "c"), step("e", "a", "c"))
    assert problems(*steps) == [
        ("steps[0].depends_on", "dependency cycle: a → b → a"),
        ("steps[2].depends_on", "dependency cycle: c → d → c"),
    ]


def test_a_cycle_is_named_though_its_steps_also_have_unknown_dependencies() -> None:
    assert problems(step("a", "nobody", "b"), step("b", "a")) == [
        ("steps[0].depends_on[0]", 'unknown step "nobody"'),
        ("steps[0].depends_on", "dependency cycle: a → b → a"),
    ]


def test_a_cycle_through_the_last_of_many_steps_is_found() -> None:
    steps = [step("s0", "s999"), *(step(f"s{n}", f"s{n - 1}") for n in range(1, 1000))]
    ((field, description),) = problems(*steps)
    assert field == "steps[0].depends_on"
    assert description.startswith("dependency cycle: s0 → s999 → s998 → ")
    assert description.endswith(" → s1 → s0")


# Retries and fallbacks.


SECONDS = 1_000_000_000


@pytest.mark.parametrize(
    ("policy", "field", "problem"),
    [
        (Retry(0), "max_attempts", "must be 1 to 1,000, got 0"),
        (Retry(-1), "max_attempts", "must be 1 to 1,000, got -1"),
        (Retry(1_001), "max_attempts", "must be 1 to 1,000, got 1,001"),
        (Retry(initial_backoff=-SECONDS), "initial_backoff", "must not be negative, got -1 s"),
        (Retry(backoff_multiplier=0.9), "backoff_multiplier", "must be a number of at least 1, got 0.9"),
        (Retry(backoff_multiplier=float("nan")), "backoff_multiplier", "must be a number of at least 1, got nan"),
        (Retry(backoff_multiplier=float("inf")), "backoff_multiplier", "must be a number of at least 1, got inf"),
        (Retry(initial_backoff=60 * SECONDS), "max_backoff", "must be at least `initial_backoff`, 60 s, and is 30 s"),
        (Retry(jitter=-0.1), "jitter", "must be 0 to 1, got -0.1"),
        (Retry(jitter=1.1), "jitter", "must be 0 to 1, got 1.1"),
        (Retry(jitter=float("nan")), "jitter", "must be 0 to 1, got nan"),
        (
            Retry(retryable_reasons=(Reason.TIMEOUT, Reason.CANCELLED)),
            "retryable_reasons[1]",
            "what was cancelled is not tried again",
        ),
    ],
)
def test_a_problem_of_a_policy_is_named(policy: Retry, field: str, problem: str) -> None:
    assert problems(step("a", retry=policy)) == [(f"steps[0].retry.{field}", problem)]
    assert validate(flow(step("a"), retry=policy), Limits()) == [Violation(f"retry.{field}", problem)]


def test_a_policy_cannot_retry_interruptions() -> None:
    ((field, problem),) = problems(step("a", retry=Retry(retryable_reasons=(Reason.INTERRUPTED,))))
    assert field == "steps[0].retry.retryable_reasons[0]"
    assert problem.endswith("see `on_interrupt`")


def test_all_problems_of_a_policy_are_named_at_once() -> None:
    policy = Retry(0, -SECONDS, 0.0, -2 * SECONDS, 2.0)
    fields = [field.rpartition(".")[2] for field, _ in problems(step("a", retry=policy))]
    assert fields == ["max_attempts", "initial_backoff", "backoff_multiplier", "max_backoff", "jitter"]


@pytest.mark.parametrize("policy", [Retry(), Retry(1_000, 0, 1.0, 0, 1.0), Retry(initial_backoff=30 * SECONDS)])
def test_a_valid_policy_is_accepted(policy: Retry) -> None:
    assert problems(step("a", retry=policy)) == []


def test_bindings_of_a_fallback_are_checked_as_those_of_a_step() -> None:
    bindings = (Binding("x", FromStep("serach"), position=0), Binding("", FromStep("a"), position=1))
    fallback = FallbackAction("other", None, bindings)
    place = "steps[1].fallback.action.bindings"
    assert problems(step("search"), step("a", fallback=fallback)) == [
        (f"{place}[0].target", 'malformed JSON Pointer "x": it must be empty or begin with "/"'),
        (f"{place}[0].step.id", 'unknown step "serach"; did you mean "search"?'),
        (f"{place}[1].step.id", 'step "a" depends on itself'),
    ]


def test_a_cycle_through_a_fallback_is_named() -> None:
    fallback = FallbackAction("other", None, (Binding("", FromStep("b")),))
    assert problems(step("a", fallback=fallback), step("b", "a")) == [
        ("steps[0].depends_on", "dependency cycle: a → b → a"),
    ]


def test_bindings_of_a_fallback_count_as_dependencies() -> None:
    fallback = FallbackAction("other", None, (Binding("", FromStep("a")),))
    assert problems(step("a"), step("b", fallback=fallback), limits=Limits(max_edges=0)) == [
        ("steps", "1 dependencies are more than the 0 allowed"),
    ]


# Bounds, and all at once.


def test_too_many_steps_are_refused() -> None:
    assert problems(step("a"), step("b"), limits=Limits(max_steps=1)) == [
        ("steps", "2 steps are more than the 1 allowed"),
    ]


def test_too_many_dependencies_are_refused_those_of_bindings_counted() -> None:
    steps = (step("a"), step("b", "a", bindings=(Binding("", FromStep("a")),)))
    assert problems(*steps, limits=Limits(max_edges=2)) == []
    assert problems(*steps, limits=Limits(max_edges=1)) == [("steps", "2 dependencies are more than the 1 allowed")]


def test_all_problems_are_named_at_once() -> None:
    steps = (step("1"), step("a", "a"), step("a"), step("b", "c", "x"), step("c", "b"))
    workflow = Workflow(name="", steps=steps, outputs=("y",))
    assert [violation.field for violation in validate(workflow, Limits())] == [
        "name",
        "steps[0].id",
        "steps[2].id",
        "steps[1].depends_on[0]",
        "steps[3].depends_on[1]",
        "steps[3].depends_on",
        "outputs[0]",
    ]


def test_only_the_first_unknown_names_are_compared_with_all_others() -> None:
    steps = [step("search"), *(step(f"s{n}", "serach") for n in range(100))]
    hints = [description.endswith('did you mean "search"?') for _, description in problems(*steps)]
    assert hints == [True] * 20 + [False] * 80


def test_names_are_not_compared_when_there_are_too_many() -> None:
    assert did_you_mean("serach", ["search"] * 2_001) == ""
    assert did_you_mean("x" * 128, ["y" * 128] * 100) == ""


# Lists and nested workflows.


def _runs(step_id: str, *steps: Step, **fields: object) -> Step:
    workflow = Workflow(name="inner", steps=steps, **fields)  # type: ignore[arg-type]  # fields by name
    return Step(step_id, "core.workflow", workflow=workflow)


def test_a_sound_nested_workflow_has_no_problems() -> None:
    inner = _runs("b", step("a"), step("b", "a"), scheduling=Scheduling.WAVE, outputs=("b",))
    assert problems(step("a"), replace(inner, depends_on=("a",))) == []


def test_a_nested_workflow_is_checked_as_a_workflow_of_its_own() -> None:
    bound = Step("x", "noop", bindings=(Binding("x", FromInput()),), retry=Retry(0))
    inner = _runs("in", step("b", "a"), step("b"), step("c", "c2"), step("c2", "c"), bound, outputs=("zzz",))
    path = "steps[1].workflow.steps[1].workflow"
    assert problems(step("a"), _runs("out", step("a"), inner)) == [
        (f"{path}.steps[1].id", '"b" is the id of steps[0] already'),
        (f"{path}.steps[0].depends_on[0]", 'unknown step "a"'),
        (f"{path}.steps[4].bindings[0].target", 'malformed JSON Pointer "x": it must be empty or begin with "/"'),
        (f"{path}.steps[4].retry.max_attempts", "must be 1 to 1,000, got 0"),
        (f"{path}.steps[2].depends_on", "dependency cycle: c → c2 → c"),
        (f"{path}.outputs[0]", 'unknown step "zzz"'),
    ]


def test_a_nested_workflow_needs_a_name_and_a_step() -> None:
    nested = Step("a", "core.workflow", workflow=Workflow(name=""))
    for open_run in (False, True):
        assert problems(nested, open_run=open_run) == [
            ("steps[0].workflow.name", "must not be empty"),
            ("steps[0].workflow.steps", "a workflow needs at least one step"),
        ]


def test_the_steps_of_nested_workflows_count() -> None:
    inner = _runs("in", step("a"), step("b", "a"))
    assert problems(_runs("out", inner), limits=Limits(max_steps=4)) == []
    assert problems(_runs("out", inner), limits=Limits(max_steps=3)) == [
        ("steps", "4 steps are more than the 3 allowed")
    ]
    assert problems(_runs("out", inner), limits=Limits(max_edges=0)) == [
        ("steps", "1 dependencies are more than the 0 allowed")
    ]


def test_the_source_of_a_list_is_checked() -> None:
    steps = (
        Step("a", "noop", for_each=ForEach(FromStep("zzz", "x"))),
        Step("b", "noop", for_each=ForEach(FromInput("~"))),
        Step("c", "noop", for_each=ForEach(FromStep("c"))),
        Step("d", "noop", for_each=ForEach("[1]")),
        Step("e", "noop", ("f",)),
        Step("f", "noop", for_each=ForEach(FromStep("e"))),
    )
    assert problems(*steps) == [
        ("steps[0].for_each.step.id", 'unknown step "zzz"'),
        ("steps[0].for_each.step.path", 'malformed JSON Pointer "x": it must be empty or begin with "/"'),
        ("steps[1].for_each.input", 'malformed JSON Pointer "~": it must be empty or begin with "/"'),
        ("steps[2].for_each.step.id", 'step "c" depends on itself'),
        ("steps[4].depends_on", "dependency cycle: e → f → e"),
    ]
