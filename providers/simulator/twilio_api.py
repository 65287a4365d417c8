"""Twilio's Messages resource: create, list, fetch.

https://www.twilio.com/docs/messaging/api/message-resource.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import aiohttp
from aiohttp import web

from providers.simulator.faults import Fault, misbehave
from providers.simulator.ledger import Attempt, Ledger, Number, SimulatedSend
from providers.simulator.meta_api import Taken

Resource = dict[str, Any]

_TITLES = {
    20003: "Authenticate",
    20404: "The requested resource was not found",
    20429: "Too Many Requests",
    20500: "Internal Server Error",
    21211: "Invalid 'To' Phone Number",
    21603: "A 'From' phone number is required",
    21606: "The 'From' phone number provided is not a valid message-capable Twilio phone number",
    21610: "Attempt to send to unsubscribed recipient",
    21619: "A text message body or media urls must be specified.",
}
_USUAL = {"throttled": (20429, 429), "unavailable": (20500, 500), "refused": (21211, 400), "no_message": (20500, 500)}


class TwilioApi:
    """`/2010-04-01/Accounts/{sid}/Messages`, for one account. `messages` holds both directions, oldest first."""

    def __init__(
        self, ledger: Ledger, numbers: Sequence[Number], account_sid: str, auth_token: str, on_taken: Taken
    ) -> None:
        self._ledger = ledger
        self._numbers = {number.e164: number for number in numbers}
        self._services = {number.messaging_service: number for number in numbers if number.messaging_service}
        self._account_sid = account_sid
        self._authorization = aiohttp.encode_basic_auth(account_sid, auth_token)
        self._on_taken = on_taken
        self.messages: dict[str, Resource] = {}

    def routes(self) -> list[web.RouteDef]:
        """What the server is to serve."""
        base = f"/2010-04-01/Accounts/{self._account_sid}/Messages"
        return [
            web.post(f"{base}.json", self._create),
            web.get(f"{base}.json", self._list),
            web.get(base + r"/{sid:\w+}.json", self._fetch),
        ]

    def add_inbound(self, form: Sequence[tuple[str, str]]) -> None:
        """List a customer's message too, as Twilio does, whether or not its webhook arrives."""
        fields = dict(form)
        self._add(fields["MessageSid"], "inbound", "received", fields)

    def set_status(self, sid: str, status: str, error_code: int | None) -> None:
        """Keep the resource in step with its callbacks."""
        self.messages[sid] |= {"status": status, "error_code": error_code}

    async def _create(self, request: web.Request) -> web.Response:
        if (refusal := self._unauthorised(request)) is not None:
            return refusal
        form = dict(parse_qsl(await request.text(), keep_blank_values=True))
        sender = form.get("MessagingServiceSid") or _bare(form.get("From", ""))
        attempt = Attempt("twilio", sender, _bare(form["To"]) if form.get("To") else None, self._ledger.clock())
        async with self._ledger.admitted(attempt) as fault:
            if fault is not None and not fault.taken:
                return await misbehave(fault, request, self._ledger.stopping, _fault_error)
            answer = await self._take(sender, form)
            if fault is not None:
                return await misbehave(fault, request, self._ledger.stopping, _fault_error)
            return answer

    async def _take(self, sender: str, form: Mapping[str, str]) -> web.Response:
        number = self._services.get(sender) or self._numbers.get(sender)
        to = form.get("To", "")
        if number is None:
            return _error(400, 21606 if sender else 21603)
        if not _is_address(to):
            return _error(400, 21211)
        if not (form.get("Body") or form.get("MediaUrl") or form.get("ContentSid")):
            return _error(400, 21619)
        sid = self._ledger.sid("MM" if form.get("MediaUrl") else "SM")
        status = "accepted" if "MessagingServiceSid" in form else "queued"
        resource = self._add(sid, "outbound-api", status, form)
        send = self._sent(number, sender, form, resource)
        self._ledger.take(send)
        answer = dict(resource)  # as it is now: callbacks may overtake the answer
        await self._on_taken(send)
        return web.json_response(answer, status=201)

    def _sent(self, number: Number, sender: str, form: Mapping[str, str], resource: Resource) -> SimulatedSend:
        status_url = form.get("StatusCallback")
        return SimulatedSend(
            provider="twilio",
            medium="whatsapp" if form["To"].startswith("whatsapp:") else "sms",
            number=number,
            sender=sender,
            to=_bare(form["To"]),
            type="template" if form.get("ContentSid") else "media" if form.get("MediaUrl") else "text",
            text=form.get("Body"),
            provider_id=resource["sid"],
            hub_id=parse_qs(urlsplit(status_url or "").query).get("message", [None])[0],
            at=self._ledger.clock(),
            status_url=status_url,
            body=form,
        )

    def _add(self, sid: str, direction: str, status: str, fields: Mapping[str, str]) -> Resource:
        at = format_datetime(datetime.fromtimestamp(self._ledger.clock(), UTC))
        uri = f"/2010-04-01/Accounts/{self._account_sid}/Messages/{sid}"
        self.messages[sid] = {
            "account_sid": self._account_sid,
            "api_version": "2010-04-01",
            "body": fields.get("Body", ""),
            "date_created": at,
            "date_sent": at if direction == "inbound" else None,
            "date_updated": at,
            "direction": direction,
            "error_code": None,
            "error_message": None,
            "from": fields.get("From"),
            "messaging_service_sid": fields.get("MessagingServiceSid"),
            "num_media": fields.get("NumMedia", "1" if fields.get("MediaUrl") else "0"),
            "num_segments": "1",
            "price": None,
            "price_unit": None,
            "sid": sid,
            "status": status,
            "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": fields["To"],
            "uri": f"{uri}.json",
        }
        return self.messages[sid]

    async def _fetch(self, request: web.Request) -> web.Response:
        if (refusal := self._unauthorised(request)) is not None:
            return refusal
        resource = self.messages.get(request.match_info["sid"])
        return _error(404, 20404) if resource is None else web.json_response(resource)

    async def _list(self, request: web.Request) -> web.Response:
        """Newest first, filtered by `To`, `From`, `DateSent`, `DateSent<` (or before) and `DateSent>` (or after)."""
        if (refusal := self._unauthorised(request)) is not None:
            return refusal
        query = request.query
        found = [resource for resource in reversed(self.messages.values()) if _matches(resource, query)]
        size, page = int(query.get("PageSize", 50)), int(query.get("Page", 0))
        start = size * page

        def uri(number: int) -> str:
            return f"{request.path}?{urlencode({**query, 'PageSize': size, 'Page': number})}"

        listing = {
            "messages": found[start : start + size],
            "page": page,
            "page_size": size,
            "start": start,
            "end": max(start, min(start + size, len(found)) - 1),
            "uri": uri(page),
            "first_page_uri": uri(0),
            "next_page_uri": uri(page + 1) if start + size < len(found) else None,
            "previous_page_uri": uri(page - 1) if page else None,
        }
        return web.json_response(listing)

    def _unauthorised(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        if secrets.compare_digest(given.encode(), self._authorization.encode()):
            return None
        return _error(401, 20003)


def _matches(resource: Resource, query: Mapping[str, str]) -> bool:
    if any(query.get(name, resource[field]) != resource[field] for name, field in (("To", "to"), ("From", "from"))):
        return False
    sent = parsedate_to_datetime(resource["date_sent"] or resource["date_created"])
    after, before, on = query.get("DateSent>"), query.get("DateSent<"), query.get("DateSent")
    return (
        (after is None or sent >= _time(after))
        and (before is None or sent <= _time(before))
        and (on is None or sent.date() == _time(on).date())
    )


def _time(value: str) -> datetime:
    parsed = datetime.fromisoformat(value)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _bare(address: str) -> str:
    return address.removeprefix("whatsapp:")


def _is_address(to: str) -> bool:
    bare = _bare(to)
    is_phone = bare.startswith("+") and bare[1:].isdigit() and 7 <= len(bare) <= 16
    return is_phone or (to.startswith("whatsapp:") and bare[:2].isalpha() and bare[2:3] == ".")


def _fault_error(fault: Fault) -> web.Response:
    code, status = _USUAL[fault.kind]
    with_message = fault.kind != "no_message"
    return _error(fault.status or status, fault.code or code, retry_after=fault.retry_after, with_message=with_message)


def _error(status: int, code: int, *, retry_after: int | None = None, with_message: bool = True) -> web.Response:
    error = {"code": code, "more_info": f"https://www.twilio.com/docs/errors/{code}", "status": status}
    if with_message:
        error["message"] = _TITLES.get(code, "Message refused")
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    return web.json_response(error, status=status, headers=headers)
