"""Bearer tokens: their form, their hashes, and their comparison in constant time."""

import hmac
import secrets
from collections.abc import Iterable
from hashlib import sha256

from stepwave_server.access.access_file import Token

__all__ = ["find_token", "hash_of", "new_token"]

PREFIX = "stw_"
"""The beginning of every token, by which scanners for leaked credentials find them."""


def new_token() -> str:
    """Return a new token, with 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """Return the hash that the access file has of a token."""
    return sha256(token.encode()).hexdigest()


def find_token(tokens: Iterable[Token], given: str) -> Token | None:
    """Return the token that a caller has given; `None`: it is unknown.

    All are compared, each in constant time, so that the time says neither which matches nor how much of it.
    """
    digest, found = hash_of(given), None
    for token in tokens:
        if hmac.compare_digest(token.sha256, digest):
            found = token
    return found
