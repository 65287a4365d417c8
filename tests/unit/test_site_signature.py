"""Signatures of a site's backend: over every field, by a secret that is configured, for five minutes."""

import base64
import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.domain.errors import Invalid
from hub.domain.site_signature import WINDOW, SignedIdentify, sign, verify

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRETS = ["new-secret", "old-secret"]
BARE = SignedIdentify(
    "handle", int(NOW.timestamp()), "nonce-123", "", "mia@example.com", "+4915112345678", ("whatsapp", "email")
)
GOOD = replace(BARE, signature=sign("new-secret", BARE))


def test_the_signature_is_as_documented() -> None:
    text = f"handle\n{GOOD.time}\nnonce-123\nmia@example.com\n+4915112345678\nemail,whatsapp"
    digest = hmac.new(b"new-secret", text.encode(), hashlib.sha256).digest()
    assert GOOD.signature == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    empty = SignedIdentify("h", 1, "n", "", email="ä@example.com")
    assert empty.text == "h\n1\nn\nä@example.com\n\n".encode()


@pytest.mark.parametrize("secret", SECRETS)
def test_every_configured_secret_may_have_made_it(secret: str) -> None:
    verify(SECRETS, replace(BARE, signature=sign(secret, BARE)), NOW)


def test_the_order_of_consents_does_not_matter() -> None:
    verify(SECRETS, replace(GOOD, consents=("email", "whatsapp")), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"handle": "other"},
        {"time": GOOD.time + 1},
        {"nonce": "nonce-124"},
        {"email": "ben@example.com"},
        {"email": ""},
        {"phone": "+4915112345679"},
        {"consents": ("email",)},
        {"consents": ("email", "whatsapp", "sms")},
        {"consents": ("email,whatsapp",)},
        {"signature": ""},
        {"signature": GOOD.signature[:-1]},
        {"signature": GOOD.signature + "="},
        {"signature": GOOD.signature.swapcase()},
        {"signature": "ü"},
        {"signature": "\ud800"},
        {"email": "\ud800"},
    ],
    ids=range(16),
)
def test_nothing_of_it_can_be_changed(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        verify(SECRETS, replace(GOOD, **changes), NOW)
    assert refused.value.code == "invalid_signature"


@pytest.mark.parametrize("secrets", [[], ["other"]], ids=["none", "another"])
def test_no_other_secret_counts(secrets: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        verify(secrets, GOOD, NOW)
    assert refused.value.code == "invalid_signature"


@pytest.mark.parametrize("field", ["handle", "nonce", "email", "phone"])
def test_no_field_reaches_into_the_next(field: str) -> None:
    """Signed or not: a shop that signs what somebody typed would sign another's phone number along with it."""
    spread = replace(BARE, **{field: "a\nb"})
    with pytest.raises(Invalid) as refused:
        verify(SECRETS, replace(spread, signature=sign("new-secret", spread)), NOW)
    assert refused.value.code == "invalid_signature"


@pytest.mark.parametrize(
    ("late", "is_good"),
    [
        (timedelta(0), True),
        (WINDOW, True),
        (-WINDOW, True),
        (WINDOW + timedelta(seconds=1), False),
        (-WINDOW - timedelta(seconds=1), False),
        (timedelta(days=3650), False),
    ],
    ids=str,
)
def test_it_is_good_for_five_minutes(late: timedelta, is_good: bool) -> None:
    if is_good:
        verify(SECRETS, GOOD, NOW + late)
        assert GOOD.expires_at > NOW + late
        return
    with pytest.raises(Invalid) as refused:
        verify(SECRETS, GOOD, NOW + late)
    assert refused.value.code == "signature_expired"


def test_a_nonce_has_a_hash_of_its_own() -> None:
    assert GOOD.nonce_hash == replace(GOOD, email="", handle="x").nonce_hash
    assert GOOD.nonce_hash != replace(GOOD, nonce="nonce-124").nonce_hash
