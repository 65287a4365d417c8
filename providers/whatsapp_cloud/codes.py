"""What Meta's error codes mean to the hub (rule E8), as data.

https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes
"""

from typing import Final

from providers.base import Scope

THROTTLED: Final[dict[int, Scope]] = {
    4: "account",
    17: "account",
    613: "account",
    80007: "account",
    80008: "account",
    130429: "sender",
    131048: "sender",
    131056: "pair",
}
"""Rate limits, and what they are of: the app, the user or the business account; the number and its reputation; the
pair of number and customer.
"""

REFUSED: Final[dict[int, str]] = {
    0: "token_revoked",
    1: "provider_unavailable",
    2: "provider_unavailable",
    3: "permission_denied",
    10: "permission_denied",
    33: "sender_not_registered",
    100: "invalid_content",
    102: "token_revoked",
    190: "token_revoked",
    368: "account_restricted",
    130472: "marketing_limited",
    130497: "account_restricted",
    131000: "provider_unavailable",
    131005: "permission_denied",
    131008: "invalid_content",
    131009: "invalid_content",
    131016: "provider_unavailable",
    131020: "bad_recipient",
    131021: "bad_recipient",
    131026: "undeliverable",
    131030: "bad_recipient",
    131031: "account_restricted",
    131037: "sender_not_registered",
    131041: "bad_recipient",
    131042: "payment_required",
    131044: "payment_required",
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
    132018: "template_invalid",
    132068: "invalid_content",
    133000: "sender_not_registered",
    133004: "provider_unavailable",
    133005: "sender_not_registered",
    133006: "sender_not_registered",
    133010: "sender_not_registered",
    133015: "sender_not_registered",
    134100: "unsupported_type",
    134101: "provider_unavailable",
    134102: "template_missing",
    135000: "invalid_content",
    137000: "bad_recipient",
    138000: "permission_denied",
    139000: "account_restricted",
    2494100: "provider_unavailable",
} | dict.fromkeys(range(200, 300), "permission_denied")
"""Meta's code -> ours; any other structured refusal is `refused`."""


def stable_code(provider_code: str | None) -> str:
    """Our name for what the provider said; `refused` where we have none."""
    known = int(provider_code) if provider_code and provider_code.isascii() and provider_code.isdigit() else None
    if known in THROTTLED:
        return "throttled"
    return REFUSED.get(known, "refused") if known is not None else "refused"
