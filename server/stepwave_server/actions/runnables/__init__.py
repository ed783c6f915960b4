"""Actions that other processes serve by `RunnableService`: where they are, the calls of them, and `grpc.invoke`."""

from stepwave_server.actions.runnables.entry import RemoteAction, Runnable
from stepwave_server.actions.runnables.grpc_invoke import Runnables

__all__ = ["RemoteAction", "Runnable", "Runnables"]
