"""The part of Meta's Graph API that sends messages.

https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from providers.simulator.faults import Fault, misbehave
from providers.simulator.ledger import Attempt, Ledger, Number, SimulatedSend

Taken = Callable[[SimulatedSend], Awaitable[None]]

_TITLES = {
    1: "An unknown error has occurred.",
    100: "Invalid parameter",
    190: "Invalid OAuth access token - Cannot parse access token",
    130429: "Rate limit hit",
    131000: "Something went wrong",
    131008: "Required parameter is missing",
    131009: "Parameter value is not valid",
    131026: "Message undeliverable",
    131047: "Re-engagement message",
    131050: "User has stopped marketing messages",
}
_USUAL = {"throttled": (130429, 429), "unavailable": (131000, 500), "refused": (100, 400), "no_message": (131000, 500)}
_MAX_TEXT = 4096


class MetaApi:
    """`POST /{version}/{phone_number_id}/messages`, for one access token."""

    def __init__(self, ledger: Ledger, numbers: Sequence[Number], access_token: str, on_taken: Taken) -> None:
        self._ledger = ledger
        self._numbers = {number.phone_number_id: number for number in numbers if number.phone_number_id}
        self._access_token = access_token
        self._on_taken = on_taken

    def routes(self) -> list[web.RouteDef]:
        """What the server is to serve."""
        return [web.post(r"/{version:v\d+\.\d+}/{sender:\d+}/messages", self._messages)]

    async def _messages(self, request: web.Request) -> web.Response:
        expected = f"Bearer {self._access_token}"
        if not secrets.compare_digest(request.headers.get("Authorization", "").encode(), expected.encode()):
            return _error(401, 190)
        body = await _fields(request)
        if body.get("status") == "read":  # a read mark, perhaps with a typing indicator
            return web.json_response({"success": True})
        sender = request.match_info["sender"]
        attempt = Attempt("meta", sender, _recipient(body), self._ledger.clock())
        async with self._ledger.admitted(attempt) as fault:
            if fault is not None and not fault.taken:
                return await misbehave(fault, request, self._ledger.stopping, _fault_error)
            answer = await self._take(sender, body)
            if fault is not None:
                return await misbehave(fault, request, self._ledger.stopping, _fault_error)
            return answer

    async def _take(self, sender: str, body: Mapping[str, Any]) -> web.Response:
        number, to, kind = self._numbers.get(sender), _recipient(body), body.get("type", "text")
        if number is None:
            return _error(400, 100, subcode=33, details=f"Object with ID '{sender}' does not exist")
        problem = _problem(body, kind)
        if to is None or problem is not None:
            return problem or _error(400, 131008, details="to or recipient is missing")
        send = SimulatedSend(
            provider="meta",
            medium="whatsapp",
            number=number,
            sender=sender,
            to=to,
            type=kind,
            text=_text(body, kind),
            provider_id=self._ledger.wamid(),
            hub_id=body.get("biz_opaque_callback_data"),
            at=self._ledger.clock(),
            body=body,
        )
        self._ledger.take(send)
        await self._on_taken(send)
        return web.json_response(_accepted(send, body))


def _accepted(send: SimulatedSend, body: Mapping[str, Any]) -> dict[str, Any]:
    if "recipient" in body:
        contact = {"input": send.to, "user_id": send.to}
    else:
        contact = {"input": str(body["to"]), "wa_id": send.to.removeprefix("+")}
    return {
        "messaging_product": "whatsapp",
        "contacts": [contact],
        "messages": [{"id": send.provider_id, "message_status": "accepted"}],
    }


def _problem(body: Mapping[str, Any], kind: Any) -> web.Response | None:
    if body.get("messaging_product") != "whatsapp":
        return _error(400, 100, details="The parameter messaging_product is required.")
    if not isinstance(kind, str) or kind not in body:
        return _error(400, 131009, details=f"Unexpected key or type {kind!r}")
    if kind == "text" and not 0 < len(_text(body, kind) or "") <= _MAX_TEXT:
        return _error(400, 131009, details="text.body must have 1 to 4096 characters")
    return None


def _recipient(body: Mapping[str, Any]) -> str | None:
    if body.get("to"):
        return "+" + str(body["to"]).removeprefix("+")
    return str(body["recipient"]) if body.get("recipient") else None


def _text(body: Mapping[str, Any], kind: str) -> str | None:
    part = body.get(kind)
    text = part.get("body" if kind == "text" else "caption") if isinstance(part, Mapping) else None
    return text if isinstance(text, str) else None


async def _fields(request: web.Request) -> Mapping[str, Any]:
    """The request's fields: JSON, or a form as in the documentation's older examples."""
    if request.content_type != "application/json":
        return dict(parse_qsl(await request.text()))
    try:
        body = await request.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _fault_error(fault: Fault) -> web.Response:
    code, status = _USUAL[fault.kind]
    return _error(
        fault.status or status,
        fault.code or code,
        retry_after=fault.retry_after,
        transient=fault.kind == "unavailable",
        with_message=fault.kind != "no_message",
    )


def _error(
    status: int,
    code: int,
    *,
    subcode: int | None = None,
    details: str | None = None,
    retry_after: int | None = None,
    transient: bool = False,
    with_message: bool = True,
) -> web.Response:
    title = _TITLES.get(code, "Message failed")
    error: dict[str, Any] = {"type": "OAuthException", "code": code, "fbtrace_id": "ASimulatedTrace0000000"}
    if with_message:
        error["message"] = title if code in (1, 190) else f"(#{code}) {title}"
    if code != 190:
        error["error_data"] = {"messaging_product": "whatsapp", "details": details or f"{title}."}
    if subcode is not None:
        error["error_subcode"] = subcode
    if transient:
        error["is_transient"] = True
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    return web.json_response({"error": error}, status=status, headers=headers)
