"""Callers, their roles by namespace, the role that each call needs, and the errors of access."""

from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum

from stepwave_server.core.info import DEFAULT_NAMESPACE

__all__ = [
    "ALL_NAMESPACES",
    "ANYONE",
    "CALL",
    "REQUIRED",
    "AccessError",
    "Call",
    "Caller",
    "NotAuthenticated",
    "Role",
]


ALL_NAMESPACES = "*"
"""Stands for every namespace in the roles of a caller."""


class Role(IntEnum):
    """The role of a caller in a namespace. A higher role includes the permissions of the lower ones."""

    VIEWER = 1
    """Read runs, actions and workflows."""

    RUNNER = 2
    """Start runs, change them, cancel them, and complete their steps."""

    ADMIN = 3
    """Delete runs."""


REQUIRED: Mapping[str, Role] = {
    "AddSteps": Role.RUNNER,
    "CancelRun": Role.RUNNER,
    "CompleteStep": Role.RUNNER,
    "DeleteRun": Role.ADMIN,
    "ExecuteWorkflow": Role.RUNNER,
    "ExplainRun": Role.VIEWER,
    "ExportRun": Role.VIEWER,
    "GetResult": Role.VIEWER,
    "GetRun": Role.VIEWER,
    "GetServerInfo": Role.VIEWER,
    "ListActions": Role.VIEWER,
    "ListRunLogs": Role.VIEWER,
    "ListRuns": Role.VIEWER,
    "ListStepResults": Role.VIEWER,
    "ListWorkflows": Role.VIEWER,
    "PlanWorkflow": Role.VIEWER,
    "StartRun": Role.RUNNER,
    "WatchRun": Role.VIEWER,
}
"""The role that each call of `OrchestratorService` needs. `WatchRun` with `attach` needs `RUNNER`: it holds the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The caller of a call.

    Attributes:
        name: Its name, for the records of runs and the audit log; empty: nobody was asked.
        roles: Its role by namespace. `*` stands for every namespace.
    """

    name: str
    roles: Mapping[str, Role] = field(default_factory=dict)

    def role_in(self, namespace: str) -> Role | None:
        """Return its role in a namespace; `None`: it has none."""
        found = [role for role in (self.roles.get(namespace), self.roles.get(ALL_NAMESPACES)) if role is not None]
        return max(found, default=None)


ANYONE = Caller(name="", roles={ALL_NAMESPACES: Role.ADMIN})
"""The caller of a server that asks nobody who they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The facts about a call that hold before its method runs.

    Attributes:
        caller: Who makes it.
        namespaces: The namespaces that the server has.
        note_start: Records that the call has started the run of an id.
    """

    caller: Caller = ANYONE
    namespaces: Collection[str] = frozenset({DEFAULT_NAMESPACE})
    note_start: Callable[[str], None] = lambda run_id: None


CALL: ContextVar[Call] = ContextVar("stepwave_call", default=Call())  # noqa: B039 - it is immutable
"""The call that the current task serves."""


class AccessError(ValueError):
    """Raised when the access file is malformed, and lists every problem; or when another file of access is unusable."""


class NotAuthenticated(Exception):
    """Raised when a call has no valid credentials. The message is for the caller, and says nothing secret."""
