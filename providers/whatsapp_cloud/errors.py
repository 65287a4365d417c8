"""What Meta's answers and the network's failures mean to the hub (rule E8), as data.

Codes: https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes. Meta asks to go by `code`, not by
the HTTP status.
"""

import httpx
from pywa.errors import WhatsAppError

from providers.base import NotTaken, OutcomeUnknown, Refused, SendError

THROTTLED = frozenset({4, 80007, 130429, 131048, 131056})
"""Rate limits of the app, the business account, the number, its reputation, and the pair of number and customer."""

REFUSED = {
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

_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_DETAIL_LIMIT = 500


def from_answer(error: WhatsAppError) -> SendError:
    """What an HTTP error answer means.

    A structured 5xx is a refusal like any other (rule E8), `is_transient` or not: Meta says only that trying again
    may work, never that the first request left nothing behind. If it did, the status webhook corrects `failed`.
    """
    status = error.status_code or 0
    structured = _is_structured(error)
    code = str(error.code) if structured else None
    if status == 429 or (structured and error.code in THROTTLED):
        return NotTaken(
            "throttled", _detail(error, structured), provider_code=code, retry_after=_retry_after(error.raw_response)
        )
    if not structured and not 400 <= status < 500:
        return OutcomeUnknown("bare_error", f"HTTP {status}")
    meaning = REFUSED.get(error.code, "refused") if structured else "refused"
    return Refused(meaning, _detail(error, structured), provider_code=code)


def from_failure(error: Exception) -> SendError:
    """What it means that no answer came, or none that can be read."""
    name = type(error).__name__
    if isinstance(error, _NOT_CONNECTED):
        return NotTaken("unreachable", name)
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return OutcomeUnknown("timeout", name)
    if isinstance(error, httpx.TransportError):
        return OutcomeUnknown("connection_lost", name)
    # An error body without `message` is a bare KeyError in pywa, HTML after a 200 a ValueError.
    if isinstance(error, LookupError | ValueError | TypeError | AttributeError):
        return OutcomeUnknown("bad_answer", name)
    return OutcomeUnknown("unexpected", name)


def _is_structured(error: WhatsAppError) -> bool:
    # For a body that is not Meta's JSON, pywa makes up an error of just the HTTP status and the raw text.
    return not (error.raw.keys() == {"code", "message"} and error.code == error.status_code)


def _detail(error: WhatsAppError, structured: bool) -> str:
    if not structured:
        return f"HTTP {error.status_code}"
    if REFUSED.get(error.code) == "token_revoked":
        return ""  # Meta quotes the token here ("Malformed access token ...")
    return str(error.details or error.message)[:_DETAIL_LIMIT]


def _retry_after(response: httpx.Response | None) -> float | None:
    value = "" if response is None else response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None
