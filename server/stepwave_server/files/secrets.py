"""The secrets file: which actions may use a secret, in TOML. Every problem is reported. Values are never in it.

```toml
folder = "/run/secrets/stepwave"            # a file for each secret, named as it; beside STEPWAVE_SECRET_<NAME>

[secrets.SEARCH_KEY]
actions = ["http.request", "search.*"]      # names, or prefixes with *; actions of core.* get no secrets
namespaces = ["default"]                    # the default
```
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from stepwave._values.toml import TOMLDecodeError, parse_toml
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.known import covers
from stepwave_server.core.validate import SECRET_NAME
from stepwave_server.engine.secrets.store import BUILT_IN, SecretRule, Secrets
from stepwave_server.files.text import read_text

__all__ = ["SecretsError", "load_secrets", "parse_secrets", "secret_warnings"]

_ACTIONS = re.compile(r"\*|[A-Za-z_][A-Za-z0-9_.-]{0,127}\*?")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "is required",
    "too_short": "must not be empty",
    "list_type": "must be a list",
    "string_type": "must be a string",
    "dict_type": "must be a table",
    "model_type": "must be a table",
}
"""Problems by pydantic's types. None shows a value of the file: someone may have put a secret there."""


class SecretsError(ValueError):
    """Raised when a secrets file is malformed. Lists every problem."""


def _matches(pattern: re.Pattern[str], wanted: str) -> AfterValidator:
    """Return a check that a text has a form."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise PydanticCustomError("malformed", "must be {wanted}", {"wanted": wanted})
        return text

    return AfterValidator(check)


_Actions = Annotated[str, _matches(_ACTIONS, "the name of an action, or the beginning of names and * at its end")]
_Namespace = Annotated[str, _matches(_NAMESPACE, "the name of a namespace")]
_Name = Annotated[str, _matches(SECRET_NAME, f"a name of the form {SECRET_NAME.pattern}")]


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    actions: list[_Actions] = Field(min_length=1)
    namespaces: list[_Namespace] = Field(default=["default"], min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    folder: Annotated[str, Field(min_length=1)] | None = None
    secrets: dict[_Name, _Rule] = Field(default_factory=dict)


def load_secrets(path: Path) -> Secrets:
    """Read a secrets file. A relative folder in it is relative to the file.

    Raises:
        SecretsError: The file is malformed or cannot be read.
    """
    return parse_secrets(read_text(path, SecretsError), path)


def parse_secrets(text: str, path: Path) -> Secrets:
    """Parse the text of a secrets file.

    Args:
        text: The text.
        path: The file, for messages and relative folders.

    Raises:
        SecretsError: The text is malformed.
    """
    try:
        found = _File.model_validate(parse_toml(text))
    except TOMLDecodeError as error:
        raise SecretsError(f"{path}: {error}") from None
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise SecretsError("\n".join(f"{path}: {_problem(detail)}" for detail in details)) from None
    rules = {
        name: SecretRule(actions=tuple(rule.actions), namespaces=tuple(rule.namespaces))
        for name, rule in found.secrets.items()
    }
    return Secrets(rules=rules, folder=None if found.folder is None else path.parent / found.folder)


def _problem(detail: ErrorDetails) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"] if part != "[key]")
    return f"{place.removeprefix('.')}: {_WORDS.get(detail['type'], detail['msg'])}"


def secret_warnings(secrets: Secrets, actions: Iterable[str], *, all_known: bool = True) -> list[str]:
    """Return a message for every secret that the actions of this process may use and that has no usable value.

    Args:
        secrets: The secrets.
        actions: The names of the actions of this process.
        all_known: Whether no other process has actions. If so, there is also a message for every pattern that covers
            none.
    """
    known = [action for action in actions if not action.startswith(BUILT_IN)]
    found = []
    for name, rule in secrets.rules.items():
        used = [pattern for pattern in rule.actions if any(covers(pattern, action) for action in known)]
        if all_known:
            unused = (pattern for pattern in rule.actions if pattern not in used)
            found += [f'the secret {name} covers no action of this server by "{pattern}"' for pattern in unused]
        if used and (problem := _value_problem(secrets, name)):
            found.append(problem)
    return found


def _value_problem(secrets: Secrets, name: str) -> str:
    """Return why a secret has no usable value; empty: it has one."""
    try:
        secrets.value(name)
    except ActionFailed as error:
        return error.message
    return ""
