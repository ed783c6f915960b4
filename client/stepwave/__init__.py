"""The SDK of Stepwave: build workflows, run them, watch what happens."""

from ._action import Answer, Context, action
from ._payload import JSON, Blob

__all__ = ["JSON", "Answer", "Blob", "Context", "action"]
