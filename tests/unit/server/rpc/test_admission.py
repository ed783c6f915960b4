"""The outcome of a call, as the audit log gets it."""

from contextlib import nullcontext
from typing import Any, cast

import grpc
import pytest

from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.access.roles import ANYONE, Caller
from stepwave_server.core.info import RunKey
from stepwave_server.engine.errors import RunNotFound
from stepwave_server.rpc.handlers import Bounds, _Admission
from stepwave_server.rpc.permissions import Permissions


class _Recorded(Permissions):
    """Permissions for everybody, which keep the outcomes of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[str] = []

    async def authenticate(self, context: Any) -> Caller:
        return ANYONE

    def record(self, method: str, caller: Any, request: Any, context: Any, outcome: str) -> None:
        self.outcomes.append(outcome)


async def _outcome(error: BaseException | None) -> str:
    """Return the outcome of a call whose method raises an error; `None`: it succeeds."""
    permissions = _Recorded()
    bounds = Bounds(calls=1, streams=1, message_bytes=1_000)
    admission = _Admission("CancelRun", pb.CancelRunRequest, bounds, permissions)
    request = pb.CancelRunRequest(run_id="r").SerializeToString()
    with nullcontext() if error is None else pytest.raises(type(error)):
        async with admission.request(request, cast("Any", None)):
            if error is not None:
                raise error
    (outcome,) = permissions.outcomes
    return outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "OK"),
        (RunNotFound(RunKey("default", "r")), "RUN_NOT_FOUND"),
        (grpc.aio.BaseError("the caller left"), "CANCELLED"),
        (ValueError("a defect"), "INTERNAL"),
    ],
    ids=["success", "refusal", "a caller that left", "a defect"],
)
async def test_a_call_has_one_outcome(error: BaseException | None, outcome: str) -> None:
    assert await _outcome(error) == outcome
