"""Secrets of the operator: which actions may use them, and their values, which are read for each attempt anew."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.known import covers
from stepwave_server.core.model import Reason, secret_mark

__all__ = [
    "BUILT_IN",
    "MAX_SECRET_BYTES",
    "MIN_SECRET_LENGTH",
    "VARIABLE",
    "PlaceholderSecrets",
    "SecretRule",
    "Secrets",
    "unavailable",
]

VARIABLE = "STEPWAVE_SECRET_"
"""The prefix of the environment variables with values. The name of the secret follows."""

MAX_SECRET_BYTES = 64 << 10
"""Bytes of a value."""

MIN_SECRET_LENGTH = 8
"""Characters of a value, without the space around it. Shorter ones are too common in other texts to be kept out."""

BUILT_IN = "core."
"""The prefix of actions that get no secrets: they act on the run itself, or hand their input on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRule:
    """The permission to use a secret.

    Attributes:
        actions: Names of actions, or beginnings of names and `*`.
        namespaces: The namespaces whose runs may use it.
    """

    actions: tuple[str, ...]
    namespaces: tuple[str, ...] = ("default",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """The secrets of a server or host. By default there are none.

    A value comes from the environment variable `STEPWAVE_SECRET_<NAME>`, else from the file of that name in the folder.
    It is not kept: each attempt reads it anew.

    Attributes:
        rules: Who may use a secret, by its name.
        folder: The folder with a file for each secret; `None`: there is none.
    """

    rules: Mapping[str, SecretRule] = field(default_factory=dict)
    folder: Path | None = None

    def allow(self, name: str, action: str, namespace: str) -> bool:
        """Return whether an action may use a secret in a namespace. A secret that does not exist is not allowed."""
        rule = self.rules.get(name)
        if rule is None or action.startswith(BUILT_IN) or namespace not in rule.namespaces:
            return False
        return any(covers(pattern, action) for pattern in rule.actions)

    async def values(self, names: Iterable[str]) -> dict[str, str]:
        """Return the values of secrets by name. Files are read on a thread.

        Raises:
            ActionFailed: A secret has no value, or an unusable one. The message does not have the value.
        """
        if self.folder is None:
            return {name: self.value(name) for name in names}
        return await asyncio.to_thread(lambda: {name: self.value(name) for name in names})

    def value(self, name: str) -> str:
        """Return the value of a secret. May block.

        Raises:
            ActionFailed: It has no value, or an unusable one. The message does not have the value.
        """
        text = os.environ.get(f"{VARIABLE}{name}")
        return _usable(name, self._data(name) if text is None else os.fsencode(text))

    def _data(self, name: str) -> bytes:
        """Return the content of the file of a secret, without the newline at its end."""
        missing = f"the secret {name} has no value: {self._expected(name)}"
        try:
            data = b"" if self.folder is None else _content(self.folder / name)
        except OSError as error:
            raise ActionFailed(Reason.NOT_FOUND, f"{missing} ({error.strerror})") from None
        if not data:
            raise ActionFailed(Reason.NOT_FOUND, missing)
        return data.removesuffix(b"\r\n") if data.endswith(b"\r\n") else data.removesuffix(b"\n")

    def _expected(self, name: str) -> str:
        """Return where the value of a secret is expected."""
        variable = f"set the variable {VARIABLE}{name}"
        return variable if self.folder is None else f"{variable}, or put it into the file {self.folder / name}"


class PlaceholderSecrets(Secrets):
    """Secrets for checks and tests of workflows: all are available, and their values are placeholders."""

    __slots__ = ()

    def allow(self, name: str, action: str, namespace: str) -> bool:
        """Return whether an action may have secrets at all."""
        return not action.startswith(BUILT_IN)

    def value(self, name: str) -> str:
        """Return the placeholder of a secret."""
        return secret_mark(name)


def _content(file: Path) -> bytes:
    """Return the content of a file, as far as a value may be long; empty: there is none.

    Raises:
        OSError: The file cannot be read.
    """
    if not file.is_file():  # such as a pipe, which may block for ever
        return b""
    with file.open("rb") as stream:
        return stream.read(MAX_SECRET_BYTES + 3)


def _usable(name: str, data: bytes) -> str:
    """Return a value as text.

    Raises:
        ActionFailed: It is too long or too short, or no text.
    """
    if len(data) > MAX_SECRET_BYTES:
        raise _unusable(name, f"more than {MAX_SECRET_BYTES:,} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _unusable(name, "bytes that are not UTF-8") from None
    if len(text.strip()) < MIN_SECRET_LENGTH:
        reason = "so short a value occurs in other texts, and could not be kept out of outputs and logs"
        raise _unusable(name, f"fewer than {MIN_SECRET_LENGTH} characters, space around it not counted; {reason}")
    return text


def _unusable(name: str, problem: str) -> ActionFailed:
    return ActionFailed(Reason.INVALID_INPUT, f"the value of the secret {name} cannot be used: it has {problem}")


def unavailable(name: str, action: str, namespace: str) -> str:
    """Return the message for a secret that an action may not use, or that does not exist: both have the same one."""
    return f"the secret {name} is not available to the action {action} in the namespace {namespace}"
