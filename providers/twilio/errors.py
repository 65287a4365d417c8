"""What Twilio's answers and the network's failures mean to the hub (rule E8), as data.

Codes: https://www.twilio.com/docs/api/errors.
"""

import aiohttp
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.base.version import Version
from twilio.http.response import Response

from providers.base import NotTaken, OutcomeUnknown, Refused, SendError
from providers.twilio.codes import REFUSED, THROTTLED

_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_DETAIL_LIMIT = 500


def from_answer(error: TwilioException) -> SendError:
    """What an error answer means. The SDK has two classes for it, unrelated but for `TwilioException`, and for lists
    that one, with the answer in it.
    """
    if isinstance(error, TwilioServiceException):
        return _refusal(error.status, error.code, str(error.detail or error.title))
    if isinstance(error, TwilioRestException):
        # Without a code in the body the SDK repeats the HTTP status in its place.
        code = None if error.code == error.status else error.code
        return _refusal(error.status, code, str(error.msg))
    if isinstance(answer := error.args[-1] if error.args else None, Response):  # a page of a list
        return from_answer(Version.exception("GET", "", answer, "Unable to fetch page"))
    return OutcomeUnknown("unexpected", type(error).__name__)


def refusal(code: int | None, detail: str) -> SendError:
    """What Twilio's own `code` means, given in an error answer or on a message that failed at once."""
    provider_code = None if code is None else str(code)
    if code is not None and code in THROTTLED:
        return NotTaken("throttled", detail[:_DETAIL_LIMIT], provider_code=provider_code, scope=THROTTLED[code])
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
