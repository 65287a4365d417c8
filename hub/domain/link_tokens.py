"""Tokens of tracked links, and the secrets a browser is given when it follows one: made here, kept only as hashes."""

import re
import secrets
from hashlib import sha256
from typing import Final
from uuid import UUID

PERSONAL_LENGTH: Final = 11
"""65 bits: it says who it was sent to."""
ANONYMOUS_LENGTH: Final = 8
VISITOR_COOKIE: Final = "__Host-hv"
RECEIPT_COOKIE: Final = "__Secure-hc-"
"""And a random end, so that each click's stands by itself."""

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PATH: Final = re.compile(r"/([0-9A-Za-z]{8}(?:[0-9A-Za-z]{3})?)(?![0-9A-Za-z/])")
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{22}")


def new_token(*, is_personal: bool) -> str:
    """A new token of a link: personal for one recipient who agreed, else one that never identifies anybody."""
    return "".join(secrets.choice(_BASE62) for _ in range(PERSONAL_LENGTH if is_personal else ANONYMOUS_LENGTH))


def token_of(path: str) -> str | None:
    """The token that a path begins with: phones take what follows a link in a text for more of it."""
    found = _PATH.match(path)
    return found[1] if found else None


def new_secret() -> str:
    """A secret for a cookie or a key: 128 bits in 22 characters."""
    return secrets.token_urlsafe(16)


def digest(secret: str) -> bytes:
    """What is kept of a token or secret."""
    return sha256(secret.encode()).digest()


def visitor_id(cookie: str) -> UUID | None:
    """The visitor of a cookie, told by its hash alone; None for what is no cookie of ours."""
    return UUID(bytes=digest(cookie)[:16]) if _SECRET.fullmatch(cookie) else None
