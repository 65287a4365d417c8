"""Signed, expiring addresses of files: whoever has one may fetch this file until then, and nothing else."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from hub.domain.ids import public_id

PREFIX: Final = "med"
LINK_SECONDS: Final = 24 * 3600
"""How long a provider may take to fetch a file."""
_PURPOSE: Final = b"partyline media link 1"
_MAX_EXPIRES: Final = 12
"""Digits of the expiry in unix seconds."""


class MediaLinks:
    """Makes addresses under `base_url` with the first of `secrets`, and takes those made with any of them."""

    def __init__(self, base_url: str, secrets: Sequence[str]) -> None:
        self._base_url = base_url.rstrip("/")
        # Keys of their own: what signs links must not be what encrypts secrets (H3).
        self._keys = [hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256) for secret in secrets]

    def url(self, media_id: UUID, now: float, seconds: int = LINK_SECONDS) -> str:
        """An address that is good for so long from `now` (unix seconds)."""
        expires = str(int(now) + seconds)
        name = public_id(PREFIX, media_id)
        signature = _sign(self._keys[0], name, expires)
        return f"{self._base_url}/media/{name}?expires={expires}&signature={signature}"

    def is_valid(self, name: str, expires: str, signature: str, now: float) -> bool:
        """Whether this address is one of ours and has not expired; of hostile texts too."""
        if not (expires.isascii() and expires.isdigit() and len(expires) <= _MAX_EXPIRES and signature.isascii()):
            return False
        is_ours = False
        for key in self._keys:
            is_ours |= hmac.compare_digest(_sign(key, name, expires), signature)
        return is_ours and now < int(expires)


def _sign(key: bytes, name: str, expires: str) -> str:
    return hmac.digest(key, f"{name}\n{expires}".encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
