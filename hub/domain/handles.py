"""Visitor handles: what a page gives to its backend, so that it can say to the hub who the visitor is.

Opaque: the visitor's id cannot be read out of one, nor one be made without a key of the hub. Good for ten minutes, and
once, which is up to whoever takes it (`use_handle`).
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub.domain.errors import Invalid

LIFE: Final = timedelta(minutes=10)
_PURPOSE: Final = b"partyline visitor handle 1"
_NONCE: Final = 12
_ID: Final = 16
_SECONDS: Final = 8
_TAG: Final = 16
_RAW: Final = _NONCE + _ID + _SECONDS + _TAG
LENGTH: Final = 70
"""Characters of a handle: base64url without padding."""


class Handles:
    """Makes handles with the first of `secrets`, and takes those made with any of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        # Keys of their own: what seals handles must not be what encrypts secrets (H3).
        keys = [hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256) for secret in secrets]
        self._ciphers = [AESGCM(key) for key in keys]

    def make(self, visitor_id: UUID, now: datetime) -> str:
        """A handle of this visitor, good from now; every call gives another."""
        nonce = os.urandom(_NONCE)
        expires = int((now + LIFE).timestamp())
        sealed = self._ciphers[0].encrypt(nonce, visitor_id.bytes + expires.to_bytes(_SECONDS, "big"), None)
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()

    def read(self, text: str, now: datetime) -> tuple[UUID, bytes]:
        """The visitor of a handle, and the hash it is marked as used by. Raises `Invalid` (`invalid_handle`) for what
        is none of ours or too old.
        """
        raw = _decode(text)
        for cipher in self._ciphers:
            try:
                opened = cipher.decrypt(raw[:_NONCE], raw[_NONCE:], None)
            except (InvalidTag, ValueError):  # another key's, or nothing that was ever sealed
                continue
            if now.timestamp() >= int.from_bytes(opened[_ID:], "big"):
                break
            # Of the bytes, not the text: the last character has bits that mean nothing.
            return UUID(bytes=opened[:_ID]), hashlib.sha256(b"handle\n" + raw).digest()
        raise Invalid(
            "This is no visitor handle, or one that is over ten minutes old (rule I): ask hub.handle() for another.",
            code="invalid_handle",
        )


def _decode(text: str) -> bytes:
    """The bytes of a handle; none for what cannot be one."""
    if len(text) != LENGTH or not text.isascii():
        return b""
    try:
        raw = base64.b64decode(text + "==", altchars=b"-_", validate=True)
    except ValueError:
        return b""
    return raw if len(raw) == _RAW else b""
