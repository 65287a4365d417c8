"""Our signatures, judged by the stock `standardwebhooks` package (rule G1)."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from hub.domain.signing import SECRET_BYTES, new_secret, secret_key, sign

DOCUMENT = {"type": "message.received", "timestamp": "2026-01-01T00:00:00Z", "data": {"text": "größer 🙂"}}
BODY = json.dumps(DOCUMENT, ensure_ascii=False).encode()
ID = "evt_00000000000000ff"


def headers(secrets: list[str], body: bytes = BODY, at: int | None = None, name: str = ID) -> dict[str, str]:
    stamp = int(time.time()) if at is None else at
    keys = [secret_key(secret) for secret in secrets]
    return {
        "webhook-id": name,
        "webhook-timestamp": str(stamp),
        "webhook-signature": sign(keys, name, stamp, body),
    }


def test_g1_the_stock_package_verifies_our_signature() -> None:
    secret = new_secret()
    assert Webhook(secret).verify(BODY, headers([secret])) == json.loads(BODY)


def test_g1_several_live_secrets_overlap() -> None:
    """During a rotation a receiver may still have the old secret, or the new one already."""
    old, new, other = new_secret(), new_secret(), new_secret()
    signed = headers([new, old])
    assert len(signed["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        Webhook(secret).verify(BODY, signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(BODY, signed)


def test_g1_without_a_live_secret_nobody_is_convinced() -> None:
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers([]))


@pytest.mark.parametrize("part", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_g1_a_missing_header_is_not_ours(part: str) -> None:
    secret = new_secret()
    signed = headers([secret])
    del signed[part]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, signed)


def test_g1_the_signature_covers_id_time_and_every_byte() -> None:
    secret = new_secret()
    signed = headers([secret])
    for changed, body in (
        (signed | {"webhook-id": "evt_00000000000000fe"}, BODY),
        (signed | {"webhook-timestamp": str(int(signed["webhook-timestamp"]) + 1)}, BODY),
        (signed, BODY + b" "),
        (signed, BODY.replace(b"message.received", b"message.deleted")),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, changed)


def test_g1_an_old_webhook_is_refused_by_its_time() -> None:
    secret = new_secret()
    long_ago = int((datetime.now(UTC) - timedelta(minutes=10)).timestamp())
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY, headers([secret], at=long_ago))


def test_g1_the_package_and_we_make_the_same_signature() -> None:
    secret, at = new_secret(), datetime.now(UTC)
    theirs = Webhook(secret).sign(ID, at, BODY.decode())
    assert headers([secret], at=int(at.timestamp()))["webhook-signature"] == theirs


def test_secrets_are_random_and_in_the_form_receivers_know() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        prefix, _, encoded = secret.partition("_")
        assert prefix == "whsec"
        assert base64.b64decode(encoded, validate=True) == secret_key(secret)
        assert len(secret_key(secret)) == SECRET_BYTES >= 24


@given(document=st.dictionaries(st.text(), st.text() | st.integers() | st.none()), name=st.integers(0, 2**63))
def test_g1_any_json_body_verifies(document: dict[str, object], name: int) -> None:
    secret = new_secret()
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "ignore")
    Webhook(secret).verify(body, headers([secret], body, name=f"evt_{name:016x}"))
