"""The settings of a server, from arguments and the environment (`STEPWAVE_…`)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from stepwave_server.core.state import SECOND, RunOptions
from stepwave_server.core.validate import Limits
from stepwave_server.engine.base import EngineOptions
from stepwave_server.journal import Retention

__all__ = ["Settings"]

MOST_SECONDS = 36_525 * 24 * 3600
"""A hundred years: what a workflow may ask for as well."""


class Settings(BaseSettings):
    """What a server is told. Durations are in seconds, sizes in bytes; every field can be set as `STEPWAVE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="STEPWAVE_", frozen=True, extra="forbid", allow_inf_nan=False)

    listen: str = Field(default="127.0.0.1:50051", description="HOST:PORT (port 0 picks one) or unix:PATH.")
    insecure: bool = Field(default=False, description="Serve plain text beyond loopback.")
    entry_points: bool = Field(default=True, description="Load actions of installed packages.")
    workflows: Path | None = Field(default=None, description="A folder of named workflows.")
    tracebacks: bool = Field(default=True, description="Failures carry the traceback of the action's code.")
    drain_timeout: float = Field(
        default=30.0, ge=0, description="How long runs under way may go on when the server stops."
    )
    cancel_grace: float = Field(
        default=10.0, ge=0, description="How long the clean-up of an interrupted attempt is awaited."
    )
    step_timeout: float = Field(
        default=600.0,
        gt=0,
        le=MOST_SECONDS,
        description="How long an attempt may take, unless its step says otherwise.",
    )
    heartbeat: float = Field(default=15.0, gt=0, description="How long a stream may be silent.")
    lag_warning: float = Field(default=0.25, gt=0, description="How long an action may block the event loop unnoticed.")
    max_runs: int = Field(default=10_000, ge=1, description="Runs under way at once.")
    max_attempts: int = Field(default=1_000, ge=1, description="Attempts in flight at once, over all runs.")
    max_steps: int = Field(default=200_000, ge=1, description="Steps in a workflow.")
    max_edges: int = Field(default=1_000_000, ge=1, description="Dependencies in a workflow.")
    max_payload_bytes: int = Field(default=1 << 20, ge=1_024, le=1 << 20, description="Bytes in one payload.")
    max_message_bytes: int = Field(
        default=3 << 20, ge=1 << 16, le=1 << 28, description="Bytes in one message to the server."
    )
    max_calls: int = Field(default=1_000, ge=1, description="Calls open at once, streams not counted.")
    max_streams: int = Field(default=10_000, ge=1, description="Streams open at once.")
    keep_runs: int = Field(default=1_000, ge=1, description="Ended runs that are kept, the newest.")
    keep_age: float = Field(default=24 * 3600.0, gt=0, description="How long an ended run is kept.")
    keep_bytes: int = Field(default=1 << 30, ge=0, description="Bytes of events of ended runs that are kept.")

    def retention(self) -> Retention:
        """Return how long ended runs are kept."""
        return Retention(count=self.keep_runs, age=round(self.keep_age * SECOND), size=self.keep_bytes)

    def engine_options(self) -> EngineOptions:
        """Return the engine's bounds and manners."""
        return EngineOptions(
            max_runs=self.max_runs,
            max_attempts_in_flight=self.max_attempts,
            max_payload_bytes=self.max_payload_bytes,
            cancel_grace=self.cancel_grace,
            tracebacks=self.tracebacks,
            heartbeat=self.heartbeat,
            run=RunOptions(
                step_timeout=round(self.step_timeout * SECOND),
                limits=Limits(max_steps=self.max_steps, max_edges=self.max_edges),
            ),
        )
