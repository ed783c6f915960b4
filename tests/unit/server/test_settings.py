"""The server's settings: defaults, the environment, validation."""

import pytest
from pydantic import ValidationError

from stepwave_server.config import Settings
from stepwave_server.core.model import SECOND


def test_the_defaults_are_as_documented() -> None:
    settings = Settings()
    assert (settings.listen, settings.insecure, settings.drain_timeout) == ("127.0.0.1:50051", False, 30)
    options = settings.engine_options()
    assert (options.run.step_timeout, options.cancel_grace, options.heartbeat) == (600 * SECOND, 10, 15)
    assert settings.retention().age == 24 * 3600 * SECOND


def test_every_field_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("STEPWAVE_MAX_STEPS", "7")
    monkeypatch.setenv("STEPWAVE_TRACEBACKS", "false")
    settings = Settings()
    assert (settings.listen, settings.max_steps, settings.tracebacks) == ("127.0.0.1:0", 7, False)
    assert settings.engine_options().run.limits.max_steps == 7


def test_an_argument_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_MAX_STEPS", "7")
    assert Settings(max_steps=9).max_steps == 9


@pytest.mark.parametrize(
    "values",
    [
        {"step_timeout": 0},
        {"step_timeout": float("inf")},
        {"step_timeout": float("nan")},
        {"step_timeout": 1e12},
        {"cancel_grace": -1},
        {"heartbeat": 0},
        {"max_runs": 0},
        {"max_attempts": 0},
        {"max_payload_bytes": 2 << 20},
        {"drain_timeout": -1},
        {"max_connection_streams": 0},
        {"max_connection_age": -1},
        {"max_connection_age": 1e7},
        {"trace_detail": "steps"},
        {"no_such_setting": 1},
    ],
    ids=str,
)
def test_an_invalid_value_is_rejected(values: dict[str, float | str]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(values)


@pytest.mark.parametrize("chunks", ["", "redis://host:6379", "rediss://user:secret@host/1", "unix:///run/redis.sock"])
def test_chunks_go_over_redis_or_nowhere(chunks: str) -> None:
    assert Settings(chunks=chunks).chunks == chunks


@pytest.mark.parametrize("chunks", ["host:6379", "http://host", "memory"])
def test_another_place_for_chunks_is_rejected(chunks: str) -> None:
    with pytest.raises(ValidationError, match=r"want redis://HOST:PORT"):
        Settings(chunks=chunks)


ENCRYPTED = {"temporal_tls": True, "temporal_address": "temporal.example.org:7233"}
PAIR = {"temporal_tls_cert": "c.pem", "temporal_tls_key": "c.key"}
KEY = {"temporal_api_key_file": "key"}


@pytest.mark.parametrize(
    "values",
    [
        {**ENCRYPTED, **PAIR, **KEY, "temporal_tls_ca": "ca.pem"},
        {**ENCRYPTED, **KEY},
        {**KEY, "temporal_address": "127.0.0.1:7233"},
        {**KEY, "temporal_address": "localhost:7233"},
        {**KEY, "temporal_address": "[::1]:7233"},
    ],
    ids=str,
)
def test_temporal_gets_a_key_encrypted_or_on_loopback(values: dict[str, object]) -> None:
    assert Settings.model_validate(values).temporal_tls == ("temporal_tls" in values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (PAIR, "set temporal_tls for temporal_tls_cert, temporal_tls_key: plain text"),
        ({"temporal_tls_ca": "ca.pem"}, "set temporal_tls for temporal_tls_ca: plain text"),
        ({**ENCRYPTED, "temporal_tls_cert": "c.pem"}, "temporal_tls_cert and temporal_tls_key belong together"),
        ({**ENCRYPTED, "temporal_tls_key": "c.key"}, "temporal_tls_cert and temporal_tls_key belong together"),
        ({**KEY, "temporal_address": "temporal:7233"}, "needs temporal_tls: temporal:7233 is not loopback"),
        ({**KEY, "temporal_address": "localhost.org:7233"}, "localhost.org:7233 is not loopback"),
    ],
    ids=str,
)
def test_a_connection_to_temporal_without_its_protection_is_rejected(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(values)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().max_runs = 5
