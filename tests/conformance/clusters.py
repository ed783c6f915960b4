"""Clusters of servers on Temporal: settings with a task queue of their own."""

from uuid import uuid4

from stepwave_server.config import Settings
from temporal_server import TemporalServer

__all__ = ["settings_for"]


def settings_for(temporal: TemporalServer) -> Settings:
    """Return the settings of servers of a new cluster, which knows nothing of others on the same Temporal."""
    return Settings(
        listen="127.0.0.1:0",
        engine="temporal",
        temporal_address=temporal.address,
        temporal_task_queue=f"queue-{uuid4().hex[:8]}",
        entry_points=False,
    )
