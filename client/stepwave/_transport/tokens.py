"""Bearer tokens, and the files that have them."""

import logging
import os
import time
from pathlib import Path

__all__ = ["TokenFile", "check_token"]

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
"""Seconds between two looks at a file."""


def check_token(token: str) -> str:
    """Return a token without the white space around it.

    Raises:
        ValueError: It has characters that no token has.
    """
    token = token.strip()
    if not token.isascii() or any(character.isspace() for character in token):
        raise ValueError("the token has characters that no token has")
    return token


class TokenFile:
    """A file with a bearer token. It is read again when it has changed: some tokens are replaced before they expire.

    Args:
        path: The file.

    Raises:
        ValueError: It cannot be read, or has no token.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked = time.monotonic()
        self._seen = self._stamp()
        self._token = self._read()

    @property
    def token(self) -> str:
        """The token. The old one stays while the file cannot be read or is malformed, and that is logged once."""
        now = time.monotonic()
        if now - self._looked >= CHECK_SECONDS:
            self._looked = now
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                try:
                    self._token = self._read()
                except ValueError as error:
                    logger.warning("%s; the token from before is used", error)
        return self._token

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._path)
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> str:
        try:
            token = check_token(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"token_file: {self._path} cannot be read: {error.strerror}") from error
        except ValueError:
            raise ValueError(f"token_file: {self._path} has characters that no token has") from None
        if not token:
            raise ValueError(f"token_file: {self._path} has no token")
        return token
