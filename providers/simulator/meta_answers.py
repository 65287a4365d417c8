"""How the Graph API answers: its error body with its own titles, and its lists."""

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from providers.simulator.faults import Fault

Handler = Callable[[web.Request], Awaitable[web.Response]]

_TITLES = {
    1: "An unknown error has occurred.",
    10: "Application does not have permission for this action",
    15: "This method must be called with an app access_token.",
    80007: "Rate limit issues",
    100: "Invalid parameter",
    190: "Invalid OAuth access token - Cannot parse access token",
    130429: "Rate limit hit",
    131000: "Something went wrong",
    131008: "Required parameter is missing",
    131009: "Parameter value is not valid",
    131026: "Message undeliverable",
    131030: "Recipient phone number not in allowed list",
    131031: "Business Account locked",
    131042: "Business eligibility payment issue",
    131047: "Re-engagement message",
    131050: "User has stopped marketing messages",
    131053: "Media upload error",
    131056: "(Business Account, Consumer Account) pair rate limit hit",
    132000: "Number of parameters does not match the expected number of params",
    132001: "Template name does not exist in the translation",
    132015: "Template is Paused",
    132016: "Template is Disabled",
    133010: "Phone number not registered",
}
_USUAL = {"throttled": (130429, 429), "unavailable": (131000, 500), "refused": (100, 400), "no_message": (131000, 500)}


def fault_error(fault: Fault) -> web.Response:
    """The error answer that a fault asks for."""
    code, status = _USUAL[fault.kind]
    return error(
        fault.status or status,
        fault.code or code,
        retry_after=fault.retry_after,
        transient=fault.kind == "unavailable",
        with_message=fault.kind != "no_message",
    )


def error(
    status: int,
    code: int,
    *,
    subcode: int | None = None,
    details: str | None = None,
    retry_after: int | None = None,
    transient: bool = False,
    with_message: bool = True,
) -> web.Response:
    """An error answer."""
    title = _TITLES.get(code, "Message failed")
    said: dict[str, Any] = {"type": "OAuthException", "code": code, "fbtrace_id": "ASimulatedTrace0000000"}
    if with_message:
        said["message"] = title if code in (1, 190) else f"(#{code}) {title}"
    if code != 190:
        said["error_data"] = {"messaging_product": "whatsapp", "details": details or f"{title}."}
    if subcode is not None:
        said["error_subcode"] = subcode
    if transient:
        said["is_transient"] = True
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    return web.json_response({"error": said}, status=status, headers=headers)


def chosen(request: web.Request, item: Mapping[str, Any]) -> dict[str, Any]:
    """The `fields` of an object that the request names, its id in any case; all where it names none."""
    fields = request.query.get("fields")
    return {name: value for name, value in item.items() if fields is None or name == "id" or name in fields.split(",")}


def page(request: web.Request, items: Sequence[Mapping[str, Any]]) -> web.Response:
    """Part of a list, with a cursor to the rest as Graph gives it."""
    limit, after = int(request.query.get("limit", 25)), request.query.get("after")
    start = int(base64.urlsafe_b64decode(after)) if after else 0
    shown = items[start : start + limit]
    listing: dict[str, Any] = {"data": [chosen(request, item) for item in shown]}
    if shown:
        cursors = {"before": _cursor(start), "after": _cursor(start + len(shown))}
        listing["paging"] = {"cursors": cursors}
        if start + limit < len(items):
            listing["paging"]["next"] = str(request.url.update_query(after=cursors["after"]))
    return web.json_response(listing)


def _cursor(place: int) -> str:
    return base64.urlsafe_b64encode(str(place).encode()).decode()


def no_such_node(node: str, *, status: int = 400) -> web.Response:
    """The answer where the URL names nothing that this token may see; 404 for a file that is gone."""
    return error(status, 100, subcode=33, details=f"Object with ID '{node}' does not exist")
