"""The errors of access."""

__all__ = ["AccessError", "NotAuthenticated"]


class AccessError(ValueError):
    """Raised when the access file is malformed, and lists every problem; or when another file of access is unusable."""


class NotAuthenticated(Exception):
    """Raised when a call has no valid credentials. The message is for the caller, and says nothing secret."""
