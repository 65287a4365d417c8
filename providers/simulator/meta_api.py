"""The part of Meta's Graph API that sends messages and marks them as read; `meta_extras` has the rest.

https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from providers.simulator.faults import misbehave
from providers.simulator.ledger import Attempt, Ledger, Number, ReadMark, SimulatedSend
from providers.simulator.limits import Limits
from providers.simulator.media_shelf import MediaShelf
from providers.simulator.meta_answers import Handler, error, fault_error, no_such_node
from providers.simulator.meta_checks import Problem, check, find_template, shown_text
from providers.simulator.meta_extras import MetaExtras
from providers.simulator.meta_media import MetaMedia
from providers.simulator.meta_nodes import MetaNodes

Taken = Callable[[SimulatedSend], Awaitable[None]]


class MetaApi:
    """What the Cloud API offers under one access token: messages and read marks, and `extras`.

    `stopped` are the pairs of number and customer's address that want no marketing. `wa_ids` are the forms WhatsApp
    knows numbers under, by the form that is dialled (E.164 both); `refused_forms` are forms it does not take, with
    the error code of the refusal. A token that `is_revoked` is refused, with 190.
    """

    def __init__(
        self,
        ledger: Ledger,
        numbers: Sequence[Number],
        *,
        access_token: str,
        app_secrets: Sequence[str],
        on_taken: Taken,
        shelf: MediaShelf,
        limits: Limits,
    ) -> None:
        self._ledger = ledger
        self._limits = limits
        self._numbers = {number.phone_number_id: number for number in numbers if number.phone_number_id}
        self._access_token = access_token
        self._on_taken = on_taken
        self.nodes = MetaNodes(self._numbers, app_secrets)
        media = MetaMedia(ledger, shelf, lambda token: not self._is_foreign(token))
        self.extras = MetaExtras(ledger, self._numbers, access_token, self._asked, self.nodes, media)
        self.stopped: set[tuple[str, str]] = set()
        self.wa_ids: dict[str, str] = {}
        self.refused_forms: dict[str, int] = {}

    def routes(self) -> list[web.RouteDef]:
        """What the server is to serve."""
        version = r"/{version:v\d+\.\d+}"
        node = version + r"/{node:\d+}"
        return [web.post(f"{node}/messages", self._messages), *self.extras.routes(version, node)]

    def wants(self, send: SimulatedSend) -> bool:
        """Whether the customer wants this message, if it is marketing."""
        template = find_template(send.body.get("template"), self.extras.templates) if send.type == "template" else None
        is_marketing = template is not None and template["category"] == "MARKETING"
        return not (is_marketing and (send.number.e164, send.to) in self.stopped)

    @property
    def is_revoked(self) -> bool:
        """Whether the access token is no longer good."""
        return self.extras.is_revoked

    @is_revoked.setter
    def is_revoked(self, value: bool) -> None:
        self.extras.is_revoked = value

    def _asked(self, answer: Handler) -> Handler:
        """With the access token checked, and in touch with the faults of requests that send nothing."""

        async def handle(request: web.Request) -> web.Response:
            if (refusal := self._unauthorised(request)) is not None:
                return refusal
            async with self._ledger.asked() as fault:
                if fault is not None and not fault.taken:
                    return await misbehave(fault, request, self._ledger.stopping, fault_error)
                response = await answer(request)
                if fault is not None:
                    return await misbehave(fault, request, self._ledger.stopping, fault_error)
                return response

        return handle

    def _unauthorised(self, request: web.Request) -> web.Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if request.path.endswith("/debug_token"):  # an app may ask about its users' tokens
            app_token = request.query.get("access_token") or token
            if self.nodes.is_app_token(app_token):
                return None
        if not self._is_foreign(token):
            return None
        return error(401, 190, subcode=460 if self.is_revoked else None)

    def _is_foreign(self, token: str) -> bool:
        return self.is_revoked or not secrets.compare_digest(token.encode(), self._access_token.encode())

    async def _messages(self, request: web.Request) -> web.Response:
        if (refusal := self._unauthorised(request)) is not None:
            return refusal
        body = await _fields(request)
        if "status" in body:  # a read mark, perhaps with a typing indicator

            async def mark(request: web.Request) -> web.Response:
                return self._mark(request.match_info["node"], body)

            return await self._asked(mark)(request)
        sender = request.match_info["node"]
        attempt = Attempt("meta", sender, _recipient(body), self._ledger.clock())
        async with self._ledger.admitted(attempt) as fault:
            if fault is not None and not fault.taken:
                return await misbehave(fault, request, self._ledger.stopping, fault_error)
            answer = self._refused(attempt) or await self._take(sender, body)
            if fault is not None:
                return await misbehave(fault, request, self._ledger.stopping, fault_error)
            return answer

    def _refused(self, attempt: Attempt) -> web.Response | None:
        exceeded = self._limits.exceeded(attempt)
        if exceeded is not None:
            scope, limit = exceeded
            code, status = (130429, 429) if scope == "sender" else (131056, 400)
            return error(status, code, retry_after=limit.retry_after)
        code = self.refused_forms.get(attempt.to or "", 0)
        return error(400, code) if code else None

    async def _take(self, sender: str, body: Mapping[str, Any]) -> web.Response:
        number, to, kind = self._numbers.get(sender), _recipient(body), body.get("type", "text")
        if number is None:
            return no_such_node(sender)
        try:
            check(body, self.extras.media, self.extras.templates)
        except Problem as problem:
            return error(400, problem.code, details=problem.details)
        if to is None:
            return error(400, 131008, details="to or recipient is missing")
        send = SimulatedSend(
            provider="meta",
            medium="whatsapp",
            number=number,
            sender=sender,
            to=to,
            type=kind,
            text=shown_text(body, kind, self.extras.templates),
            provider_id=self._ledger.wamid(),
            hub_id=body.get("biz_opaque_callback_data"),
            at=self._ledger.clock(),
            body=body,
        )
        self._ledger.take(send)
        await self._on_taken(send)
        return web.json_response(_accepted(send, body, self.wa_ids.get(send.to, send.to)))

    def _mark(self, sender: str, body: Mapping[str, Any]) -> web.Response:
        message_id, typing = body.get("message_id"), body.get("typing_indicator")
        if sender not in self._numbers:
            return no_such_node(sender)
        if body.get("messaging_product") != "whatsapp" or body["status"] != "read" or not isinstance(message_id, str):
            return error(400, 131009, details="status or message_id is not valid")
        if not message_id.startswith("wamid."):
            return error(400, 100, details="Message ID is not valid")
        is_typing = isinstance(typing, Mapping) and typing.get("type") == "text"
        if typing is not None and not is_typing:
            return error(400, 131009, details="typing_indicator.type must be text")
        self._ledger.mark(ReadMark("meta", sender, message_id, is_typing, self._ledger.clock()))
        return web.json_response({"success": True})


def _accepted(send: SimulatedSend, body: Mapping[str, Any], form: str) -> dict[str, Any]:
    if "recipient" in body:
        contact = {"input": send.to, "user_id": send.to}
    else:
        contact = {"input": str(body["to"]), "wa_id": form.removeprefix("+")}
    return {
        "messaging_product": "whatsapp",
        "contacts": [contact],
        "messages": [{"id": send.provider_id, "message_status": "accepted"}],
    }


def _recipient(body: Mapping[str, Any]) -> str | None:
    if body.get("to"):
        return "+" + str(body["to"]).removeprefix("+")
    return str(body["recipient"]) if body.get("recipient") else None


async def _fields(request: web.Request) -> Mapping[str, Any]:
    """The request's fields: JSON, or a form as in the documentation's older examples."""
    if request.content_type != "application/json":
        return dict(parse_qsl(await request.text()))
    try:
        body = await request.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
