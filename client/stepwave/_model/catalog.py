"""Plans of workflows, and what a server has: actions, named workflows, limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from stepwave._actions.failure import FailureReason
from stepwave._values.payload import JSON, Blob
from stepwave._values.plain import PAYLOAD, PAYLOADS, Plain

__all__ = [
    "ActionInfo",
    "ActionLimit",
    "ActionStats",
    "AdaptiveLimit",
    "CommitStats",
    "InputRule",
    "NamedWorkflow",
    "Plan",
    "PlannedBinding",
    "PlannedFallback",
    "PlannedList",
    "PlannedRetry",
    "PlannedStep",
    "RateLimit",
    "ServerInfo",
    "ServerLimits",
    "ServerStats",
]


class InputRule(StrEnum):
    """The input of an action: the step's `own`, the `run`'s, the outputs of its `dependencies` by id, or the `item`."""

    OWN = "own"
    RUN = "run"
    DEPENDENCIES = "dependencies"
    ITEM = "item"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PlannedBinding(Plain):
    """A value put into a step's input before the step starts.

    Attributes:
        target: The JSON Pointer to its place in the input; empty: the whole input.
        source: The kind of source: `step`, `input`, `item`, `secret` or `expression`.
        step_id: The step whose output it is; empty: another source.
        path: The JSON Pointer into the source, the name of the secret, or the text of the expression.
        has_default: Whether it has a value for a source that has none.
        default: That value.
    """

    target: str
    source: str
    step_id: str
    path: str
    has_default: bool = False
    default: JSON | Blob = field(default=None, metadata=PAYLOAD)


@dataclass(frozen=True, slots=True)
class PlannedRetry(Plain):
    """When and how often a failed attempt of a step would be retried.

    Attributes:
        max_attempts: The number of attempts, with the first.
        initial_backoff: The pause before the second attempt.
        backoff_multiplier: The factor by which each pause exceeds the one before.
        max_backoff: The longest pause.
        jitter: The random share of a pause, 0 to 1.
        retryable_reasons: The reasons of failures to retry.
    """

    max_attempts: int
    initial_backoff: timedelta
    backoff_multiplier: float
    max_backoff: timedelta
    jitter: float
    retryable_reasons: tuple[FailureReason, ...]


@dataclass(frozen=True, slots=True)
class PlannedFallback(Plain):
    """A step's fallback: the answer after its last attempt has failed.

    Attributes:
        action: Another action; empty: a fixed value.
        value: The fixed value, or the fixed part of the action's input; `None`: there is none.
        bindings: The bindings of the action's input.
    """

    action: str
    value: JSON | Blob = field(metadata=PAYLOAD)
    bindings: tuple[PlannedBinding, ...]


@dataclass(frozen=True, slots=True)
class PlannedList(Plain):
    """The list that a step runs over.

    Attributes:
        source: The kind of source: `step`, `input`, `expression`, or `items` for a fixed list.
        step_id: The step whose output it is; empty: another source.
        path: The JSON Pointer into the source, or the text of the expression.
        items: The fixed list; `None`: another source.
        max_parallelism: The largest number of children in flight at once; 0: no limit but the workflow's.
    """

    source: str
    step_id: str
    path: str
    items: JSON | Blob = field(metadata=PAYLOAD)
    max_parallelism: int


@dataclass(frozen=True, slots=True)
class PlannedStep(Plain):
    """How a step would run.

    Attributes:
        step_id: The step.
        action: The step's action; `core.workflow`: it runs a workflow.
        wave: The step's topological level, from 0.
        depends_on: The dependencies, with those implied by bindings.
        input_rule: The input of its action.
        input: The fixed part of its input; `None`: there is none.
        bindings: The bindings of its input.
        timeout: The longest that an attempt may take; `None`: the server's default.
        total_timeout: The longest that all attempts, pauses and waiting may take together; `None`: no limit.
        retry: The step's retry policy, else the workflow's; `None`: no retries.
        fallback: The answer after the last attempt has failed; `None`: there is none.
        when: The CEL text of its condition; empty: none.
        join: The condition on its dependencies: `all`, `any` or `all_done`.
        for_each: The list that it runs over; `None`: it runs once.
        workflow_name: The name of the workflow that it runs; empty: it runs an action.
        workflow_steps: The ids of that workflow's steps, in the order of their declaration.
    """

    step_id: str
    action: str
    wave: int
    depends_on: tuple[str, ...]
    input_rule: InputRule
    input: JSON | Blob = field(metadata=PAYLOAD)
    bindings: tuple[PlannedBinding, ...]
    timeout: timedelta | None = None
    total_timeout: timedelta | None = None
    retry: PlannedRetry | None = None
    fallback: PlannedFallback | None = None
    when: str = ""
    join: str = "all"
    for_each: PlannedList | None = None
    workflow_name: str = ""
    workflow_steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan(Plain):
    """How a workflow would run.

    Attributes:
        workflow_name: The name of the workflow.
        step_count: The number of steps.
        edge_count: The number of dependencies, with implied ones.
        wave_sizes: The number of steps of each wave, from wave 0.
        width: The size of the largest wave.
        outputs: The ids of the steps whose outputs would be the run's, if all succeeded; the first 1,000.
        steps: All steps, by wave, then in declaration order.
    """

    workflow_name: str
    step_count: int
    edge_count: int
    wave_sizes: tuple[int, ...]
    width: int
    outputs: tuple[str, ...]
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class RateLimit(Plain):
    """A limit on the starts of attempts: `count` per `period`, evenly spread, and `burst` at once after a pause."""

    count: int
    period: timedelta
    burst: int


@dataclass(frozen=True, slots=True)
class AdaptiveLimit(Plain):
    """A limit on attempts in flight that drops when the service is rate-limited, and recovers slowly.

    Attributes:
        concurrency: The current limit; of several keys, the lowest.
        min_concurrency: The lowest limit.
        max_concurrency: The highest limit.
        refused: The number of attempts that failed with `rate_limited` since the server started.
        paused_until: The end of a pause that such a failure asked for; `None`: there is no pause.
    """

    concurrency: int
    min_concurrency: int
    max_concurrency: int
    refused: int
    paused_until: datetime | None


@dataclass(frozen=True, slots=True)
class ActionLimit(Plain):
    """A limit on the attempts of one or more actions over all runs, with its current use.

    Attributes:
        actions: The name of the action, or a prefix of names and `*`.
        per_key: Whether each value of the steps' `concurrency_key` counts separately.
        max_concurrency: The largest number in flight at once; `None`: no fixed limit.
        rate: The limit on starts; `None`: there is none.
        adaptive: The adaptive limit; `None`: there is none.
        in_flight: The number in flight now.
    """

    actions: str
    per_key: bool
    max_concurrency: int | None
    rate: RateLimit | None
    adaptive: AdaptiveLimit | None
    in_flight: int


@dataclass(frozen=True, slots=True)
class ActionInfo(Plain):
    """An action of a server.

    Attributes:
        name: The action's name.
        description: The author's description.
        input_schema: A JSON Schema (draft 2020-12) of the input.
        streaming: Whether it answers in chunks.
        source: Where it was loaded from, such as `tools:search` or `built-in`.
        limits: The server's limits on it; all apply.
        output_schema: A JSON Schema of the output where it is JSON, as its author declares it; empty: not known.
        idempotent: Whether to run it twice with the same input has the same effect as to run it once; false: not known.
    """

    name: str
    description: str
    input_schema: Mapping[str, JSON] = field(metadata=PAYLOADS)
    streaming: bool
    source: str
    limits: tuple[ActionLimit, ...] = ()
    output_schema: Mapping[str, JSON] = field(default_factory=dict, metadata=PAYLOADS)
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class NamedWorkflow(Plain):
    """A named workflow of a server.

    Attributes:
        name: The name of the workflow.
        step_count: The number of its steps.
        labels: Its labels.
        digest: Its digest, as in `Run.workflow_digest`.
        input_schema: The JSON Schema of its input; empty: any input.
    """

    name: str
    step_count: int
    labels: Mapping[str, str]
    digest: str = ""
    input_schema: Mapping[str, JSON] = field(default_factory=dict, metadata=PAYLOADS)


@dataclass(frozen=True, slots=True)
class ServerLimits(Plain):
    """The limits of a server.

    Attributes:
        max_steps: Steps in a workflow.
        max_edges: Dependencies in a workflow.
        max_payload_bytes: Bytes in one payload.
        max_message_bytes: Bytes in one message to the server.
        max_runs: Runs under way at once; 0: no such limit.
        max_attempts_in_flight: Attempts in flight at once, over all runs; 0: no such limit.
        default_step_timeout: The longest that an attempt may take, if its step has no timeout.
        max_items: Items in a list that a step runs over.
        default_idle_timeout: The longest that an open run may be idle, if it has no such timeout of its own.
    """

    max_steps: int
    max_edges: int
    max_payload_bytes: int
    max_message_bytes: int
    max_runs: int
    max_attempts_in_flight: int
    default_step_timeout: timedelta
    max_items: int = 0
    default_idle_timeout: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class ServerInfo(Plain):
    """The version, limits and capabilities of a server.

    Attributes:
        version: The server's version of Stepwave.
        engine: What drives runs: `local` or `temporal`.
        journal: Where events are kept: `memory` or `sqlite`.
        limits: The server's limits.
        capabilities: The names of the parts of the contract that the server serves, of those that a server may lack.
        start_time: When it started.
        draining: Whether it is stopping and accepts no new runs.
    """

    version: str
    engine: str
    journal: str
    limits: ServerLimits
    capabilities: tuple[str, ...]
    start_time: datetime
    draining: bool


@dataclass(frozen=True, slots=True)
class ActionStats(Plain):
    """The attempts of one action on a server.

    Attributes:
        action: The name of the action.
        in_flight: Attempts in flight.
        queued: Attempts that are ready and wait for a place.
    """

    action: str
    in_flight: int
    queued: int


@dataclass(frozen=True, slots=True)
class CommitStats(Plain):
    """The commits of a server's journal on disk.

    Attributes:
        count: Commits since the server started.
        event_count: Events in them.
        median_duration: The median time of the latest commits.
        max_duration: The longest time of the latest commits.
    """

    count: int
    event_count: int
    median_duration: timedelta
    max_duration: timedelta


@dataclass(frozen=True, slots=True)
class ServerStats(Plain):
    """The load of a server now. On Temporal, it is that of this server, not of the cluster.

    Attributes:
        time: The time of the stats.
        runs_in_flight: Runs that have not ended; on Temporal, those whose events this server reads.
        attempts_in_flight: Attempts that run in this server.
        attempts_queued: Attempts that are ready and wait for a place.
        actions: The actions with attempts in flight or queued, those with the most first; at most 100.
        streams_open: Open streams of events.
        stream_lag: Committed events that the slowest stream has not sent.
        limits: The limits of actions, with their current use.
        commits: The commits of the journal; `None`: it is not on disk, or has none.
    """

    time: datetime
    runs_in_flight: int
    attempts_in_flight: int
    attempts_queued: int
    actions: tuple[ActionStats, ...]
    streams_open: int
    stream_lag: int
    limits: tuple[ActionLimit, ...]
    commits: CommitStats | None
