"""A run under way, as queries need it of every engine."""

from typing import Protocol

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.state import RunState
from stepwave_server.engine.errors import EngineError
from stepwave_server.engine.runs.commit_watermark import CommitWatermark
from stepwave_server.engine.streams.subscribers import Subscribers
from stepwave_server.journal import Header

__all__ = ["ActiveRun"]


class ActiveRun(Protocol):
    """A run under way.

    Attributes:
        key: Its key.
        header: Its definition.
        state: Its state. The newest events may not be committed yet.
        watermark: Its commit watermark.
        subscribers: Its subscribers.
        paused: Whether its server does not continue it.
    """

    key: RunKey
    header: Header
    state: RunState
    watermark: CommitWatermark
    subscribers: Subscribers
    paused: bool

    @property
    def broken(self) -> EngineError | None:
        """Why this server cannot show it; `None`: it can."""
        ...

    @property
    def committed(self) -> int:
        """The sequence number of the newest committed event."""
        ...

    def committing(self) -> bool:
        """Return whether it has events that are not committed yet."""
        ...

    def info(self) -> RunInfo:
        """Return its information. The newest events may not be committed yet."""
        ...
