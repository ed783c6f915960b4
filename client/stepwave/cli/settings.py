"""What is wrong with a server's settings, said of the options and the environment variables that they come from."""

from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["settings_problems"]


def settings_problems(error: "ValidationError", options: Container[str] = ()) -> str:
    """Return a line for each problem.

    Args:
        error: All that is wrong.
        options: The settings that options gave; others come from the environment.
    """
    return "\n".join(_line(problem, options) for problem in error.errors())


def _line(problem: "ErrorDetails", options: Container[str]) -> str:
    setting = str(problem["loc"][0])
    name = f"--{setting.replace('_', '-')}" if setting in options else f"STEPWAVE_{setting.upper()}"
    # An error of the settings' own check is said in its own words: pydantic would put its kind in front.
    words = problem.get("ctx", {}).get("error", problem["msg"])
    return f"{name}: {words}"
