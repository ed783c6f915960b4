"""Finds out who makes a call, by the rules of an access file that is read again when it changes."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stepwave_server.access.access_file import Access, JwtRules, load_access
from stepwave_server.access.roles import AccessError, Caller, NotAuthenticated
from stepwave_server.access.tokens import find_token

if TYPE_CHECKING:
    from stepwave_server.access.jwt_tokens import JwtVerifier

__all__ = ["Authenticator"]

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""Seconds between two looks at the access file."""

DEFAULT_WEIGHT = 1.0
"""The weight of a namespace that names none."""

SCHEME = "bearer "


class Authenticator:
    """Knows the callers of an access file.

    Attributes:
        access: The rules that hold now.
        listeners: Called when other rules hold, after the file has changed.

    A token that was found is remembered, at most one for each in the file, until the file changes.

    Args:
        path: The access file.

    Raises:
        AccessError: It cannot be read, or is malformed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _stamp(path)
        self._task: asyncio.Task[None] | None = None
        self._jwt: JwtVerifier | None = None
        self.listeners: list[Callable[[], None]] = []
        self._check: Callable[[Access], None] | None = None
        self._known: dict[str, Caller] = {}
        self.access = Access()
        self._take(load_access(path))

    def _take(self, access: Access) -> None:
        if access.jwt != self.access.jwt:
            self._jwt = None if access.jwt is None else _verifier(access.jwt)
        self.access = access
        self._known.clear()

    def require(self, check: Callable[[Access], None]) -> None:
        """Check the rules, and from now on those of a changed file.

        Args:
            check: Raises `AccessError` for rules that cannot hold.
        """
        check(self.access)
        self._check = check

    def may_call(self, namespace: str, action: str) -> bool:
        """Return whether the steps of a namespace may call an action."""
        rules = self.access.namespaces.get(namespace)
        return rules is not None and rules.allows(action)

    def max_runs_of(self, namespace: str) -> int | None:
        """Return how many runs of a namespace may be under way; `None`: as many as the server allows."""
        rules = self.access.namespaces.get(namespace)
        return None if rules is None else rules.max_runs

    def max_kept_bytes_of(self, namespace: str) -> int | None:
        """Return how many bytes the runs of a namespace may keep before it starts no more; `None`: no bound."""
        rules = self.access.namespaces.get(namespace)
        return None if rules is None else rules.max_kept_bytes

    def weight_of(self, namespace: str) -> float:
        """Return the weight of a namespace, for its share of the places of attempts."""
        rules = self.access.namespaces.get(namespace)
        return DEFAULT_WEIGHT if rules is None or rules.weight is None else rules.weight

    def starts_per_second_of(self, namespace: str) -> float | None:
        """Return how many runs may start in a second in a namespace; `None`: no bound."""
        rules = self.access.namespaces.get(namespace)
        return None if rules is None else rules.starts_per_second

    def attempt_bounds(self) -> dict[str, int]:
        """Return how many attempts may be in flight, for the namespaces that have a bound."""
        rules = self.access.namespaces
        return {name: found.max_attempts for name, found in rules.items() if found.max_attempts is not None}

    async def authenticate(
        self, authorization: str | None, confirmed_names: Callable[[], Sequence[str]] = tuple
    ) -> Caller:
        """Return who makes a call.

        Args:
            authorization: The call's `authorization` metadata; `None`: it has none.
            confirmed_names: Returns the confirmed names of the client's certificate; empty: it has none.

        Raises:
            NotAuthenticated: The credentials are missing, unknown or not valid.
        """
        if authorization is not None:
            if not authorization.lower().startswith(SCHEME):
                raise NotAuthenticated("the authorization is no bearer token")
            return await self._by_token(authorization[len(SCHEME) :].strip())
        certificate_names = confirmed_names()
        for certificate in self.access.certificates:
            if certificate.name in certificate_names:
                return Caller(name=f"certificate:{certificate.name}", roles=certificate.roles)
        if certificate_names:
            raise NotAuthenticated("the client certificate is unknown")
        raise NotAuthenticated("the call has no credentials: a bearer token or a client certificate is needed")

    async def _by_token(self, given: str) -> Caller:
        known = self._known.get(given) or (self._jwt.known(given) if self._jwt is not None else None)
        if known is not None:
            return known
        token = find_token(self.access.tokens, given)
        if token is not None:
            caller = self._known[given] = Caller(name=f"token:{token.name}", roles=token.roles)
            return caller
        if self._jwt is not None and given.count(".") == 2:
            return await self._jwt.verify(given)
        raise NotAuthenticated("the token is unknown")

    # Changes of the file.

    def start(self) -> None:
        """Read the file again whenever it changes. If it is malformed then, the old rules stay, and that is logged."""
        self._task = asyncio.create_task(self._watch(), name="access file")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            stamp = await asyncio.to_thread(_stamp, self._path)
            if stamp == self._seen:
                continue
            self._seen = stamp
            try:
                self._take(await asyncio.to_thread(self._load))
            except AccessError as error:
                logger.error("the access file has changed, and the old rules stay: %s", error)  # noqa: TRY400 - no defect
            else:
                logger.info("the access file has changed: the new rules hold")
                for listener in self.listeners:
                    listener()

    def _load(self) -> Access:
        access = load_access(self._path)
        if self._check is not None:
            self._check(access)
        return access

    async def close(self) -> None:
        """Watch the file no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _verifier(rules: JwtRules) -> "JwtVerifier":
    from stepwave_server.access.jwt_tokens import JwtVerifier  # it takes long to load, and few servers need it

    return JwtVerifier(rules)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes whenever a file is written or replaced; `None`: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
