"""The public names of `stepwave`, and the modules that it imports."""

import ast
import subprocess
import sys

import stepwave
from stepwave import testing

SURFACE = {
    "exceptions": "AccessDenied AlreadyExists DeadlineExceeded FailedPrecondition InvalidExport InvalidWorkflow "
    "LimitExceeded NotFound OutOfRange ParallelFailed ReplayDiverged RunCancelled RunFailed RunLost ServerError "
    "ServerUnavailable StepwaveError Unsupported Violation",
    "clients": "AsyncClient Client EventStream OpenRun RunHandle SyncEventStream SyncOpenRun SyncRunHandle TextChunk",
    "building": "Cel Expression Fallback Reference Rerun Retry Secret StepHandle Workflow size",
    "actions": "ActionError Answer Blob Context JSON action",
    "results": "Counts Failure FailureCause FailureReason Run RunExport RunResult SkipCause SkipReason State "
    "StepResult WaitingSteps",
    "events": "AnyEvent Event LogLevel RunFinished RunStarted RunStopping StepChunk StepExpanded StepFinished StepLog "
    "StepProgress StepReady StepRetrying StepStarted StepStopping StepWaiting StepsAdded StepsReused UnknownEvent "
    "WaitCause Wave WaveFinished WaveStarted",
    "reports": "CodeLine Phase PhaseKind RunExplanation RunReport StepExplanation StepReport TimeParts",
    "servers": "ActionInfo ActionLimit AdaptiveLimit InputRule NamedWorkflow Plan PlannedBinding "
    "PlannedFallback PlannedList PlannedRetry PlannedStep RateLimit "
    "ServerInfo ServerLimits ServerStats ActionStats CommitStats",
}


TESTING = (
    "Always ByStep Hangs RunStuck Script ScriptExhausted ScriptedAttempt ScriptedRun Takes replay run_scripted serve"
)


def modules_after(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has imported after a statement."""
    code = f"{statement}\nimport sys\nprint(sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(ast.literal_eval(ran.stdout))


def test_the_public_names_are_these() -> None:
    assert sorted(stepwave.__all__) == sorted(name for names in SURFACE.values() for name in names.split())


def test_the_public_names_for_tests_are_these() -> None:
    assert sorted(testing.__all__) == TESTING.split()


def test_every_public_name_is_there() -> None:
    assert all(getattr(stepwave, name) is not None for name in stepwave.__all__)
    assert set(stepwave.__all__) <= set(dir(stepwave))


def test_importing_the_sdk_loads_nothing_that_only_servers_or_the_command_line_need() -> None:
    heavy = {"stepwave_server", "opentelemetry", "pydantic", "rich", "typer", "yaml", "grpc", "asyncio", "pytest"}
    assert not heavy & modules_after("import stepwave")


def test_a_client_loads_grpc_and_no_server() -> None:
    loaded = modules_after("from stepwave import AsyncClient, Client")
    assert "grpc" in loaded
    assert not {"stepwave_server", "opentelemetry", "pydantic", "rich", "typer", "yaml", "grpc_status"} & loaded


def test_importing_stepwave_testing_loads_neither_a_server_nor_the_command_line() -> None:
    heavy = {"stepwave_server", "opentelemetry", "pydantic", "rich", "typer", "yaml", "grpc_status", "pytest"}
    assert not heavy & modules_after("import stepwave.testing")


def test_the_pytest_plugin_loads_no_client() -> None:
    assert not {"stepwave_server", "grpc", "stepwave._local"} & modules_after("import stepwave._pytest_plugin")
