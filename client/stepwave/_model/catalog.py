"""What a server can do, and how it would run a workflow: plans, actions, named workflows, the server itself."""

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
    "AdaptiveLimit",
    "InputRule",
    "NamedWorkflow",
    "Plan",
    "PlannedBinding",
    "PlannedFallback",
    "PlannedRetry",
    "PlannedStep",
    "RateLimit",
    "ServerInfo",
    "ServerLimits",
]


class InputRule(StrEnum):
    """What an action gets: the step's `own` input, the `run`'s, or an object of its `dependencies`' outputs by id."""

    OWN = "own"
    RUN = "run"
    DEPENDENCIES = "dependencies"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PlannedBinding(Plain):
    """A value put into a step's input before the step starts.

    Attributes:
        target: Where in the input: a JSON Pointer; empty for the whole input.
        source: What kind of source: `step`, `input`, `item`, `secret` or `expression`.
        step_id: The step whose output it is; empty for other sources.
        path: The JSON Pointer into that source; the name of a secret; the text of an expression.
    """

    target: str
    source: str
    step_id: str
    path: str


@dataclass(frozen=True, slots=True)
class PlannedRetry(Plain):
    """When and how often a failed attempt of a step would be tried again.

    Attributes:
        max_attempts: All attempts together, the first included.
        initial_backoff: The pause before the second attempt.
        backoff_multiplier: The factor by which each pause exceeds the one before.
        max_backoff: The longest pause.
        jitter: The share of a pause that is drawn at random, 0 to 1.
        retryable_reasons: Failures worth another attempt.
    """

    max_attempts: int
    initial_backoff: timedelta
    backoff_multiplier: float
    max_backoff: timedelta
    jitter: float
    retryable_reasons: tuple[FailureReason, ...]


@dataclass(frozen=True, slots=True)
class PlannedFallback(Plain):
    """A step's fallback: what answers after its last attempt has failed.

    Attributes:
        action: Another action; empty: a fixed value.
        value: The fixed value, or the fixed part of the action's input; `None` if there is none.
        bindings: What is put into the action's input.
    """

    action: str
    value: JSON | Blob = field(metadata=PAYLOAD)
    bindings: tuple[PlannedBinding, ...]


@dataclass(frozen=True, slots=True)
class PlannedStep(Plain):
    """How a step would run.

    Attributes:
        step_id: The step.
        action: What it does.
        wave: Its topological level, from 0.
        depends_on: What it depends on, dependencies implied by bindings included.
        input_rule: What its action gets.
        input: The fixed part of its input; `None` if there is none.
        bindings: What is put into its input.
        timeout: How long an attempt may take; `None`: as long as the server allows by default.
        total_timeout: How long all attempts, pauses and waiting may take together; `None`: without a limit.
        retry: When a failed attempt is tried again: by the step's own policy, else the workflow's; `None`: never.
        fallback: What answers once it has finally failed; `None`: nothing does.
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


@dataclass(frozen=True, slots=True)
class Plan(Plain):
    """How a workflow would run.

    Attributes:
        workflow_name: The name of the workflow.
        step_count: How many steps it has.
        edge_count: How many dependencies, implied ones included.
        wave_sizes: How many steps each wave has, from wave 0.
        width: The size of the largest wave.
        outputs: The ids of the steps whose outputs would be the run's, if all succeeded. The first 1,000.
        steps: All steps, by wave, then in the order in which they are declared.
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
    """How often attempts may start: `count` in every `period`, evenly spread, and `burst` together after quiet."""

    count: int
    period: timedelta
    burst: int


@dataclass(frozen=True, slots=True)
class AdaptiveLimit(Plain):
    """A bound on attempts in flight that falls at once when the service behind them refuses, and climbs back slowly.

    Attributes:
        concurrency: How many may be in flight at once, now; of several keys, the lowest.
        min_concurrency: How far it may fall.
        max_concurrency: How far it may climb.
        refused: How many attempts failed with `rate_limited` since the server started.
        paused_until: Until when nothing starts, because such a failure asked for it; `None`: there is no pause.
    """

    concurrency: int
    min_concurrency: int
    max_concurrency: int
    refused: int
    paused_until: datetime | None


@dataclass(frozen=True, slots=True)
class ActionLimit(Plain):
    """A limit on attempts, counted over all runs and all actions that it covers, and how it stands.

    Attributes:
        actions: What it covers: the name of an action, or the beginning of names and `*`.
        per_key: Whether it counts each value of the steps' `concurrency_key` apart.
        max_concurrency: How many may be in flight at once; `None`: as many as come, or as `adaptive` says.
        rate: How often they may start; `None`: however often.
        adaptive: A bound that finds itself; `None`: there is none.
        in_flight: How many are in flight now.
    """

    actions: str
    per_key: bool
    max_concurrency: int | None
    rate: RateLimit | None
    adaptive: AdaptiveLimit | None
    in_flight: int


@dataclass(frozen=True, slots=True)
class ActionInfo(Plain):
    """Something a step can do.

    Attributes:
        name: Its name, as steps give it.
        description: What it does, in its author's words.
        input_schema: A JSON Schema (draft 2020-12) of its input.
        streaming: Whether it answers in chunks.
        source: Where it comes from, for example `tools:search` or `built-in`.
        limits: What the server was told to allow it; all of it applies.
    """

    name: str
    description: str
    input_schema: Mapping[str, JSON] = field(metadata=PAYLOADS)
    streaming: bool
    source: str
    limits: tuple[ActionLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class NamedWorkflow(Plain):
    """A workflow that the server has."""

    name: str
    step_count: int
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ServerLimits(Plain):
    """The bounds of a server.

    Attributes:
        max_steps: Steps in a workflow.
        max_edges: Dependencies in a workflow.
        max_payload_bytes: Bytes in one payload.
        max_message_bytes: Bytes in one message to the server.
        max_runs: Runs under way at once.
        max_attempts_in_flight: Attempts in flight at once, over all runs.
        default_step_timeout: How long an attempt may take, unless its step says otherwise.
    """

    max_steps: int
    max_edges: int
    max_payload_bytes: int
    max_message_bytes: int
    max_runs: int
    max_attempts_in_flight: int
    default_step_timeout: timedelta


@dataclass(frozen=True, slots=True)
class ServerInfo(Plain):
    """What a server is and can do.

    Attributes:
        version: The version of Stepwave it runs.
        engine: What drives runs: `local` or `temporal`.
        journal: Where events are kept: `memory` or `sqlite`.
        limits: Its bounds.
        capabilities: What it can do beyond the first version of the contract, by stable names.
        start_time: When it started.
        draining: Whether it is about to stop and takes no new runs.
    """

    version: str
    engine: str
    journal: str
    limits: ServerLimits
    capabilities: tuple[str, ...]
    start_time: datetime
    draining: bool
