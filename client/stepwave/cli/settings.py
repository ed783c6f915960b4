"""The settings of a server, as the command line gives them: what is not said is the environment's, then the default."""

import os
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

from .exit_codes import CommandError

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from stepwave_server.config import Settings

__all__ = ["JOURNAL_FORMS", "JOURNAL_HELP", "chosen_journal", "make_settings", "settings_problems"]

JOURNAL_FORMS = "memory|sqlite|sqlite:PATH"
JOURNAL_HELP = "Default: $STEPWAVE_JOURNAL, else sqlite: a file in your data folder."


def chosen_journal(said: str | None) -> str | None:
    """Return the journal that is meant, `None` for the environment's: from the command line, one on disk by default."""
    return said or (None if os.environ.get("STEPWAVE_JOURNAL") else "sqlite")


def make_settings(given: Mapping[str, object]) -> "Settings":
    """Check settings, by their names; what is `None` is not said.

    Raises:
        CommandError: Some make no sense; each is named as the option or the variable that it comes from.
    """
    from pydantic import ValidationError

    from stepwave_server.config import Settings

    said = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings.model_validate(said)
    except ValidationError as error:
        raise CommandError(settings_problems(error, said)) from error


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
