"""The file of runnables: services elsewhere that have actions, in TOML. Every problem is reported.

```toml
[runnables.search]
address = "search.internal:50061"           # all addresses of a name take turns; or unix:PATH
tls = true                                  # default: plain text
ca = "ca.pem"                               # the authority of its certificate; default: the public ones
cert = "client.pem"                         # the certificate that this server shows, and its key; default: none
key = "client.key"
actions = ["search"]                        # or tables, as [runnables.search.actions.search] with descriptions
```
"""

import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from stepwave_server.actions.known import KnownAction
from stepwave_server.actions.runnables import RemoteAction, Runnable
from stepwave_server.actions.runnables.connection import check_files
from stepwave_server.core.validate import NAME
from stepwave_server.files.text import read_text
from stepwave_server.rpc.listening import is_address
from stepwave_server.wire.workflows.input_schema import schema_problem

__all__ = ["RunnablesError", "load_runnables", "parse_runnables", "runnable_table"]

_OWN = "core."
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "is required",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "dict_type": "must be a table",
    "model_type": "must be a table",
}
"""Problems by pydantic's types."""


class RunnablesError(ValueError):
    """Raised when a file of runnables is malformed. Lists every problem."""


def _refuse(text: str) -> PydanticCustomError:
    return PydanticCustomError("malformed", "{text}", {"text": text})


def _is_address(address: str) -> str:
    if not is_address(address):
        raise _refuse(f"{address!r} is not an address: expected HOST:PORT or unix:PATH")
    return address


NO_SCHEMA = "is no JSON Schema: "


def _is_action(name: str) -> str:
    if not NAME.fullmatch(name):
        raise _refuse(f"must be the name of an action, of the form {NAME.pattern}")
    return name


def _is_free(name: str) -> str:
    if name.startswith(_OWN):
        raise _refuse("names that begin with core. are those of built-in actions")
    return _is_action(name)


def _is_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _refuse(f"must be a name of the form {_NAME.pattern}")
    return name


def _to_schema(value: object) -> object:
    """Return a schema as JSON text; a table is converted."""
    if isinstance(value, dict):
        value = json.dumps(value, default=str)
    if isinstance(value, str) and (problem := schema_problem(value)):
        raise _refuse(problem if problem.startswith(NO_SCHEMA) else f"{NO_SCHEMA}{problem}")
    return value


def _to_tables(value: object) -> object:
    """Return actions as tables by name; a list has names alone."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: {} for name in value}
    if isinstance(value, dict):
        return value
    raise _refuse("must be a list of names, or tables by name")


class _Action(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    action: Annotated[str, AfterValidator(_is_action)] | None = None
    description: Annotated[str, Field(max_length=2_048)] = ""
    input_schema: Annotated[str, BeforeValidator(_to_schema)] = ""
    output_schema: Annotated[str, BeforeValidator(_to_schema)] = ""
    idempotent: bool = False


class _Runnable(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    address: Annotated[str, AfterValidator(_is_address)]
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str = ""
    health: str = ""
    stream: bool = True
    actions: Annotated[dict[Annotated[str, AfterValidator(_is_free)], _Action], BeforeValidator(_to_tables)] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise _refuse("cert and key belong together: set both")
        given = [name for name in ("ca", "cert", "server_name") if getattr(self, name)]
        if given and not self.tls:
            raise _refuse(f"{given[0]} is for tls = true")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    runnables: dict[Annotated[str, AfterValidator(_is_name)], _Runnable] = Field(default_factory=dict)


def load_runnables(path: Path) -> tuple[Runnable, ...]:
    """Read a file of runnables. Relative paths in it are relative to the file.

    Raises:
        RunnablesError: The file is malformed, or it or a file that it names cannot be read.
    """
    text = read_text(path, RunnablesError)
    runnables = parse_runnables(text, path)
    problems = [f"{path}: runnables.{it.name}: {problem}" for it in runnables if (problem := check_files(it))]
    if problems:
        raise RunnablesError("\n".join(problems))
    return runnables


def parse_runnables(text: str, path: Path) -> tuple[Runnable, ...]:
    """Parse the text of a file of runnables.

    Args:
        text: The text.
        path: The file, for messages and relative paths.

    Raises:
        RunnablesError: The text is malformed.
    """
    try:
        found = _File.model_validate(tomllib.loads(text))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise RunnablesError("\n".join(f"{path}: {_problem(detail)}" for detail in details)) from None
    except (ValueError, RecursionError) as error:  # not TOML, or too deep
        raise RunnablesError(f"{path}: {error}") from None
    _check_names(found, path)
    return tuple(_runnable(name, it, path.parent) for name, it in found.runnables.items())


def _check_names(found: _File, path: Path) -> None:
    """Check that no two services have an action of the same name.

    Raises:
        RunnablesError: Two have.
    """
    owners: dict[str, str] = {}
    pairs = [(name, action) for name, it in found.runnables.items() for action in it.actions]
    problems = [
        f"{path}: runnables.{name}.actions.{action}: runnables.{other} has an action of this name, too"
        for name, action in pairs
        if (other := owners.setdefault(action, name)) != name
    ]
    if problems:
        raise RunnablesError("\n".join(problems))


def runnable_table(name: str, address: str, actions: Iterable[KnownAction], *, tls: bool) -> str:
    """Return the table of a service, as the file has it, with the descriptions and schemas of its actions.

    Args:
        name: A name for the service. Characters that it may not have are replaced.
        address: Where servers reach it.
        actions: Its actions.
        tls: Whether connections are encrypted.
    """
    table = re.sub(r"[^A-Za-z0-9_-]|^(?![A-Za-z_])", "_", name)[:64]
    lines = [f"[runnables.{table}]", f"address = {_quoted(address)}"]
    lines += ["tls = true"] if tls else []
    for action in actions:
        lines += ["", f"[runnables.{table}.actions.{_quoted(action.name)}]"]
        texts = {
            "description": action.description,
            "input_schema": action.input_schema,
            "output_schema": action.output_schema,
        }
        lines += [f"{key} = {_quoted(text)}" for key, text in texts.items() if text]
        lines += ["idempotent = true"] if action.idempotent else []
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Return a text as a string of TOML."""
    if text.isprintable() and "'" not in text:
        return f"'{text}'"
    # A string of JSON is one of TOML, but for the character DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _runnable(name: str, read: _Runnable, folder: Path) -> Runnable:
    files: dict[str, Any] = {
        key: None if (file := getattr(read, key)) is None else folder / file for key in ("ca", "cert", "key")
    }
    actions = tuple(
        RemoteAction(name=here, remote=it.action or here, **it.model_dump(exclude={"action"}))
        for here, it in read.actions.items()
    )
    return Runnable(
        name=name,
        address=read.address,
        tls=read.tls,
        server_name=read.server_name,
        health=read.health,
        stream=read.stream,
        actions=actions,
        **files,
    )


def _problem(detail: ErrorDetails) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"] if part != "[key]")
    return f"{place.removeprefix('.')}: {_WORDS.get(detail['type'], detail['msg'])}"
