"""Twilio's Messages resource: create, list, fetch; and who may not be written to any more.

https://www.twilio.com/docs/messaging/api/message-resource.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
from aiohttp import web

from providers.simulator.faults import misbehave
from providers.simulator.ledger import Attempt, Ledger, Number, SimulatedSend
from providers.simulator.meta_api import Taken
from providers.simulator.twilio_answers import error, fault_error
from providers.simulator.twilio_checks import bare, kind_of, medium_of, read_fields, refused_code, shown_text
from providers.simulator.twilio_extras import TwilioExtras

Resource = dict[str, Any]

_STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL", "OPTOUT", "REVOKE"})
_START = frozenset({"START", "UNSTOP", "YES"})
_SENT = frozenset({"sent", "delivered", "read", "undelivered"})


class TwilioApi:
    """`/2010-04-01/Accounts/{sid}/Messages`, for one account. `messages` holds both directions, oldest first.

    `opted_out` are pairs of a customer's phone and a number of the business: over SMS Twilio refuses to send there.
    """

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
        self.opted_out: set[tuple[str, str]] = set()
        self.extras = TwilioExtras(ledger, account_sid, self._unauthorised, self.messages)

    def routes(self) -> list[web.RouteDef]:
        """What the server is to serve."""
        base = f"/2010-04-01/Accounts/{self._account_sid}/Messages"
        return [
            web.post(f"{base}.json", self._create),
            web.get(f"{base}.json", self.extras.asked(self._list)),
            web.get(base + r"/{sid:\w+}.json", self.extras.asked(self._fetch)),
            *self.extras.routes(),
        ]

    def add_inbound(self, form: Sequence[tuple[str, str]]) -> None:
        """List a customer's message too, and heed STOP and START by SMS, whether or not its webhook arrives."""
        fields = dict(form)
        self._add(fields["MessageSid"], "inbound", "received", fields)
        word, pair = fields.get("Body", "").strip().upper(), (fields["From"], fields["To"])
        if medium_of(fields) == "sms" and word in _STOP:
            self.opted_out.add(pair)
        if medium_of(fields) == "sms" and word in _START:
            self.opted_out.discard(pair)

    def set_status(self, sid: str, status: str, error_code: int | None) -> None:
        """Keep the resource in step with its callbacks."""
        self.messages[sid] |= {"status": status, "error_code": error_code}
        if status in _SENT and self.messages[sid]["date_sent"] is None:
            self.messages[sid]["date_sent"] = self._now()

    async def _create(self, request: web.Request) -> web.Response:
        if (refusal := self._unauthorised(request)) is not None:
            return refusal
        form = read_fields(await request.text())
        sender = form.get("MessagingServiceSid") or bare(form.get("From", ""))
        attempt = Attempt("twilio", sender, bare(form["To"]) if form.get("To") else None, self._ledger.clock())
        async with self._ledger.admitted(attempt) as fault:
            if fault is not None and not fault.taken:
                return await misbehave(fault, request, self._ledger.stopping, fault_error)
            answer = await self._take(sender, form)
            if fault is not None:
                return await misbehave(fault, request, self._ledger.stopping, fault_error)
            return answer

    async def _take(self, sender: str, form: Mapping[str, Any]) -> web.Response:
        number = self._services.get(sender) or self._numbers.get(sender)
        if number is None:
            return error(400, 21606 if sender else 21603)
        if (code := refused_code(form, self.extras.contents or None)) is not None:
            return error(400, code)
        if (form["To"], number.e164) in self.opted_out:
            return error(400, 21610)
        sid = self._ledger.sid("MM" if form.get("MediaUrl") else "SM")
        status = "accepted" if "MessagingServiceSid" in form else "queued"
        resource = self._add(sid, "outbound-api", status, form)
        send = self._sent(number, sender, form, resource)
        self._ledger.take(send)
        answer = dict(resource)  # as it is now: callbacks may overtake the answer
        await self._on_taken(send)
        return web.json_response(answer, status=201)

    def _sent(self, number: Number, sender: str, form: Mapping[str, Any], resource: Resource) -> SimulatedSend:
        status_url = form.get("StatusCallback")
        return SimulatedSend(
            provider="twilio",
            medium=medium_of(form),
            number=number,
            sender=sender,
            to=bare(form["To"]),
            type=kind_of(form),
            text=shown_text(form, self.extras.contents),
            provider_id=resource["sid"],
            hub_id=parse_qs(urlsplit(status_url or "").query).get("message", [None])[0],
            at=self._ledger.clock(),
            status_url=status_url,
            body=form,
        )

    def _add(self, sid: str, direction: str, status: str, fields: Mapping[str, Any]) -> Resource:
        at = self._now()
        uri = f"/2010-04-01/Accounts/{self._account_sid}/Messages/{sid}"
        self.messages[sid] = {
            "account_sid": self._account_sid,
            "api_version": "2010-04-01",
            "body": shown_text(fields, self.extras.contents) or "",
            "date_created": at,
            "date_sent": at if direction == "inbound" else None,
            "date_updated": at,
            "direction": direction,
            "error_code": None,
            "error_message": None,
            "from": fields.get("From"),
            "messaging_service_sid": fields.get("MessagingServiceSid"),
            "num_media": fields.get("NumMedia") or str(len(fields.get("MediaUrl", ()))),
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

    def _now(self) -> str:
        return format_datetime(datetime.fromtimestamp(self._ledger.clock(), UTC))

    async def _fetch(self, request: web.Request) -> web.Response:
        resource = self.messages.get(request.match_info["sid"])
        return error(404, 20404) if resource is None else web.json_response(resource)

    async def _list(self, request: web.Request) -> web.Response:
        """Newest first, filtered by `To`, `From`, `DateSent`, `DateSent<` (or before) and `DateSent>` (or after)."""
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
        return error(401, 20003)


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
