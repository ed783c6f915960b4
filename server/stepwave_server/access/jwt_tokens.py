"""JSON Web Tokens: their keys, which are fetched and refreshed, and their check."""

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jwt

from stepwave_server.access.access_file import JwtRules
from stepwave_server.access.roles import AccessError, Caller, NotAuthenticated, Role

__all__ = ["JwtVerifier"]

logger = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""The accepted algorithms. All are asymmetric: a public key can never be taken for a shared secret."""

REFRESH_SECONDS = 300.0
"""Seconds after which keys are fetched again."""

MIN_REFRESH_SECONDS = 10.0
"""Seconds between two fetches, however many tokens name an unknown key."""

FETCH_TIMEOUT = 5

MAX_TOKEN = 8_192

MAX_KNOWN = 1_000
"""Tokens that are remembered after their check, the latest: a check takes longer than many a call."""


class _Known(NamedTuple):
    """A token that was checked: its caller, and when it expires, in seconds since the epoch."""

    caller: Caller
    end: float


class JwtVerifier:
    """Checks JSON Web Tokens against the keys of one issuer.

    Args:
        rules: How they are checked.
    """

    def __init__(self, rules: JwtRules) -> None:
        self._rules = rules
        self._keys: dict[str, jwt.PyJWK] = {}
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._fetched = -REFRESH_SECONDS
        self._fetching = asyncio.Lock()

    async def verify(self, token: str) -> Caller:
        """Return the caller that a token stands for.

        Raises:
            NotAuthenticated: It is malformed, not signed by the issuer, expired, or for another audience.
        """
        if len(token) > MAX_TOKEN:
            raise NotAuthenticated("the token is too long")
        await self._refresh(REFRESH_SECONDS)
        caller, end = await self._check(token)
        self._known[token] = _Known(caller, end)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return caller

    def known(self, token: str) -> Caller | None:
        """Return the caller of a token that was checked before, has not expired, and whose key need not be fetched."""
        found = self._known.get(token)
        fresh = asyncio.get_running_loop().time() - self._fetched < REFRESH_SECONDS
        return found.caller if found is not None and fresh and time.time() < found.end else None

    async def _check(self, token: str) -> "tuple[Caller, float]":
        """Return the caller that a token stands for, and when it expires, in seconds since the epoch."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise NotAuthenticated("the token is malformed") from None
        if header.get("alg") not in ALGORITHMS:
            raise NotAuthenticated("the token's algorithm is not accepted")
        key = await self._key(header.get("kid"))
        if key is None:
            raise NotAuthenticated("the token was signed with an unknown key")
        claims = self._claims(token, key)
        return self._caller(claims), float(str(claims["exp"])) + self._rules.leeway

    def _claims(self, token: str, key: jwt.PyJWK) -> Mapping[str, object]:
        rules = self._rules
        try:
            claims: Mapping[str, object] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.leeway,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise NotAuthenticated("the token has expired") from None
        except jwt.InvalidAudienceError:
            raise NotAuthenticated("the token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise NotAuthenticated("the token is of another issuer") from None
        except jwt.PyJWTError:
            raise NotAuthenticated("the token is not valid") from None
        return claims

    def _caller(self, claims: Mapping[str, object]) -> Caller:
        """Return the caller of valid claims. Roles that are malformed count for nothing."""
        claimed = claims.get(self._rules.roles_claim)
        roles = dict(self._rules.roles)
        for namespace, name in (claimed if isinstance(claimed, dict) else {}).items():
            role = Role.__members__.get(name.upper()) if isinstance(name, str) and name.islower() else None
            if role is not None:
                roles[namespace] = max(role, roles.get(namespace, role))
        return Caller(name=f"jwt:{claims['sub']}", roles=roles)

    # Keys.

    async def _key(self, kid: object) -> jwt.PyJWK | None:
        """Return the key of a token. A token that names none is signed with the only key, if there is one alone."""
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        if kid not in self._keys:
            await self._refresh(MIN_REFRESH_SECONDS)
        return self._keys.get(kid) if isinstance(kid, str) else None

    async def _refresh(self, age: float) -> None:
        """Fetch the keys if they are older than so many seconds. If that fails, the old ones stay."""
        loop = asyncio.get_running_loop()
        async with self._fetching:
            if loop.time() - self._fetched < age:
                return
            self._fetched = loop.time()
            try:
                self._keys = await asyncio.to_thread(self.load_keys)
                self._known.clear()  # a key may have been withdrawn
            except AccessError as error:
                logger.error("%s", error)  # noqa: TRY400 - no defect, and it says all

    def load_keys(self) -> dict[str, jwt.PyJWK]:
        """Return the keys, by their ids.

        Raises:
            AccessError: They cannot be fetched, or are malformed.
        """
        where = self._rules.jwks
        try:
            if where.startswith("https://"):
                tree = jwt.PyJWKClient(where, cache_jwk_set=False, timeout=FETCH_TIMEOUT).fetch_data()
            else:
                tree = json.loads(Path(where).read_text(encoding="utf-8"))
            found = jwt.PyJWKSet.from_dict(tree)
        except (OSError, ValueError, AttributeError, jwt.PyJWTError) as error:
            raise AccessError(f"the keys at {where} cannot be read: {error}") from error
        return {key.key_id or "": key for key in found.keys if key.algorithm_name in ALGORITHMS}
