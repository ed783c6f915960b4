"""Reports: where a run's time went, as data and as text."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from shutil import get_terminal_size
from textwrap import wrap

from stepwave._values.plain import Plain
from stepwave._values.text import duration_text, one_line, plural

from .report_chart import Line, Role, Span, chart_lines, is_visible, kind_text, path_table
from .results import State
from .step_report import PhaseKind, StepReport, TimeParts

__all__ = ["RunReport", "report_lines"]

_MAX_AROUND = 3
_WIDTH = 100  # characters of a line, without a terminal


@dataclass(frozen=True, slots=True)
class RunReport(Plain):
    """Where a run's time went, by its events. As text (`print(report)`) it is a chart, as of `stepwave report`.

    The chart fits the terminal's width, without a terminal 100 characters. `repr` has all fields.

    For a run under way, the report covers the time up to the request, or, for an export, up to its newest event.

    The **critical path** is the chain of dependent steps that determined the run's end. It leads from the step that
    ended last (in a run under way: the one that has been under way longest) back along the dependency that each step
    waited for. After a step that became several come those of them that determined its end, such as `pages[7]/fetch`.
    The times of the path's steps add up to the makespan, together with the time in which an open run had nothing to do.
    If a run failed fast, was cancelled or timed out, its path leads to the attempt whose clean-up ended last.

    Attributes:
        run_id: The run.
        workflow_name: The name of the run's workflow.
        state: The run's state.
        start_time: When it began.
        end_time: When it ended; for a run under way, the end of the report.
        makespan: The time from start to end.
        path: The steps of the critical path, in order.
        path_parts: The parts of the makespan, along the path.
        totals: The sums over all steps. Steps run in parallel, so they may exceed the makespan.
        sequential: The work and backoff of all steps, and the time in which someone outside had to complete them: the
            makespan had they run one after another.
        speed_up: `sequential` divided by the makespan; `None`: the makespan is zero.
        without_waiting: The makespan had no step waited for a limit: each starts as soon as its dependencies, and the
            barrier, allow it.
        without_barriers: The same, without barriers too; `without_waiting` if there were none.
        saved_by_more_parallelism: The makespan minus `without_waiting`.
        peak: The largest number of attempts in flight at once.
        max_parallelism: The workflow's limit on attempts in flight; 0: no limit.
        bounded: Whether steps waited, and the attempts in flight reached `max_parallelism`.
        steps: All steps by id, in declaration order, those within a step after it.
    """

    run_id: str
    workflow_name: str
    state: State
    start_time: datetime
    end_time: datetime
    makespan: timedelta
    path: tuple[str, ...]
    path_parts: TimeParts
    totals: TimeParts
    sequential: timedelta
    speed_up: float | None
    without_waiting: timedelta
    without_barriers: timedelta
    saved_by_more_parallelism: timedelta
    peak: int
    max_parallelism: int
    bounded: bool
    steps: Mapping[str, StepReport]

    def __str__(self) -> str:
        """Return the chart, the table of the critical path, and the totals."""
        width = get_terminal_size((_WIDTH, 24)).columns
        return "\n".join("".join(span.text for span in line).rstrip() for line in report_lines(self, width))


def report_lines(report: RunReport, width: int) -> Iterator[Line]:
    """Yield the lines of a report: the chart, the table of the critical path, and the totals.

    Args:
        report: The report.
        width: The largest number of characters in a line. The first line, with the run's id, may be longer.
    """
    so_far = "" if report.state.ended else " so far"
    title = (
        f"{report.run_id}  {one_line(report.workflow_name)}  {report.state}{so_far}  {duration_text(report.makespan)}"
    )
    yield (Span(title, Role.TITLE),)
    yield ()
    yield from chart_lines(report.steps, report.path, report.makespan, width=width)
    if report.path:
        yield ()
        yield from path_table(report.steps, report.path, report.path_parts, width=width)
    yield ()
    for line in _totals(report):
        yield from ((Span(part),) for part in wrap(line, width, subsequent_indent="  "))


def _totals(report: RunReport) -> Iterator[str]:
    """Yield the makespan, the speed-up and the possible savings, one on each line."""
    parts = [
        f"{duration_text(time)} {kind_text(kind)}"
        for kind in PhaseKind
        if is_visible(time := getattr(report.path_parts, kind))
    ]
    yield f"makespan: {duration_text(report.makespan)}" + (f" = {' + '.join(parts)}" if parts else "")
    if nested := _within(report):
        yield nested
    if report.speed_up is not None:
        speed_up = f"{report.speed_up:.2f} over one step at a time ({duration_text(report.sequential)})"
        yield f"speed-up: {speed_up}; at most {plural(report.peak, 'attempt')} at once"
    yield f"without waiting: {_saving(report, report.without_waiting)}{_parallelism(report)}"
    if is_visible(report.without_waiting - report.without_barriers):
        yield f"without barriers too: {_saving(report, report.without_barriers)}"


def _within(report: RunReport) -> str:
    """Return the number of steps, and in which steps most of them are; empty: none is within another."""
    around = Counter(step.outermost for step in report.steps.values() if step.outermost != step.step_id)
    if not around:
        return ""
    states = Counter(step.state for step in report.steps.values())
    counts = ", ".join(f"{states[state]:,} {state}" for state in State if states[state])
    shown = around.most_common(_MAX_AROUND)
    within = ", ".join(f"{count:,} within {step_id}" for step_id, count in shown)
    more = f", {around.total() - sum(count for _, count in shown):,} within others" if len(shown) < len(around) else ""
    return f"steps: {counts}; {within}{more}"


def _saving(report: RunReport, makespan: timedelta) -> str:
    saved = report.makespan - makespan
    return f"{duration_text(makespan)}, {duration_text(saved)} shorter" if is_visible(saved) else "no shorter"


def _parallelism(report: RunReport) -> str:
    """Return the limits on attempts in flight: the workflow's, and those of lists on the critical path."""
    limits = ""
    if report.max_parallelism:
        reached = "" if report.bounded else "not "
        limits = f"; max_parallelism is {report.max_parallelism:,}, and was {reached}reached"
    lists = [report.steps[step_id] for step_id in report.path]
    for step in lists:
        if step.item_count is not None and 0 < step.max_parallelism < step.item_count:
            limits += f"; {step.step_id} runs {step.max_parallelism:,} of its {step.item_count:,} items at once"
    return limits
