"""The cost of bindings, conditions and lists: the time of a run's decisions with them, less that without them."""

import time
from dataclasses import replace
from statistics import median

from stepwave_server.core.decide import decide
from stepwave_server.core.evolve import new_run
from stepwave_server.core.messages import AttemptStarted, AttemptSucceeded, Input, Started
from stepwave_server.core.model import Binding, ForEach, FromExpression, FromStep, Payload, Step, Workflow
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator

__all__ = ["describe_evaluation"]

GOALS = {"a binding": 20, "a condition": 100}
"""The maximum costs in µs."""

OUTPUT: Payload = '{"hits":[{"url":"https://example.org/a","score":0.75}],"found":12,"query":"fjords"}'
SOURCE = Step("source", "noop")
PLAIN = Step("step", "noop", ("source",), input='{"query":"fjords"}')


def describe_evaluation(steps: int) -> str:
    """Measure on steps that all depend on one, and return the costs as text."""
    within = FromExpression('deps["source"].output.found + 1')
    variants = {
        "a binding": replace(PLAIN, bindings=(Binding("/query", FromStep("source", "/query")),)),
        "a condition": replace(PLAIN, when='deps["source"].output.found > 3'),
        "an expression": replace(PLAIN, bindings=(Binding("/n", within),)),
    }
    plain = _seconds(PLAIN, steps)
    costs = [f"{name} {_microseconds(_seconds(step, steps) - plain, steps, name)}" for name, step in variants.items()]
    items = Step("list", "noop", ("source",), for_each=ForEach(f"[{','.join(map(str, range(steps)))}]"))
    costs.append(f"an item of a list {_microseconds(_of_list(items) - plain, steps, '')} more than a step")
    return f"A step more costs: {', '.join(costs)}."


def _microseconds(seconds: float, steps: int, name: str) -> str:
    each = seconds / steps * 1e6
    goal = GOALS.get(name)
    verdict = "" if goal is None else f" (wanted ≤ {goal}: {'met' if each <= goal else 'missed'})"
    return f"{each:.1f} µs{verdict}"


def _seconds(step: Step, steps: int) -> float:
    """Return the time of the decisions of a run of so many steps like this one."""
    workflow = Workflow(name="flow", steps=(SOURCE, *(replace(step, id=f"step{index}") for index in range(steps))))
    return median(_run(workflow) for _ in range(5))


def _of_list(step: Step) -> float:
    return median(_run(Workflow(name="flow", steps=(SOURCE, step))) for _ in range(5))


def _run(workflow: Workflow) -> float:
    """Return the time in which a run is decided whose actions all answer at once."""
    run, evaluator = new_run(workflow), JsonEvaluator(1 << 20)
    began = time.perf_counter()
    ready = decide(run, Started(), 1, evaluator).requests
    while ready:
        batch, ready = ready, []
        inputs: list[Input] = [AttemptStarted(request.step_id, request.attempt) for request in batch]
        inputs += [AttemptSucceeded(request.step_id, request.attempt, OUTPUT) for request in batch]
        for given in inputs:
            ready += decide(run, given, 1, evaluator).requests
        evaluator.forget()  # as the engine does after every turn
    assert run.finished is not None
    return time.perf_counter() - began
