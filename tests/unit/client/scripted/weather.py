"""An action, and a workflow of one step that uses it."""

from stepwave import Retry, Workflow, action

__all__ = ["RETRY", "one", "weather"]

RETRY = Retry(max_attempts=5, jitter=0)


def one(retry: Retry | None = None) -> Workflow:
    """Return a workflow of one step."""
    flow = Workflow("one", retry=retry)
    flow.step("only", "weather", {"city": "Oslo"})
    return flow


@action
async def weather(city: str) -> str:
    return f"rain in {city}"
