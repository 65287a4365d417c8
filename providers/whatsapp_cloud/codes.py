"""What Meta's error codes mean to the hub (rule E8), as data.

https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes
"""

from typing import Final

THROTTLED: Final = frozenset({4, 80007, 130429, 131048, 131056})
"""Rate limits of the app, the business account, the number, its reputation, and the pair of number and customer."""

REFUSED: Final[dict[int, str]] = {
    0: "token_revoked",
    1: "provider_unavailable",
    2: "provider_unavailable",
    3: "permission_denied",
    10: "permission_denied",
    33: "sender_not_registered",
    100: "invalid_content",
    190: "token_revoked",
    368: "account_restricted",
    130472: "marketing_limited",
    130497: "account_restricted",
    131000: "provider_unavailable",
    131005: "permission_denied",
    131008: "invalid_content",
    131009: "invalid_content",
    131016: "provider_unavailable",
    131021: "bad_recipient",
    131026: "undeliverable",
    131030: "bad_recipient",
    131031: "account_restricted",
    131037: "sender_not_registered",
    131042: "payment_required",
    131045: "sender_not_registered",
    131047: "reply_window_closed",
    131049: "marketing_limited",
    131050: "marketing_stopped",
    131051: "unsupported_type",
    131052: "media_unavailable",
    131053: "media_unavailable",
    131057: "provider_unavailable",
    131062: "bad_recipient",
    131063: "marketing_limited",
    131064: "account_restricted",
    132000: "template_invalid",
    132001: "template_missing",
    132005: "template_invalid",
    132007: "template_invalid",
    132008: "template_invalid",
    132012: "template_invalid",
    132015: "template_paused",
    132016: "template_disabled",
    133010: "sender_not_registered",
    135000: "invalid_content",
    137000: "bad_recipient",
} | dict.fromkeys(range(200, 300), "permission_denied")
"""Meta's code -> ours; any other structured refusal is `refused`."""


def stable_code(provider_code: str | None) -> str:
    """Our name for what the provider said; `refused` where we have none."""
    known = int(provider_code) if provider_code and provider_code.isascii() and provider_code.isdigit() else None
    if known in THROTTLED:
        return "throttled"
    return REFUSED.get(known, "refused") if known is not None else "refused"
