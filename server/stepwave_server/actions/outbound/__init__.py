"""Calls of built-in actions to other services over HTTP: the addresses that are open, connections, and failures."""

from stepwave_server.actions.outbound.addresses import AllowList
from stepwave_server.actions.outbound.caller import Outbound

__all__ = ["AllowList", "Outbound"]
