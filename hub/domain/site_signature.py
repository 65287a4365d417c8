"""What a site's backend signs, so that a page may say properly who its visitor is (links.md, "Who may declare").

The signature is base64url, without padding, of HMAC-SHA256 with one of SITE_SECRETS over the UTF-8 of the handle, the
time, a nonce, the email, the phone and the consents (sorted, joined by commas), joined by newlines; what is absent is
empty.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from hub.domain.errors import Invalid

WINDOW: Final = timedelta(minutes=5)
"""How far its time may be from the hub's, either way."""
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f]")
"""What would let one field reach into the next."""


@dataclass(frozen=True, slots=True)
class SignedIdentify:
    """A declaration with what signs it. `time`: unix seconds."""

    handle: str
    time: int
    nonce: str
    signature: str
    email: str = ""
    phone: str = ""
    consents: Collection[str] = ()

    @property
    def text(self) -> bytes:
        """What is signed."""
        fields = (
            self.handle, str(self.time), self.nonce, self.email, self.phone, ",".join(sorted(self.consents)),
        )  # fmt: skip
        return "\n".join(fields).encode("utf-8", "surrogatepass")

    @property
    def nonce_hash(self) -> bytes:
        """What the nonce is marked as used by."""
        return hashlib.sha256(b"nonce\n" + self.nonce.encode("utf-8", "surrogatepass")).digest()

    @property
    def expires_at(self) -> datetime:
        """From when on it is too old, so that its nonce may be forgotten."""
        return datetime.fromtimestamp(self.time, UTC) + WINDOW + timedelta(seconds=1)


def sign(secret: str, said: SignedIdentify) -> str:
    """The signature of a declaration."""
    digest = hmac.digest(secret.encode(), said.text, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def verify(secrets: Sequence[str], said: SignedIdentify, now: datetime) -> None:
    """Raises `Invalid`: `invalid_signature` where none of the secrets made it, `signature_expired` out of its time.

    Whether handle and nonce are used, and whose the handle is, is for the caller to see to.
    """
    fields = (said.handle, said.nonce, said.email, said.phone, *said.consents)
    is_plain = not any(_UNSAFE.search(field) for field in fields) and not any("," in one for one in said.consents)
    is_ours = False
    for secret in secrets:
        is_ours |= hmac.compare_digest(sign(secret, said).encode(), said.signature.encode("utf-8", "surrogatepass"))
    if not (is_ours and is_plain):
        raise Invalid(
            "The signature is not the site's over handle, time, nonce, email, phone and consents (rule I): sign with "
            "one of PARTYLINE_SITE_SECRETS, as docs/links.md says.",
            code="invalid_signature",
        )
    if abs(now.timestamp() - said.time) > WINDOW.total_seconds():
        raise Invalid(
            "The signature is over five minutes old, or from the future (rule I): sign anew, and check the clock.",
            code="signature_expired",
        )
