"""The SDK of Stepwave: build workflows, run them, watch their events.

    from stepwave import AsyncClient, Workflow

    flow = Workflow("briefing")
    search, weather = flow.step("search", "search"), flow.step("weather", "weather")
    flow.step("brief", "summarise", {"facts": [search.output, weather.output["summary"]]})

    async with AsyncClient() as client:
        result = await client.run(flow, {"city": "Oslo"})

The clients, and gRPC with them, are imported at their first use: modules of actions do not need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._actions.action import action
from ._actions.context import Answer, Context
from ._actions.failure import ActionError, FailureReason
from ._building.expressions import Cel, Expression, size
from ._building.failure_policies import Fallback, Retry
from ._building.references import Reference, Secret, StepHandle
from ._building.requests import Rerun
from ._building.workflow import Workflow
from ._model.catalog import (
    ActionInfo,
    ActionLimit,
    ActionStats,
    AdaptiveLimit,
    CommitStats,
    InputRule,
    NamedWorkflow,
    Plan,
    PlannedBinding,
    PlannedFallback,
    PlannedList,
    PlannedRetry,
    PlannedStep,
    RateLimit,
    ServerInfo,
    ServerLimits,
    ServerStats,
)
from ._model.events import (
    AnyEvent,
    Event,
    LogLevel,
    RunFinished,
    RunStarted,
    RunStopping,
    StepChunk,
    StepExpanded,
    StepFinished,
    StepLog,
    StepProgress,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepsReused,
    StepStarted,
    StepStopping,
    StepWaiting,
    UnknownEvent,
    Wave,
    WaveFinished,
    WaveStarted,
)
from ._model.explanation import CodeLine, RunExplanation, StepExplanation
from ._model.report import RunReport
from ._model.results import (
    Counts,
    Failure,
    FailureCause,
    Run,
    RunResult,
    SkipCause,
    SkipReason,
    State,
    StepResult,
    WaitCause,
    WaitingSteps,
)
from ._model.step_report import Phase, PhaseKind, StepReport, TimeParts
from ._reports.export import RunExport
from ._values.payload import JSON, Blob
from .exceptions import (
    AccessDenied,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidExport,
    InvalidWorkflow,
    LimitExceeded,
    NotFound,
    OutOfRange,
    ParallelFailed,
    ReplayDiverged,
    RunCancelled,
    RunFailed,
    RunLost,
    ServerError,
    ServerUnavailable,
    StepwaveError,
    Unsupported,
    Violation,
)

if TYPE_CHECKING:
    from ._client.aio import AsyncClient
    from ._client.blocking import Client
    from ._client.open_runs import OpenRun
    from ._client.streams import EventStream, RunHandle, SyncEventStream, SyncRunHandle
    from ._client.sync_open_runs import SyncOpenRun
    from ._client.text import TextChunk

__all__ = [
    "JSON",
    "AccessDenied",
    "ActionError",
    "ActionInfo",
    "ActionLimit",
    "ActionStats",
    "AdaptiveLimit",
    "AlreadyExists",
    "Answer",
    "AnyEvent",
    "AsyncClient",
    "Blob",
    "Cel",
    "Client",
    "CodeLine",
    "CommitStats",
    "Context",
    "Counts",
    "DeadlineExceeded",
    "Event",
    "EventStream",
    "Expression",
    "FailedPrecondition",
    "Failure",
    "FailureCause",
    "FailureReason",
    "Fallback",
    "InputRule",
    "InvalidExport",
    "InvalidWorkflow",
    "LimitExceeded",
    "LogLevel",
    "NamedWorkflow",
    "NotFound",
    "OpenRun",
    "OutOfRange",
    "ParallelFailed",
    "Phase",
    "PhaseKind",
    "Plan",
    "PlannedBinding",
    "PlannedFallback",
    "PlannedList",
    "PlannedRetry",
    "PlannedStep",
    "RateLimit",
    "Reference",
    "ReplayDiverged",
    "Rerun",
    "Retry",
    "Run",
    "RunCancelled",
    "RunExplanation",
    "RunExport",
    "RunFailed",
    "RunFinished",
    "RunHandle",
    "RunLost",
    "RunReport",
    "RunResult",
    "RunStarted",
    "RunStopping",
    "Secret",
    "ServerError",
    "ServerInfo",
    "ServerLimits",
    "ServerStats",
    "ServerUnavailable",
    "SkipCause",
    "SkipReason",
    "State",
    "StepChunk",
    "StepExpanded",
    "StepExplanation",
    "StepFinished",
    "StepHandle",
    "StepLog",
    "StepProgress",
    "StepReady",
    "StepReport",
    "StepResult",
    "StepRetrying",
    "StepStarted",
    "StepStopping",
    "StepWaiting",
    "StepsAdded",
    "StepsReused",
    "StepwaveError",
    "SyncEventStream",
    "SyncOpenRun",
    "SyncRunHandle",
    "TextChunk",
    "TimeParts",
    "UnknownEvent",
    "Unsupported",
    "Violation",
    "WaitCause",
    "WaitingSteps",
    "Wave",
    "WaveFinished",
    "WaveStarted",
    "Workflow",
    "action",
    "size",
]

_LAZY_MODULES = {
    "AsyncClient": "_client.aio",
    "Client": "_client.blocking",
    "EventStream": "_client.streams",
    "OpenRun": "_client.open_runs",
    "RunHandle": "_client.streams",
    "SyncEventStream": "_client.streams",
    "SyncOpenRun": "_client.sync_open_runs",
    "SyncRunHandle": "_client.streams",
    "TextChunk": "_client.text",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f".{_LAZY_MODULES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_MODULES})
