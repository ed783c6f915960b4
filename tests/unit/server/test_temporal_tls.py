"""TLS and the API key for Temporal: the files that are refused, and the options for the program `temporal`."""

from pathlib import Path

import pytest
import trustme

from stepwave_server.config import Settings
from stepwave_server.temporal_tls import TemporalTlsError, command_options, load_credentials, reason_of

NEEDS_CERTIFICATE = (
    "it closed the connection, as a server that wants a client certificate does: "
    "set --temporal-tls-cert and --temporal-tls-key"
)

LOCAL = "127.0.0.1:7233"


def _settings(**values: object) -> Settings:
    return Settings.model_validate({"temporal_tls": True, "temporal_address": LOCAL, **values})


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("client.example.org")


@pytest.fixture
def pair(certificate: trustme.LeafCert, tmp_path: Path) -> dict[str, Path]:
    """Write a certificate and its key, and return the settings that name them."""
    paths = {"temporal_tls_cert": tmp_path / "client.pem", "temporal_tls_key": tmp_path / "client.key"}
    certificate.cert_chain_pems[0].write_to_path(paths["temporal_tls_cert"])
    certificate.private_key_pem.write_to_path(paths["temporal_tls_key"])
    return paths


def test_all_files_are_read(authority: trustme.CA, pair: dict[str, Path], tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "key").write_text(" hunter2\r\n")
    more = {"temporal_tls_ca": tmp_path / "ca.pem", "temporal_api_key_file": tmp_path / "key"}
    loaded = load_credentials(_settings(**pair, **more))
    assert (loaded.encrypted, loaded.authority, loaded.api_key) == (True, authority.cert_pem.bytes(), "hunter2")
    assert (loaded.certificate, loaded.key) == tuple(path.read_bytes() for path in pair.values())


def test_keys_are_not_in_the_text_of_the_credentials(pair: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2")
    text = repr(load_credentials(_settings(**pair, temporal_api_key_file=tmp_path / "key")))
    assert "hunter2" not in text
    assert "PRIVATE" not in text


@pytest.mark.parametrize("setting", ["temporal_tls_ca", "temporal_api_key_file"])
def test_a_file_that_does_not_exist_is_named(setting: str, tmp_path: Path) -> None:
    with pytest.raises(TemporalTlsError) as refused:
        load_credentials(_settings(**{setting: tmp_path / "none"}))
    assert str(refused.value) == f"{tmp_path}/none: cannot be read: No such file or directory"


@pytest.mark.parametrize("content", ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_an_authority_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(TemporalTlsError, match=r"ca\.pem has no certificates of an authority: "):
        load_credentials(_settings(temporal_tls_ca=tmp_path / "ca.pem"))


def test_the_key_of_another_certificate_is_refused(
    authority: trustme.CA, pair: dict[str, Path], tmp_path: Path
) -> None:
    authority.issue_cert("other.example.org").private_key_pem.write_to_path(pair["temporal_tls_key"])
    with pytest.raises(TemporalTlsError, match=r"client\.pem and \S+client\.key are no certificate and its key: "):
        load_credentials(_settings(**pair))


@pytest.mark.parametrize("content", [b"", b" \n", b"hunter2 x", b"hunter2\nx", b"hunter2\x00", "hunter²".encode()])
def test_an_api_key_that_is_none_is_refused_and_not_shown(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(TemporalTlsError) as refused:
        load_credentials(_settings(temporal_api_key_file=tmp_path / "key"))
    assert str(refused.value) == f"{tmp_path}/key has no API key: expected one line of ASCII without spaces"


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ({"temporal_tls": False}, ""),
        ({}, " --tls"),
        (
            {"temporal_tls_ca": "a b", "temporal_tls_cert": "c", "temporal_tls_key": "k"},
            " --tls --tls-ca-path 'a b' --tls-cert-path c --tls-key-path k",
        ),
        ({"temporal_api_key_file": "a b"}, " --tls --api-key \"$(cat 'a b')\""),
        ({"temporal_tls": False, "temporal_api_key_file": "key"}, ' --tls=false --api-key "$(cat key)"'),
    ],
    ids=str,
)
def test_the_program_temporal_connects_as_the_server_does(values: dict[str, object], options: str) -> None:
    assert command_options(_settings(**values)) == f"--address {LOCAL}{options}"


def test_an_alert_about_a_client_certificate_names_its_option(pair: dict[str, Path]) -> None:
    reason = reason_of(RuntimeError('error: "received fatal alert: UnknownCA"'), _settings(**pair))
    assert reason.endswith("does not trust the client certificate does: check --temporal-tls-cert")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("InvalidCertificate(NotValidForName)", "its certificate is for another name than that of --temporal-address"),
        ("InvalidCertificate(ExpiredContext { time: 7 })", "its certificate has expired"),
        ("InvalidCertificate(BadEncoding)", "its certificate is not accepted: BadEncoding"),
        ('Status { code: PermissionDenied, message: "Request unauthorized." }', "Request unauthorized."),
        ('message: "transport error", source: Some(Error(error: "too much")', "too much"),
        ('message: "transport error"', 'message: "transport error"'),
        ("a new kind", "a new kind"),
        ('error: "received fatal alert: CertificateRequired"', NEEDS_CERTIFICATE),
        ("error: AlertReceived(HandshakeFailure)", NEEDS_CERTIFICATE),
        ('error: "received fatal alert: ProtocolVersion"', "it refuses to encrypt: ProtocolVersion"),
    ],
)
def test_an_error_of_the_connection_becomes_a_reason(error: str, reason: str) -> None:
    assert reason_of(RuntimeError(error), _settings()) == reason
