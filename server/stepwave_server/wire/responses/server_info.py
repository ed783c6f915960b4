"""Information about the server, its limits and its actions, as messages."""

from collections import Counter
from collections.abc import Iterable

from stepwave.v1 import event_pb2, orchestrator_pb2
from stepwave_server.core.explanation import Waiting
from stepwave_server.core.info import LimitInfo, Load
from stepwave_server.core.model import MAX_ITEMS
from stepwave_server.wire.values import clean, fill_duration, fill_time

__all__ = ["CAPABILITIES", "to_action", "to_limit", "to_limits", "to_server_info", "to_stats", "to_waiting"]

CAPABILITIES = (
    "chunks",
    "conditions",
    "explain",
    "export",
    "external_steps",
    "limits",
    "lists",
    "logs",
    "namespaces",
    "open_runs",
    "reruns",
    "secrets",
    "workflows",
)
"""The parts of the contract that a server can serve, of those that a server may lack."""


MAX_STATS_ACTIONS = 100
"""Actions in the stats of a server."""


def to_action(
    *,
    name: str,
    description: str,
    input_schema: str,
    output_schema: str,
    streaming: bool,
    idempotent: bool,
    source: str,
) -> orchestrator_pb2.Action:
    """Return an action as a message."""
    return orchestrator_pb2.Action(
        name=name,
        description=description,
        input_schema=input_schema,
        output_schema=output_schema,
        streaming=streaming,
        idempotent=idempotent,
        source=source,
    )


def to_limit(info: LimitInfo) -> orchestrator_pb2.Limit:
    """Return a limit of actions as a message."""
    message = orchestrator_pb2.Limit(
        actions=info.actions,
        per_key=info.per_key,
        max_concurrency=info.concurrency or 0,
        in_flight=info.in_flight,
    )
    if info.rate is not None:
        message.rate.count, period, message.rate.burst = info.rate
        fill_duration(message.rate.period, period)
    if info.adaptive is not None:
        adaptive = message.adaptive
        adaptive.min_concurrency, adaptive.max_concurrency, adaptive.concurrency = info.adaptive
        adaptive.refused = info.refused
        if info.paused_until is not None:
            fill_time(adaptive.paused_until, info.paused_until)
    return message


def to_waiting(waiting: Waiting) -> orchestrator_pb2.WaitingSteps:
    """Return a reason for which steps wait as a message."""
    return orchestrator_pb2.WaitingSteps(
        cause=event_pb2.WaitCause.ValueType(waiting.cause.value),
        message=clean(waiting.message),
        limit=waiting.limit,
        step_count=waiting.step_count,
        step_ids=waiting.step_ids,
    )


def to_limits(
    *,
    max_steps: int,
    max_edges: int,
    max_payload_bytes: int,
    max_message_bytes: int,
    max_runs: int,
    max_attempts_in_flight: int,
    step_timeout: int,
    idle_timeout: int,
) -> orchestrator_pb2.ServerLimits:
    """Return the bounds of the server as a message. The timeouts are in nanoseconds."""
    limits = orchestrator_pb2.ServerLimits(
        max_steps=max_steps,
        max_edges=max_edges,
        max_payload_bytes=max_payload_bytes,
        max_message_bytes=max_message_bytes,
        max_runs=max_runs,
        max_attempts_in_flight=max_attempts_in_flight,
        max_items=min(MAX_ITEMS, max_steps),
    )
    fill_duration(limits.default_step_timeout, step_timeout)
    fill_duration(limits.default_idle_timeout, idle_timeout)
    return limits


def to_stats(load: Load, time: int) -> orchestrator_pb2.ServerStats:
    """Return what a server does now as a message. `time` is in nanoseconds since the epoch."""
    busy = Counter(load.attempts)
    busy.update(load.queued)
    stats = orchestrator_pb2.ServerStats(
        runs_in_flight=load.runs,
        attempts_in_flight=sum(load.attempts.values()),
        attempts_queued=sum(load.queued.values()),
        streams_open=load.streams,
        stream_lag=load.stream_lag,
        limits=map(to_limit, load.limits),
    )
    for action, _ in busy.most_common(MAX_STATS_ACTIONS):
        stats.actions.add(action=action, in_flight=load.attempts.get(action, 0), queued=load.queued.get(action, 0))
    fill_time(stats.time, time)
    if load.commits is not None:
        commits = load.commits
        stats.commits.count, stats.commits.event_count = commits.count, commits.events
        fill_duration(stats.commits.median_duration, commits.median)
        fill_duration(stats.commits.max_duration, commits.longest)
    return stats


def to_server_info(
    *,
    version: str,
    engine: str,
    journal: str,
    limits: orchestrator_pb2.ServerLimits,
    start_time: int,
    capabilities: Iterable[str] = CAPABILITIES,
) -> orchestrator_pb2.ServerInfo:
    """Return information about the server as a message. `start_time` is in nanoseconds since the epoch."""
    info = orchestrator_pb2.ServerInfo(
        version=version, engine=engine, journal=journal, limits=limits, capabilities=capabilities
    )
    fill_time(info.start_time, start_time)
    return info
