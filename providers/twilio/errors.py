"""What Twilio's answers and the network's failures mean to the hub (rule E8), as data.

Codes: https://www.twilio.com/docs/api/errors.
"""

import aiohttp
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException

from providers.base import NotTaken, OutcomeUnknown, Refused, SendError

THROTTLED = frozenset({14107, 20429, 21611, 63018})
"""Rate limits of the account and of the sender; 21611: the number's queue at Twilio is full."""

REFUSED = {
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
    21656: "template_invalid",
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
    63016: "reply_window_closed",
    63019: "media_unavailable",
    63024: "bad_recipient",
    63032: "marketing_limited",
    63033: "opted_out",
}
"""Twilio's code -> ours; any other structured refusal is `refused`."""

_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_DETAIL_LIMIT = 500


def from_answer(error: TwilioException) -> SendError:
    """What an error answer means. The SDK has two classes for it, unrelated but for `TwilioException`."""
    if isinstance(error, TwilioServiceException):
        return _refusal(error.status, error.code, str(error.detail or error.title))
    if isinstance(error, TwilioRestException):
        # Without a code in the body the SDK repeats the HTTP status in its place.
        code = None if error.code == error.status else error.code
        return _refusal(error.status, code, str(error.msg))
    return OutcomeUnknown("unexpected", type(error).__name__)


def refusal(code: int | None, detail: str) -> SendError:
    """What Twilio's own `code` means, given in an error answer or on a message that failed at once."""
    provider_code = None if code is None else str(code)
    if code in THROTTLED:
        return NotTaken("throttled", detail[:_DETAIL_LIMIT], provider_code=provider_code)
    meaning = "refused" if code is None else REFUSED.get(code, "refused")
    return Refused(meaning, detail[:_DETAIL_LIMIT], provider_code=provider_code)


def from_failure(error: Exception) -> SendError:
    """What it means that no answer came, or none that can be read."""
    name = type(error).__name__
    if isinstance(error, _NOT_CONNECTED):
        return NotTaken("unreachable", name)
    if isinstance(error, TimeoutError):
        return OutcomeUnknown("timeout", name)
    if isinstance(error, aiohttp.ClientError | OSError):
        return OutcomeUnknown("connection_lost", name)
    # HTML after a 200 is a JSON error in the SDK.
    if isinstance(error, LookupError | ValueError | TypeError | AttributeError):
        return OutcomeUnknown("bad_answer", name)
    return OutcomeUnknown("unexpected", name)


def _refusal(status: object, code: object, detail: str) -> SendError:
    """A structured refusal is final whatever its status (rule E8); without a code it is so only if it is a 4xx."""
    if isinstance(code, int):
        return refusal(code, detail)
    if isinstance(status, int) and 400 <= status < 500:
        return Refused("token_revoked" if status == 401 else "refused", f"HTTP {status}")
    return OutcomeUnknown("bare_error", f"HTTP {status}")
