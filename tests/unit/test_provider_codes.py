"""What providers' error codes mean to the hub, as data (rule E8)."""

import pytest

from providers.twilio import codes as twilio
from providers.whatsapp_cloud import codes as meta


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("0", "token_revoked"),
        ("4", "throttled"),
        ("10", "permission_denied"),
        ("100", "invalid_content"),
        ("190", "token_revoked"),
        ("299", "permission_denied"),
        ("300", "refused"),
        ("368", "account_restricted"),
        ("613", "throttled"),
        ("80007", "throttled"),
        ("130429", "throttled"),
        ("131021", "bad_recipient"),
        ("131026", "undeliverable"),
        ("131042", "payment_required"),
        ("131044", "payment_required"),
        ("131047", "reply_window_closed"),
        ("131049", "marketing_limited"),
        ("131050", "marketing_stopped"),
        ("131052", "media_unavailable"),
        ("131056", "throttled"),
        ("132001", "template_missing"),
        ("132015", "template_paused"),
        ("132016", "template_disabled"),
        ("133010", "sender_not_registered"),
        ("134102", "template_missing"),
        (None, "refused"),
        ("", "refused"),
        ("²", "refused"),
        ("999999", "refused"),
    ],
)
def test_meta(code: str | None, meaning: str) -> None:
    assert meta.stable_code(code) == meaning


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("20003", "token_revoked"),
        ("20005", "account_restricted"),
        ("20429", "throttled"),
        ("21211", "bad_recipient"),
        ("21408", "permission_denied"),
        ("21610", "opted_out"),
        ("21611", "throttled"),
        ("21614", "bad_recipient"),
        ("21704", "sender_not_registered"),
        ("30001", "throttled"),
        ("30003", "undeliverable"),
        ("30007", "undeliverable"),
        ("30022", "throttled"),
        ("30034", "sender_not_registered"),
        ("63007", "sender_not_registered"),
        ("63015", "bad_recipient"),
        ("63016", "reply_window_closed"),
        ("63018", "throttled"),
        ("63024", "bad_recipient"),
        ("63027", "template_missing"),
        ("63032", "marketing_limited"),
        ("63033", "marketing_stopped"),
        ("63041", "template_paused"),
        ("63112", "account_restricted"),
        (None, "refused"),
        ("abc", "refused"),
        ("99999", "refused"),
    ],
)
def test_twilio(code: str | None, meaning: str) -> None:
    assert twilio.stable_code(code) == meaning


@pytest.mark.parametrize("codes", [meta, twilio], ids=["meta", "twilio"])
def test_no_code_means_two_things(codes: object) -> None:
    throttled, refused = codes.THROTTLED, codes.REFUSED  # type: ignore[attr-defined]
    assert not throttled.keys() & refused.keys()
    assert set(throttled.values()) <= {"account", "sender", "pair"}
