"""How Twilio says no: its error body, with its own titles."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from providers.simulator.faults import Fault

Handler = Callable[[web.Request], Awaitable[web.Response]]

_TITLES = {
    20001: "Invalid parameter",
    20003: "Authenticate",
    20005: "Account not active",
    20404: "The requested resource was not found",
    20429: "Too Many Requests",
    20500: "Internal Server Error",
    21211: "Invalid 'To' Phone Number",
    21603: "A 'From' phone number is required",
    21606: "The 'From' phone number provided is not a valid message-capable Twilio phone number",
    21610: "Attempt to send to unsubscribed recipient",
    21617: "The concatenated message body exceeds the 1600 character limit",
    21619: "A text message body or media urls must be specified.",
    21620: "Invalid media URL(s)",
    21623: "Number of media files exceeds allowed limit",
    21654: "ContentSid Required",
    21655: "The ContentSid is Invalid",
    21656: "The ContentVariables Parameter is invalid",
    21704: "The Messaging Service does not contain any phone numbers",
    63021: "Channel invalid content error",
    63030: "Unsupported parameter for type of channels message",
}
_USUAL = {"throttled": (20429, 429), "unavailable": (20500, 500), "refused": (21211, 400), "no_message": (20500, 500)}


def error(status: int, code: int, *, retry_after: int | None = None, with_message: bool = True) -> web.Response:
    """An error answer."""
    body = {"code": code, "more_info": f"https://www.twilio.com/docs/errors/{code}", "status": status}
    if with_message:
        body["message"] = _TITLES.get(code, "Message refused")
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    return web.json_response(body, status=status, headers=headers)


def fault_error(fault: Fault) -> web.Response:
    """The error answer that a fault asks for."""
    code, status = _USUAL[fault.kind]
    with_message = fault.kind != "no_message"
    return error(fault.status or status, fault.code or code, retry_after=fault.retry_after, with_message=with_message)
