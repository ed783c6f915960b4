"""Why a scripted run fails its test."""

from stepwave.exceptions import StepwaveError

__all__ = ["RunStuck", "ScriptExhausted"]


class ScriptExhausted(StepwaveError, AssertionError):
    """Raised when an action is attempted more often than its script has entries. The run was ended there.

    Attributes:
        action: The action.
        step_id: The step that attempted it.
        attempt: The attempt, from 1.
        entries: How many entries the script has for it.
    """

    def __init__(self, action: str, step_id: str, attempt: int, entries: int) -> None:
        has = {0: "no entry", 1: "1 entry"}.get(entries, f"{entries} entries")
        super().__init__(
            f"step {step_id!r}, attempt {attempt}: the script of action {action!r} has run out, it has {has} for it; "
            "`Always(…)` as the last one answers every further attempt"
        )
        self.action = action
        self.step_id = step_id
        self.attempt = attempt
        self.entries = entries

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.action, self.step_id, self.attempt, self.entries)


class RunStuck(StepwaveError, AssertionError):
    """Raised when virtual time cannot go on: a thread or a connection keeps it, or the event loop spins."""
