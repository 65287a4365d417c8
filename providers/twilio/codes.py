"""What Twilio's statuses and error codes mean to the hub (rules E7, E8), as data.

Codes: https://www.twilio.com/docs/api/errors.
"""

from typing import Any, Final

from providers.base import Scope, Status

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

THROTTLED: Final[dict[int, Scope]] = {
    14107: "account",
    20429: "account",
    21611: "sender",
    30001: "sender",
    30022: "sender",
    30023: "sender",
    30027: "sender",
    63018: "sender",
    63038: "account",
}
"""Rate limits, and what they are of. 21611 and 30001: the queue at Twilio is full; 30022 to 30027: limits of US
carriers, by the second and by the day.
"""

REFUSED: Final[dict[int, str]] = {
    20003: "token_revoked",
    20005: "account_restricted",
    20006: "permission_denied",
    20008: "permission_denied",
    20101: "token_revoked",
    20403: "permission_denied",
    20404: "not_found",
    20422: "invalid_content",
    20500: "provider_unavailable",
    20503: "provider_unavailable",
    20504: "provider_unavailable",
    21211: "bad_recipient",
    21212: "sender_not_registered",
    21217: "bad_recipient",
    21265: "bad_recipient",
    21266: "bad_recipient",
    21267: "sender_not_registered",
    21408: "permission_denied",
    21601: "sender_not_registered",
    21602: "invalid_content",
    21603: "sender_not_registered",
    21604: "bad_recipient",
    21605: "invalid_content",
    21606: "sender_not_registered",
    21607: "sender_not_registered",
    21608: "bad_recipient",
    21609: "invalid_content",
    21610: "opted_out",
    21612: "undeliverable",
    21614: "bad_recipient",
    21617: "invalid_content",
    21619: "invalid_content",
    21620: "media_unavailable",
    21621: "unsupported_type",
    21622: "unsupported_type",
    21623: "invalid_content",
    21635: "bad_recipient",
    21654: "template_missing",
    21655: "template_invalid",
    21656: "template_invalid",
    21657: "template_invalid",
    21658: "invalid_content",
    21659: "sender_not_registered",
    21660: "sender_not_registered",
    21661: "sender_not_registered",
    21701: "sender_not_registered",
    21703: "sender_not_registered",
    21704: "sender_not_registered",
    21705: "sender_not_registered",
    21910: "bad_recipient",
    30002: "account_restricted",
    30003: "undeliverable",
    30004: "undeliverable",
    30005: "undeliverable",
    30006: "undeliverable",
    30007: "undeliverable",
    30008: "undeliverable",
    30011: "unsupported_type",
    30017: "undeliverable",
    30018: "sender_not_registered",
    30019: "invalid_content",
    30024: "sender_not_registered",
    30032: "sender_not_registered",
    30033: "account_restricted",
    30034: "sender_not_registered",
    30035: "sender_not_registered",
    30036: "undeliverable",
    30037: "account_restricted",
    30038: "undeliverable",
    30044: "invalid_content",
    30410: "provider_unavailable",
    30450: "undeliverable",
    63001: "permission_denied",
    63002: "sender_not_registered",
    63003: "bad_recipient",
    63005: "invalid_content",
    63006: "invalid_content",
    63007: "sender_not_registered",
    63008: "sender_not_registered",
    63009: "undeliverable",
    63010: "provider_unavailable",
    63011: "invalid_content",
    63012: "provider_unavailable",
    63013: "invalid_content",
    63014: "undeliverable",
    63015: "bad_recipient",
    63016: "reply_window_closed",
    63019: "media_unavailable",
    63020: "account_restricted",
    63021: "invalid_content",
    63022: "sender_not_registered",
    63024: "bad_recipient",
    63027: "template_missing",
    63028: "template_invalid",
    63029: "undeliverable",
    63030: "invalid_content",
    63031: "bad_recipient",
    63032: "marketing_limited",
    63033: "marketing_stopped",
    63034: "media_unavailable",
    63036: "undeliverable",
    63040: "template_disabled",
    63041: "template_paused",
    63042: "template_disabled",
    63049: "marketing_limited",
    63051: "account_restricted",
    63112: "account_restricted",
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
