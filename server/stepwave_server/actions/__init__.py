"""What steps can do: the registry of actions, how their code is called, and the built-in ones."""

from stepwave_server.actions.registry import Action, ActionsError, Registry

__all__ = ["Action", "ActionsError", "Registry"]
