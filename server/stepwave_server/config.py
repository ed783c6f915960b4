"""The server's settings, from arguments and the environment (`STEPWAVE_…`). `config_loading` adds a file."""

from pathlib import Path
from typing import Literal, Self

from platformdirs import user_data_path
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from stepwave_server.actions.outbound import AllowList
from stepwave_server.config_values import Bytes, Names, Seconds, mask_passwords
from stepwave_server.core.model import MAX_PAYLOAD_BYTES, SECOND
from stepwave_server.core.state import RunOptions
from stepwave_server.core.validate import Limits
from stepwave_server.engine.base import EngineOptions, Recover
from stepwave_server.journal import Retention

__all__ = ["Settings"]

MEMORY = "memory"
SQLITE = "sqlite"

LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:")

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")

MAX_SECONDS = 36_525 * 24 * 3600
"""A hundred years: the longest duration in a workflow, too."""

MAX_CONNECTION_SECONDS = 7 * 24 * 3600
"""A week. gRPC counts the age of a connection in milliseconds, up to 24 days."""

_IN_MEMORY = Retention()
_ON_DISK = Retention(count=10_000, age=30 * 24 * 3600 * SECOND, size=10 << 30)


class Settings(BaseSettings):
    """The server's settings. Durations are in seconds, sizes in bytes. Every field can be set as `STEPWAVE_<FIELD>`.

    A field `tls_certificate` is `certificate` in the table `[tls]` of a configuration file. Secrets are `SecretStr`.
    """

    model_config = SettingsConfigDict(
        env_prefix="STEPWAVE_", env_ignore_empty=True, frozen=True, extra="forbid", allow_inf_nan=False
    )

    listen: str = Field(default="127.0.0.1:50051", description="HOST:PORT (port 0 picks one) or unix:PATH.")
    insecure: bool = Field(default=False, description="Serve plain text beyond loopback.")
    tls_cert: Path | None = Field(default=None, description="The certificate and its chain, in PEM; with TLS.")
    tls_key: Path | None = Field(default=None, description="The certificate's private key, in PEM.")
    tls_client_ca: Path | None = Field(
        default=None,
        description="The authority that signs clients' certificates, in PEM. Each needs one then.",
    )
    access: Path | None = Field(default=None, description="A file of namespaces, and of callers and their roles.")
    audit_log: Path | None = Field(
        default=None,
        description="A file that gets a line for each call that changes something or is refused.",
    )
    engine: Literal["local", "temporal"] = Field(
        default="local", description="What drives runs: this process (local), or a Temporal cluster (temporal)."
    )
    temporal_address: str = Field(default="127.0.0.1:7233", description="HOST:PORT of Temporal.")
    temporal_namespace: str = Field(default="default", description="The namespace in Temporal.")
    temporal_task_queue: str = Field(
        default="stepwave",
        pattern=r"^[A-Za-z0-9_.-]{1,100}$",
        description="The task queue of runs in Temporal, and the prefix of those of actions.",
    )
    temporal_tls: bool = Field(default=False, description="Encrypt the connection to Temporal.")
    temporal_tls_ca: Path | None = Field(
        default=None,
        description="The authority of Temporal's certificate, in PEM, instead of those that the system trusts.",
    )
    temporal_tls_cert: Path | None = Field(
        default=None, description="The certificate that Temporal gets, and its chain, in PEM."
    )
    temporal_tls_key: Path | None = Field(default=None, description="The private key of that certificate, in PEM.")
    temporal_api_key_file: Path | None = Field(
        default=None, description="A file with the API key that Temporal gets with each request; with TLS."
    )
    temporal_wait: Seconds = Field(default=0.0, ge=0, description="How long to wait for Temporal at the start.")
    temporal_heartbeat_timeout: Seconds = Field(
        default=10.0, ge=2, description="How long an attempt may be silent before it counts as lost."
    )
    slots: int = Field(default=1_000, ge=1, description="Attempts of one action at once on a host, or on Temporal.")
    health: str = Field(
        default="",
        description="HOST:PORT or unix:PATH at which health checks are answered, in plain text; empty: of servers only "
        "where they listen, of hosts nowhere.",
    )
    chunks: str = Field(
        default="",
        description="Where chunks and logs go from hosts to servers, with Temporal: redis://HOST:PORT; empty: nowhere.",
    )
    actions: Names = Field(default=(), description="Modules with actions.")
    entry_points: bool = Field(default=True, description="Load actions of installed packages.")
    workflows: Path | None = Field(default=None, description="A folder of named workflows.")
    limits: Path | None = Field(default=None, description="A file with limits on actions.")
    secrets: Path | None = Field(default=None, description="A file that says which actions may use which secrets.")
    runnables: Path | None = Field(
        default=None, description="A file of services elsewhere that have actions: where they are, and their names."
    )
    mcp_servers: Path | None = Field(
        default=None, description="A file of MCP servers, whose tools `mcp.call` calls: their commands or URLs."
    )
    http_allow: Names = Field(
        default=(),
        description="HOST, HOST:PORT or a network (10.0.0.0/8) that built-in actions may call though it is not public.",
    )
    journal: str = Field(
        default=MEMORY, description="memory, sqlite (a file in the platform's data folder), or sqlite:PATH."
    )
    synchronous: Literal["full", "normal"] = Field(
        default="full", description="Whether a commit survives a power cut (full), or only the end of the process."
    )
    recover: Recover = Field(
        default=Recover.RESUME, description="What to do with runs that were under way: resume, pause or fail."
    )
    tracebacks: bool = Field(default=True, description="Failures and logs carry tracebacks of the actions' code.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level of log messages that `stepwave serve` and `stepwave host` show."
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="How log messages are written: as text (console), or as a line of JSON each."
    )
    drain_timeout: Seconds = Field(
        default=30.0, ge=0, description="How long runs under way may go on when the server stops."
    )
    cancel_grace: Seconds = Field(
        default=10.0, ge=0, description="How long the clean-up of an interrupted attempt is awaited."
    )
    step_timeout: Seconds = Field(
        default=600.0,
        gt=0,
        le=MAX_SECONDS,
        description="How long an attempt may take, unless its step says otherwise.",
    )
    idle_timeout: Seconds = Field(
        default=600.0,
        gt=0,
        le=MAX_SECONDS,
        description="How long an open run may wait for steps to be added, unless it says otherwise.",
    )
    trace_detail: Literal["attempts", "waves"] = Field(
        default="attempts", description="What has spans: runs and waves, and also steps and attempts (attempts)."
    )
    metrics_listen: str = Field(
        default="", description="HOST:PORT of the Prometheus endpoint (port 0 picks one); empty: there is none."
    )
    heartbeat: Seconds = Field(default=15.0, gt=0, description="How long a stream may be silent.")
    lag_warning: Seconds = Field(
        default=0.25, gt=0, description="How long an action may block the event loop unnoticed."
    )
    max_runs: int = Field(default=10_000, ge=1, description="Runs under way at once.")
    max_attempts: int = Field(default=1_000, ge=1, description="Attempts in flight at once, over all runs.")
    max_steps: int = Field(default=200_000, ge=1, description="Steps in a workflow.")
    max_edges: int = Field(default=1_000_000, ge=1, description="Dependencies in a workflow.")
    max_payload_bytes: Bytes = Field(
        default=MAX_PAYLOAD_BYTES, ge=1_024, le=MAX_PAYLOAD_BYTES, description="Bytes in one payload."
    )
    max_message_bytes: Bytes = Field(
        default=3 << 20, ge=1 << 16, le=1 << 28, description="Bytes in one message to the server."
    )
    max_calls: int = Field(default=1_000, ge=1, description="Calls open at once, streams not counted.")
    max_streams: int = Field(default=10_000, ge=1, description="Streams open at once.")
    max_connection_streams: int = Field(
        default=1_000,
        ge=1,
        le=1_000_000,
        description="Calls and streams open at once on one connection. A client's further ones wait for their turn.",
    )
    max_connection_age: Seconds = Field(
        default=0.0,
        ge=0,
        le=MAX_CONNECTION_SECONDS,
        description="How long a connection takes new calls, so that clients spread over new servers; 0: no limit. Its "
        "streams may continue as long again. Then they break, and clients resume them.",
    )
    keep_runs: int | None = Field(
        default=None, ge=1, description="Ended runs that are kept, the newest; 1,000 in memory, 10,000 on disk."
    )
    keep_age: Seconds | None = Field(
        default=None, gt=0, description="How long an ended run is kept; a day in memory, 30 days on disk."
    )
    keep_bytes: Bytes | None = Field(
        default=None, ge=0, description="Bytes of events of ended runs that are kept; 1 GiB in memory, 10 GiB on disk."
    )

    @field_validator("journal")
    @classmethod
    def _is_journal(cls, journal: str) -> str:
        kind, _, path = journal.partition(":")
        if journal == MEMORY or (kind == SQLITE and (path or ":" not in journal)):
            return journal
        raise ValueError(f"unknown journal {journal!r}: want memory, sqlite or sqlite:PATH")

    @field_validator("http_allow")
    @classmethod
    def _is_allow_list(cls, http_allow: tuple[str, ...]) -> tuple[str, ...]:
        AllowList.of(http_allow)
        return http_allow

    @field_validator("chunks")
    @classmethod
    def _is_redis(cls, chunks: str) -> str:
        if not chunks or chunks.startswith(REDIS_SCHEMES):
            return chunks
        shown = mask_passwords(chunks)
        raise ValueError(f"unknown place for chunks {shown!r}: want redis://HOST:PORT, rediss://… or unix://PATH")

    @model_validator(mode="after")
    def _has_whole_certificate(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key: plain text has no client certificates")
        return self

    @model_validator(mode="after")
    def _protects_connection_to_temporal(self) -> Self:
        files = ("temporal_tls_ca", "temporal_tls_cert", "temporal_tls_key")
        if given := [name for name in files if getattr(self, name) is not None and not self.temporal_tls]:
            raise ValueError(f"set temporal_tls for {', '.join(given)}: plain text has no certificates")
        if (self.temporal_tls_cert is None) != (self.temporal_tls_key is None):
            raise ValueError("temporal_tls_cert and temporal_tls_key belong together: set both")
        is_open = not self.temporal_tls and not self.temporal_address.startswith(LOOPBACK)
        if self.temporal_api_key_file is not None and is_open:
            raise ValueError(f"temporal_api_key_file needs temporal_tls: {self.temporal_address} is not loopback")
        return self

    def journal_path(self) -> Path | None:
        """Return the journal's file; `None`: the journal is in memory."""
        kind, _, path = self.journal.partition(":")
        if kind == MEMORY:
            return None
        return Path(path) if path else user_data_path("stepwave", appauthor=False) / "journal.db"

    def retention(self) -> Retention:
        """Return how long ended runs are kept."""
        defaults = _IN_MEMORY if self.journal == MEMORY else _ON_DISK
        return Retention(
            count=defaults.count if self.keep_runs is None else self.keep_runs,
            age=defaults.age if self.keep_age is None else round(self.keep_age * SECOND),
            size=defaults.size if self.keep_bytes is None else self.keep_bytes,
        )

    def engine_options(self) -> EngineOptions:
        """Return the engine's options."""
        return EngineOptions(
            max_runs=self.max_runs,
            max_attempts_in_flight=self.max_attempts,
            max_payload_bytes=self.max_payload_bytes,
            cancel_grace=self.cancel_grace,
            tracebacks=self.tracebacks,
            heartbeat=self.heartbeat,
            idle_timeout=round(self.idle_timeout * SECOND),
            run=RunOptions(
                step_timeout=round(self.step_timeout * SECOND),
                limits=Limits(max_steps=self.max_steps, max_edges=self.max_edges),
            ),
        )
