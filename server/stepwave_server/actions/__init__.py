"""Actions: the registry, calls of their code, failures, and the built-in actions."""

from stepwave_server.actions.known import KnownAction, KnownActions
from stepwave_server.actions.registry import Action, ActionsError, Registry, check_module_name

__all__ = ["Action", "ActionsError", "KnownAction", "KnownActions", "Registry", "check_module_name"]
