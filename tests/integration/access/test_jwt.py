"""JSON Web Tokens: which are accepted, and which are not."""

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from integration.access.calls import fields_of
from integration.access.conftest import Call, access_text
from stepwave_server.access.jwt_tokens import JwtVerifier

ISSUER = "https://id.example.org"
AUDIENCE = "stepwave"

LATER = 66
"""Seconds after which a usual token of these tests has expired, with the leeway."""


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def access(tmp_path: Path, key: rsa.RSAPrivateKey) -> Path:
    """An access file that knows the key of an issuer."""
    write_keys(tmp_path / "jwks.json", first=key)
    path = tmp_path / "access.toml"
    rules = f'[jwt]\njwks = "jwks.json"\nissuer = "{ISSUER}"\naudience = "{AUDIENCE}"\nleeway = 5'
    path.write_text(access_text(extra=rules))
    return path


def write_keys(path: Path, **keys: rsa.RSAPrivateKey) -> None:
    found = [
        {**json.loads(RSAAlgorithm.to_jwk(it.public_key())), "kid": kid, "alg": "RS256"} for kid, it in keys.items()
    ]
    path.write_text(json.dumps({"keys": found}))


Make = Callable[..., str]


@pytest.fixture
def make(key: rsa.RSAPrivateKey) -> Make:
    """Return a function that makes tokens."""

    def token(signer: Any = key, algorithm: str = "RS256", kid: str | None = "first", **claims: object) -> str:
        usual: dict[str, object] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ada",
            "exp": time.time() + 60,
            "stepwave_roles": {"default": "runner"},
        }
        found = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return jwt.encode(found, signer, algorithm=algorithm, headers={"kid": kid} if kid else {})

    return token


async def test_a_valid_token_has_the_roles_of_its_claim(call: Call, make: Make) -> None:
    answer = await call("StartRun", token=make(), **fields_of("StartRun", run_id="mine"))
    assert answer.response.run.created_by == "jwt:ada"
    assert (await call("DeleteRun", token=make(), run_id="mine")).reason == "PERMISSION_DENIED"
    assert (await call("ListRuns", token=make(), namespace="research")).reason == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": 1}, "the token has expired"),
        ({"exp": None}, "the token is not valid"),
        ({"aud": "other"}, "the token is for another audience"),
        ({"iss": "https://evil.example.org"}, "the token is of another issuer"),
        ({"sub": None}, "the token is not valid"),
        ({"nbf": 4_000_000_000}, "the token is not valid"),
        ({"kid": "second"}, "the token was signed with an unknown key"),
    ],
)
async def test_a_token_with_wrong_claims_is_refused(
    call: Call, make: Make, claims: dict[str, Any], message: str
) -> None:
    answer = await call("ListRuns", token=make(**claims))
    assert (answer.reason, answer.message) == ("UNAUTHENTICATED", message)


async def test_the_clocks_may_differ_by_the_leeway(call: Call, make: Make) -> None:
    assert not (await call("ListRuns", token=make(exp=time.time() - 2))).reason


async def test_a_token_of_another_key_is_refused(call: Call, make: Make) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert (await call("ListRuns", token=make(other))).reason == "UNAUTHENTICATED"


async def test_an_unsigned_token_is_refused(call: Call, make: Make) -> None:
    assert (await call("ListRuns", token=make(None, "none"))).message == "the token's algorithm is not accepted"


async def test_the_public_key_is_no_shared_secret(call: Call, make: Make, key: rsa.RSAPrivateKey) -> None:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _, claims, _ = make().split(".")
    header = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT","kid":"first"}').rstrip(b"=").decode()
    signature = urlsafe_b64encode(hmac.digest(public, f"{header}.{claims}".encode(), "sha256")).rstrip(b"=").decode()
    answer = await call("ListRuns", token=f"{header}.{claims}.{signature}")
    assert answer.message == "the token's algorithm is not accepted"


@pytest.mark.parametrize(
    "roles", ["admin", ["admin"], {"default": "king"}, {"default": 3}, {"default": "ADMIN"}, {}, None]
)
async def test_a_malformed_claim_gives_no_role(call: Call, make: Make, roles: object) -> None:
    assert (await call("ListRuns", token=make(stepwave_roles=roles))).reason == "PERMISSION_DENIED"


async def test_a_new_key_is_found_without_a_restart(
    call: Call, make: Make, key: rsa.RSAPrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwave_server.access.jwt_tokens.MIN_REFRESH_SECONDS", 0.0)
    assert not (await call("ListRuns", token=make())).reason
    newer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    write_keys(tmp_path / "jwks.json", first=key, second=newer)
    assert not (await call("ListRuns", token=make(newer, kid="second"))).reason


async def test_unknown_keys_are_not_asked_for_without_bound(
    call: Call, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[JwtVerifier] = []
    load = JwtVerifier.load_keys

    def counted(verifier: JwtVerifier) -> dict[str, jwt.PyJWK]:
        loads.append(verifier)
        return load(verifier)

    monkeypatch.setattr(JwtVerifier, "load_keys", counted)
    for number in range(20):
        await call("ListRuns", token=make(kid=f"unknown-{number}"))
    assert len(loads) == 1


class _Later(datetime):
    """A clock that has gone on."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Return the time some seconds from now."""
        return super().now(tz) + timedelta(seconds=LATER)


async def test_a_token_that_was_accepted_is_refused_once_it_has_expired(
    call: Call, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make()
    assert not (await call("ListRuns", token=token)).reason
    now = time.time
    monkeypatch.setattr("time.time", lambda: now() + LATER)
    monkeypatch.setattr("jwt.api_jwt.datetime", _Later)
    assert (await call("ListRuns", token=token)).message == "the token has expired"


async def test_a_token_that_was_accepted_is_refused_once_its_key_is_withdrawn(
    call: Call, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make()
    assert not (await call("ListRuns", token=token)).reason
    write_keys(tmp_path / "jwks.json", first=rsa.generate_private_key(public_exponent=65537, key_size=2048))
    monkeypatch.setattr("stepwave_server.access.jwt_tokens.REFRESH_SECONDS", 0.0)
    assert (await call("ListRuns", token=token)).message == "the token is not valid"


async def test_a_token_is_checked_once(call: Call, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[object] = []
    decode = jwt.decode

    def counted(*given: Any, **named: Any) -> Any:
        checks.append(given)
        return decode(*given, **named)

    monkeypatch.setattr("jwt.decode", counted)
    token = make()
    for _ in range(3):
        assert not (await call("ListRuns", token=token)).reason
    assert len(checks) == 1
