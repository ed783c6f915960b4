"""The access file: namespaces, and the credentials and roles of callers, in TOML. Every problem is reported.

```toml
[namespaces.default]
[namespaces.research]
actions = ["search.*", "core.*"]            # the actions that its steps may call; default: all
max_runs = 100                              # under way at once
max_attempts = 20                           # in flight at once
weight = 2                                  # its share of the server's --max-attempts; default: 1
max_kept_bytes = 1_000_000_000              # of its runs; beyond it, none starts
starts_per_second = 5

[[tokens]]                                   # made by: stepwave token ci --role research=runner
name = "ci"
sha256 = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
roles = {research = "runner"}

[[certificates]]                             # with --tls-client-ca
name = "worker.example.org"                  # a subject alternative name, else the common name
roles = {"*" = "admin"}

[jwt]
jwks = "https://id.example.org/keys"         # or a file
issuer = "https://id.example.org"
audience = "stepwave"
```
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stepwave._values.toml import TOMLDecodeError, parse_toml
from stepwave_server.access.roles import ALL_NAMESPACES, AccessError, Role
from stepwave_server.core.info import DEFAULT_NAMESPACE

__all__ = ["NAMESPACE", "Access", "Certificate", "JwtRules", "Namespace", "Token", "load_access"]

NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A namespace: a DNS label."""

_ACTIONS = re.compile(r"\*|[A-Za-z_][A-Za-z0-9_.-]{0,127}\*?")


def _role(value: object) -> Role:
    names = [role.name.lower() for role in Role]
    if isinstance(value, str) and value in names:
        return Role[value.upper()]
    raise ValueError(f"unknown role {value!r}: want {', '.join(names[:-1])} or {names[-1]}")


def _namespace(name: str) -> str:
    if not NAMESPACE.fullmatch(name):
        raise ValueError(f"malformed namespace {name!r}: want {NAMESPACE.pattern}")
    return name


def _pattern(actions: str) -> str:
    if not _ACTIONS.fullmatch(actions):
        raise ValueError(f"{actions!r} is no action: want a name, or the beginning of names and * at its end")
    return actions


Roles = dict[str, Annotated[Role, BeforeValidator(_role)]]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Namespace(_Part):
    """The rules of a namespace.

    Attributes:
        actions: The actions that its steps may call: names, or beginnings of names with `*` at their end.
        max_runs: Runs under way at once; `None`: as many as the server allows. One server counts its own.
        max_attempts: Attempts in flight at once; `None`: as many as the server allows.
        weight: The namespace's share of the server's attempts in flight while attempts wait, beside the weights of the
            other namespaces that wait; `None`: 1.
        max_kept_bytes: Bytes that its runs may keep, those under way and those that have ended. Beyond it, no run
            starts. `None`: no bound.
        starts_per_second: Calls in a second that start runs, with as many at once after a quiet time, on each server;
            `None`: no bound.
    """

    actions: tuple[Annotated[str, AfterValidator(_pattern)], ...] = ("*",)
    max_runs: Count | None = None
    max_attempts: Count | None = None
    weight: Annotated[float, Field(ge=0.001, le=1_000_000)] | None = None
    max_kept_bytes: Annotated[int, Field(ge=1)] | None = None
    starts_per_second: Annotated[float, Field(gt=0, le=1_000_000)] | None = None

    def allows(self, action: str) -> bool:
        """Return whether its steps may call an action."""
        return any(fnmatchcase(action, pattern) for pattern in self.actions)


class Token(_Part):
    """A bearer token. The file has its hash alone.

    Attributes:
        name: Who has it.
        sha256: Its SHA-256, in hexadecimal. Tokens are random, so a slow hash would add nothing.
        roles: Its role by namespace.
    """

    name: Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    roles: Roles


class Certificate(_Part):
    """A client certificate, by the name that the authority of `--tls-client-ca` has confirmed.

    Attributes:
        name: A subject alternative name, or the common name of a certificate without any.
        roles: Its role by namespace.
    """

    name: Name
    roles: Roles


class JwtRules(_Part):
    """The rules for JSON Web Tokens (RFC 7519).

    Attributes:
        jwks: Where the keys are (RFC 7517): the path of a file, or an `https://` URL.
        issuer: The issuer that tokens must have.
        audience: The audience that they must be for.
        leeway: Seconds by which clocks may differ.
        roles_claim: The claim with the roles: an object such as `{"research": "runner"}`.
        roles: The roles of every valid token, beside those of its claim.
    """

    jwks: Name
    issuer: Name
    audience: Name
    leeway: float = Field(default=10.0, ge=0, le=300)
    roles_claim: Name = "stepwave_roles"
    roles: Roles = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_protected(self) -> "JwtRules":
        if self.jwks.startswith("http://"):
            raise ValueError("jwks: keys that come over plain text can be replaced: want https:// or a file")
        return self


class Access(_Part):
    """The rules of an access file.

    Attributes:
        namespaces: The namespaces that the server has.
        tokens: The bearer tokens.
        certificates: The client certificates.
        jwt: How JSON Web Tokens are checked; `None`: none is accepted.
    """

    namespaces: Mapping[Annotated[str, AfterValidator(_namespace)], Namespace] = Field(
        default_factory=lambda: {DEFAULT_NAMESPACE: Namespace()}
    )
    tokens: tuple[Token, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    jwt: JwtRules | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> "Access":
        problems = [f"{kind}: {name!r} is there twice" for kind, name in self._repeated()]
        for owner, roles in self._roles():
            unknown = sorted(set(roles) - set(self.namespaces) - {ALL_NAMESPACES})
            problems += [f"{owner}.roles: there is no [namespaces.{name}]" for name in unknown]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _roles(self) -> list[tuple[str, Mapping[str, Role]]]:
        found = [(f"tokens[{index}]", it.roles) for index, it in enumerate(self.tokens)]
        found += [(f"certificates[{index}]", it.roles) for index, it in enumerate(self.certificates)]
        return [*found, *([("jwt", self.jwt.roles)] if self.jwt is not None else [])]

    def _repeated(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for kind, names in (
            ("tokens", [it.name for it in self.tokens]),
            ("certificates", [it.name for it in self.certificates]),
        ):
            found += [(kind, name) for name in dict.fromkeys(names) if names.count(name) > 1]
        return found


def load_access(path: Path) -> Access:
    """Read an access file.

    Raises:
        AccessError: It cannot be read, or is malformed. All problems are listed.
    """
    try:
        tree = parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"{path}: cannot be read: {error}") from error
    except TOMLDecodeError as error:
        raise AccessError(f"{path}: {error}") from error
    try:
        access = Access.model_validate(tree)
    except ValidationError as error:
        raise AccessError("\n".join(_problems(path, error))) from error
    if access.jwt is None or access.jwt.jwks.startswith("https://"):
        return access
    jwks = path.parent / access.jwt.jwks
    return access.model_copy(update={"jwt": access.jwt.model_copy(update={"jwks": str(jwks)})})


def _problems(path: Path, error: ValidationError) -> list[str]:
    """Return a line for each problem. The values that were found stay out of it: they may be credentials."""
    found: list[str] = []
    for problem in error.errors(include_url=False, include_input=False):
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
        text = "unknown key" if problem["type"] == "extra_forbidden" else problem["msg"].removeprefix("Value error, ")
        found += [f"{path}: {place}: {line}" if place else f"{path}: {line}" for line in text.splitlines()]
    return found
