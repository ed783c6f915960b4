"""Converts what a server has, is and does: actions, limits, named workflows, its info and its stats."""

from collections.abc import Mapping

from stepwave._model.catalog import (
    ActionInfo,
    ActionLimit,
    ActionStats,
    AdaptiveLimit,
    CommitStats,
    NamedWorkflow,
    RateLimit,
    ServerInfo,
    ServerLimits,
    ServerStats,
)
from stepwave._values.payload import JSON, load_json
from stepwave.v1 import orchestrator_pb2

from .results import moment, span

__all__ = ["action_from_proto", "server_info_from_proto", "server_stats_from_proto", "workflow_from_proto"]


def action_from_proto(message: orchestrator_pb2.Action) -> ActionInfo:
    """Convert an action of the contract."""
    return ActionInfo(
        name=message.name,
        description=message.description,
        input_schema=_schema(message.input_schema),
        streaming=message.streaming,
        source=message.source,
        limits=tuple(map(_limit, message.limits)),
        output_schema=_schema(message.output_schema),
        idempotent=message.idempotent,
    )


def _schema(text: str) -> Mapping[str, JSON]:
    schema = load_json(text) if text else {}
    return schema if isinstance(schema, dict) else {}


def _limit(message: orchestrator_pb2.Limit) -> ActionLimit:
    return ActionLimit(
        actions=message.actions,
        per_key=message.per_key,
        max_concurrency=message.max_concurrency or None,
        rate=_rate(message.rate) if message.HasField("rate") else None,
        adaptive=_adaptive(message.adaptive) if message.HasField("adaptive") else None,
        in_flight=message.in_flight,
    )


def _rate(message: orchestrator_pb2.RateLimit) -> RateLimit:
    return RateLimit(count=message.count, period=span(message.period), burst=message.burst)


def _adaptive(message: orchestrator_pb2.AdaptiveLimit) -> AdaptiveLimit:
    return AdaptiveLimit(
        concurrency=message.concurrency,
        min_concurrency=message.min_concurrency,
        max_concurrency=message.max_concurrency,
        refused=message.refused,
        paused_until=moment(message.paused_until) if message.HasField("paused_until") else None,
    )


def workflow_from_proto(message: orchestrator_pb2.NamedWorkflow) -> NamedWorkflow:
    """Convert a named workflow of the contract."""
    return NamedWorkflow(
        name=message.name,
        step_count=message.step_count,
        labels=dict(message.labels),
        digest=message.digest,
        input_schema=_schema(message.input_schema),
    )


def server_stats_from_proto(message: orchestrator_pb2.ServerStats) -> ServerStats:
    """Convert what a server does now."""
    commits = message.commits
    return ServerStats(
        time=moment(message.time),
        runs_in_flight=message.runs_in_flight,
        attempts_in_flight=message.attempts_in_flight,
        attempts_queued=message.attempts_queued,
        actions=tuple(ActionStats(it.action, it.in_flight, it.queued) for it in message.actions),
        streams_open=message.streams_open,
        stream_lag=message.stream_lag,
        limits=tuple(map(_limit, message.limits)),
        commits=CommitStats(
            count=commits.count,
            event_count=commits.event_count,
            median_duration=span(commits.median_duration),
            max_duration=span(commits.max_duration),
        )
        if message.HasField("commits")
        else None,
    )


def server_info_from_proto(message: orchestrator_pb2.ServerInfo) -> ServerInfo:
    """Convert the info of a server."""
    limits = message.limits
    return ServerInfo(
        version=message.version,
        engine=message.engine,
        journal=message.journal,
        limits=ServerLimits(
            max_steps=limits.max_steps,
            max_edges=limits.max_edges,
            max_payload_bytes=limits.max_payload_bytes,
            max_message_bytes=limits.max_message_bytes,
            max_runs=limits.max_runs,
            max_attempts_in_flight=limits.max_attempts_in_flight,
            default_step_timeout=span(limits.default_step_timeout),
            max_items=limits.max_items,
            default_idle_timeout=span(limits.default_idle_timeout),
        ),
        capabilities=tuple(message.capabilities),
        start_time=moment(message.start_time),
        draining=message.draining,
    )
