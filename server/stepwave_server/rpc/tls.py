"""The server's certificate, its key and the authority of its clients, read again when their files change."""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc

__all__ = ["TlsError", "TlsFiles"]

logger = logging.getLogger(__name__)


class TlsError(ValueError):
    """Raised when the files for TLS cannot be used."""


@dataclass(slots=True, kw_only=True)
class TlsFiles:
    """The files for TLS, in PEM.

    Attributes:
        certificate: The certificate, with the chain up to an authority that clients trust.
        key: Its private key.
        client_authority: The authority that has signed the certificates of clients, which each must have then; `None`:
            clients need none.
    """

    certificate: Path
    key: Path
    client_authority: Path | None = None
    _stamps: tuple[tuple[int, int] | None, ...] = field(default=(), init=False)

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a server. Every new connection gets the files as they are then.

        Raises:
            TlsError: The files cannot be read, or do not belong together.
        """
        self._stamps = self._stamps_now()
        changed = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._load_if_changed)  # or None: no change
        return grpc.dynamic_ssl_server_credentials(
            self.load(), changed, require_client_authentication=self.client_authority is not None
        )

    def _paths(self) -> list[Path]:
        return [path for path in (self.certificate, self.key, self.client_authority) if path is not None]

    def _stamps_now(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(_stamp, self._paths()))

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Return what the files have.

        Raises:
            TlsError: They cannot be read, or do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:  # an SSLError is an OSError, and says little
            raise TlsError(f"{self.certificate} and {self.key} are no certificate and its key: {error}") from error
        authority = self.client_authority
        if authority is not None:
            try:
                context.load_verify_locations(authority)
            except OSError as error:
                raise TlsError(f"{authority} has no certificates of an authority: {error}") from error
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], authority.read_bytes() if authority else None)

    def _load_if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what the files have now; `None`: as before. gRPC calls this for every new connection."""
        stamps = self._stamps_now()
        if stamps == self._stamps:
            return None
        self._stamps = stamps
        try:
            loaded = self.load()
        except (TlsError, OSError) as error:
            logger.error("the old certificate stays: %s", error)  # noqa: TRY400 - no defect
            return None
        logger.info("the certificate was read again from %s", self.certificate)
        return loaded


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
