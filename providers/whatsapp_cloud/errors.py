"""What Meta's answers and the network's failures mean to the hub (rule E8), as data.

Codes: https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes. Meta asks to go by `code`, not by
the HTTP status.
"""

import httpx
from pywa.errors import WhatsAppError

from providers.base import NotTaken, OutcomeUnknown, Refused, SendError
from providers.fetching import seconds_of
from providers.whatsapp_cloud.codes import REFUSED, THROTTLED

_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_DETAIL_LIMIT = 500
# What the URL names: the number or the business account. It comes with code 100, as faults of the content do.
_NO_SUCH_OBJECT = 33


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
            "throttled",
            _detail(error, structured),
            provider_code=code,
            retry_after=_retry_after(error.raw_response),
            scope=THROTTLED.get(error.code, "sender"),
        )
    if not structured and not 400 <= status < 500:
        return OutcomeUnknown("bare_error", f"HTTP {status}")
    meaning = REFUSED.get(error.code, "refused") if structured else "refused"
    if error.subcode == _NO_SUCH_OBJECT:
        meaning = "sender_not_registered"
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
    return None if response is None else seconds_of(response.headers.get("Retry-After"))
