"""Signed, expiring addresses of files: whoever has one may fetch this file until then, and nothing else."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from hub.domain.ids import public_id

PREFIX: Final = "med"
LINK_SECONDS: Final = 24 * 3600
"""How long an address is good."""
OPERATOR: Final = "operator"
"""Who an address is for that the operator was given."""
_PROVIDER: Final = ""
_PURPOSE: Final = b"partyline media link 1"
_MAX_EXPIRES: Final = 12
"""Digits of the expiry in unix seconds."""


class MediaLinks:
    """Makes addresses under `base_url` with the first of `secrets`, and takes those made with any of them."""

    def __init__(self, base_url: str, secrets: Sequence[str], seconds: int = LINK_SECONDS) -> None:
        self._base_url = base_url.rstrip("/")
        self._seconds = seconds
        # Keys of their own: what signs links must not be what encrypts secrets (H3).
        self._keys = [hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256) for secret in secrets]

    def url(self, media_id: UUID, now: float) -> str:
        """An address for a provider, good for so long from `now` (unix seconds)."""
        return self._url(public_id(PREFIX, media_id), _PROVIDER, now)

    def with_urls(self, message: Mapping[str, Any], viewer: UUID | None, now: float) -> dict[str, Any]:
        """A message as somebody may see it in full, with addresses for them alone; None is the operator. What has no
        file of the hub's is given back as it is.
        """
        files = message.get("media")
        if not isinstance(files, list) or message.get("masked"):
            return dict(message)
        whom = public_id("svc", viewer) if viewer else OPERATOR
        return {**message, "media": [self._with_url(file, whom, now) for file in files]}

    def _with_url(self, file: Any, whom: str, now: float) -> Any:
        name = file.get("id") if isinstance(file, Mapping) else None
        if not isinstance(name, str) or not name.startswith(f"{PREFIX}_"):
            return file
        return {**file, "url": self._url(name, whom, now)}

    def _url(self, name: str, whom: str, now: float) -> str:
        expires = str(int(now) + self._seconds)
        service = f"service={whom}&" if whom else ""
        signature = _sign(self._keys[0], name, whom, expires)
        return f"{self._base_url}/media/{name}?{service}expires={expires}&signature={signature}"

    def is_valid(self, name: str, whom: str, expires: str, signature: str, now: float) -> bool:
        """Whether this address is one of ours and has not expired; of hostile texts too."""
        if not (expires.isascii() and expires.isdigit() and len(expires) <= _MAX_EXPIRES and signature.isascii()):
            return False
        is_ours = False
        for key in self._keys:
            is_ours |= hmac.compare_digest(_sign(key, name, whom, expires), signature)
        return is_ours and now < int(expires)


def _sign(key: bytes, name: str, whom: str, expires: str) -> str:
    return hmac.digest(key, f"{name}\n{whom}\n{expires}".encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
