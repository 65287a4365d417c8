"""Secrets at rest: signing secrets are encrypted with AES-GCM, API keys only hashed (rule H3)."""

import base64
import hashlib
import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE: Final = 12
_KEY_BYTES: Final = (16, 24, 32)


class KeyProblem(Exception):
    """A configured key is no key, or none of the keys opens what was sealed."""


class Sealer:
    """Encrypts with the first key, decrypts with any, so that keys can be rotated."""

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys` are base64, 16, 24 or 32 bytes. Raises `KeyProblem`."""
        if not keys:
            raise KeyProblem("at least one secret key is needed")
        self._ciphers = [AESGCM(_decode(key)) for key in keys]

    def seal(self, text: str) -> bytes:
        """Encrypt; every call gives other bytes."""
        nonce = os.urandom(_NONCE)
        return nonce + self._ciphers[0].encrypt(nonce, text.encode(), None)

    def open(self, sealed: bytes) -> str:
        """Decrypt. Raises `KeyProblem` where no key fits."""
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], None).decode()
            except (InvalidTag, ValueError):  # another key's, or too short to have been sealed at all
                continue
        raise KeyProblem("no configured key opens this secret: was a key removed from SECRET_KEYS too early?")


def _decode(key: str) -> bytes:
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:
        raise KeyProblem("a secret key is not base64") from None
    if len(raw) not in _KEY_BYTES:
        raise KeyProblem("a secret key must be 16, 24 or 32 bytes, in base64")
    return raw


def new_secret_key() -> str:
    """A fresh AES-256 key in the form of the setting."""
    return base64.b64encode(os.urandom(32)).decode()


def new_api_key() -> str:
    """A fresh API key: 256 random bits, so that a plain hash is enough to keep it by."""
    return "plk_" + secrets.token_urlsafe(32)


def hash_api_key(key: str) -> bytes:
    """What an API key is found by."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def kept_key(data_dir: Path, name: str, fresh: str) -> str:
    """The key in `data_dir/name`, or `fresh` put there first (mode 0600); two starting processes agree on one."""
    path = data_dir / name
    data_dir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written whole beside it, then linked: nobody ever reads a key that is not all there.
        with tempfile.NamedTemporaryFile("w", dir=data_dir, prefix=f".{name}-") as file:
            file.write(fresh + "\n")
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_text().strip()
