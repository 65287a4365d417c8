"""What Twilio's statuses and error codes mean to the hub (rules E7, E8), as data.

Codes: https://www.twilio.com/docs/api/errors.
"""

from typing import Any, Final

from providers.base import Status

STATUSES: Final[dict[str, Status]] = {
    "accepted": "sending",
    "queued": "sending",
    "scheduled": "sending",
    "sending": "sending",
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "undelivered": "failed",
    "failed": "failed",
    "canceled": "cancelled",
}
"""Twilio's word for what became of a message -> ours (rule E7). Other words tell nothing that the hub counts."""

THROTTLED: Final = frozenset({14107, 20429, 21611, 63018})
"""Rate limits of the account and of the sender; 21611: the number's queue at Twilio is full."""

REFUSED: Final[dict[int, str]] = {
    20003: "token_revoked",
    20404: "not_found",
    20500: "provider_unavailable",
    20503: "provider_unavailable",
    21211: "bad_recipient",
    21408: "permission_denied",
    21602: "invalid_content",
    21606: "sender_not_registered",
    21608: "bad_recipient",
    21610: "opted_out",
    21612: "undeliverable",
    21614: "bad_recipient",
    21617: "invalid_content",
    21619: "invalid_content",
    21620: "media_unavailable",
    21623: "invalid_content",
    21655: "template_invalid",
    21656: "template_invalid",
    21658: "invalid_content",
    21660: "sender_not_registered",
    21703: "sender_not_registered",
    30002: "account_restricted",
    30003: "undeliverable",
    30004: "undeliverable",
    30005: "undeliverable",
    30006: "undeliverable",
    30007: "undeliverable",
    30008: "undeliverable",
    63007: "sender_not_registered",
    63014: "undeliverable",
    63016: "reply_window_closed",
    63019: "media_unavailable",
    63021: "invalid_content",
    63024: "bad_recipient",
    63032: "marketing_limited",
    63033: "marketing_stopped",
    63049: "marketing_limited",
}
"""Twilio's code -> ours; any other structured refusal is `refused`."""


def stable_code(provider_code: str | None) -> str:
    """Our name for what the provider said; `refused` where we have none."""
    known = int(provider_code) if provider_code and provider_code.isascii() and provider_code.isdigit() else None
    if known in THROTTLED:
        return "throttled"
    return REFUSED.get(known, "refused") if known is not None else "refused"


def reported_errors(code: str | None, detail: str | None) -> tuple[dict[str, Any], ...]:
    """What Twilio says went wrong with a message it had taken, in the form of the events contract; often nothing."""
    if code in (None, "", "0") and not detail:
        return ()
    return ({"code": stable_code(code), "title": None, "detail": detail or None, "provider_code": code or None},)
