"""Twilio's Messages resource: create, list, fetch; and who may not be written to any more.

https://www.twilio.com/docs/messaging/api/message-resource.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
from aiohttp import web

from providers.simulator.faults import misbehave
from providers.simulator.ledger import Attempt, Ledger, Number, SimulatedSend
from providers.simulator.limits import Limits
from providers.simulator.media_shelf import MediaShelf
from providers.simulator.meta_api import Taken
from providers.simulator.twilio_answers import error, fault_error
from providers.simulator.twilio_checks import bare, kind_of, medium_of, read_fields, refused_code, shown_text
from providers.simulator.twilio_extras import TwilioExtras
from providers.simulator.twilio_media import TwilioMedia
from providers.simulator.twilio_numbers import TwilioNumbers

Resource = dict[str, Any]

_STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "END", "QUIT", "CANCEL", "OPTOUT", "REVOKE"})
_START = frozenset({"START", "UNSTOP", "YES"})
_SENT = frozenset({"sent", "delivered", "read", "undelivered"})


class TwilioApi:
    """`/2010-04-01/Accounts/{sid}/Messages`, for one account. `messages` holds both directions, oldest first.

    `opted_out` are pairs of a customer's phone and a number of the business: over SMS Twilio refuses to send there.
    `refused_forms` are E.164 forms it does not take, with the error code. A token that `is_revoked` is refused.
    """

    def __init__(
        self,
        ledger: Ledger,
        numbers: Sequence[Number],
        *,
        account_sid: str,
        auth_token: str,
        on_taken: Taken,
        shelf: MediaShelf,
        limits: Limits,
    ) -> None:
        self._ledger = ledger
        self._limits = limits
        self._numbers = {number.e164: number for number in numbers}
        services = [number for number in numbers if number.messaging_service]
        self._services = {number.messaging_service: number for number in reversed(services)}
        self._account_sid = account_sid
        self._authorization = aiohttp.encode_basic_auth(account_sid, auth_token)
        self._on_taken = on_taken
        self.messages: dict[str, Resource] = {}
        self._times: dict[str, float] = {}
        self.opted_out: set[tuple[str, str]] = set()
        self.refused_forms: dict[str, int] = {}
        self.is_revoked = False
        self.extras = TwilioExtras(ledger, account_sid, self._unauthorised, self.messages)
        self.media = TwilioMedia(ledger, shelf, account_sid, self.messages)
        self.nodes = TwilioNumbers(numbers, account_sid)

    def routes(self) -> list[web.RouteDef]:
        """What the server is to serve."""
        base = f"/2010-04-01/Accounts/{self._account_sid}/Messages"
        return [
            web.post(f"{base}.json", self._create),
            web.get(f"{base}.json", self.extras.asked(self._list)),
            web.get(base + r"/{sid:\w+}.json", self.extras.asked(self._fetch)),
            *self.extras.routes(),
            *self.media.routes(base, self.extras.asked),
            *self.nodes.routes(self.extras.asked),
        ]

    def add_inbound(self, form: Sequence[tuple[str, str]], *, at: float | None = None) -> None:
        """List a customer's message too, and heed STOP and START by SMS, whether or not its webhook arrives.

        `at` is when it was sent, in unix seconds; None: now.
        """
        fields = dict(form)
        resource = self._add(fields["MessageSid"], "inbound", "received", fields, at=at)
        files = [
            (fields[f"MediaUrl{place}"].rpartition("/")[2], fields[f"MediaContentType{place}"])
            for place in range(int(fields.get("NumMedia") or 0))
        ]
        self.media.add(fields["MessageSid"], files, resource["date_created"])
        word, pair = fields.get("Body", "").strip().upper(), (fields["From"], fields["To"])
        if medium_of(fields) == "sms" and word in _STOP:
            self.opted_out.add(pair)
        if medium_of(fields) == "sms" and word in _START:
            self.opted_out.discard(pair)

    def set_status(self, sid: str, status: str, error_code: int | None) -> None:
        """Keep the resource in step with its callbacks."""
        resource = self.messages[sid]
        resource |= {"status": status, "error_code": error_code, "date_updated": self._date(self._ledger.clock())}
        if status in _SENT and resource["date_sent"] is None:
            resource["date_sent"] = resource["date_updated"]
            self._times[sid] = self._ledger.clock()
        number = self._services.get(resource["messaging_service_sid"])
        if resource["from"] is None and number is not None and status != "accepted":
            is_whatsapp = resource["to"].startswith("whatsapp:")
            resource["from"] = f"whatsapp:{number.e164}" if is_whatsapp else number.e164

    async def _create(self, request: web.Request) -> web.Response:
        if (refusal := self._unauthorised(request)) is not None:
            return refusal
        form = read_fields(await request.text())
        sender = form.get("MessagingServiceSid") or bare(form.get("From", ""))
        attempt = Attempt("twilio", sender, bare(form["To"]) if form.get("To") else None, self._ledger.clock())
        async with self._ledger.admitted(attempt) as fault:
            if fault is not None and not fault.taken:
                return await misbehave(fault, request, self._ledger.stopping, fault_error)
            answer = self._refused(attempt) or await self._take(sender, form)
            if fault is not None:
                return await misbehave(fault, request, self._ledger.stopping, fault_error)
            return answer

    def _refused(self, attempt: Attempt) -> web.Response | None:
        if self.nodes.account_status != "active":
            return error(403, 20005)
        exceeded = self._limits.exceeded(attempt)
        if exceeded is not None:
            return error(429, 20429, retry_after=exceeded[1].retry_after)
        code = self.refused_forms.get(attempt.to or "", 0)
        return error(400, code) if code else None

    async def _take(self, sender: str, form: Mapping[str, Any]) -> web.Response:
        named = self._numbers.get(bare(form.get("From", "")))  # a service's number may be chosen for it
        is_member = named is not None and named.messaging_service == sender
        number = named if is_member else self._services.get(sender) or self._numbers.get(sender)
        if number is None:
            return error(400, (21704 if sender.startswith("MG") else 21606) if sender else 21603)
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

    def _add(
        self, sid: str, direction: str, status: str, fields: Mapping[str, Any], *, at: float | None = None
    ) -> Resource:
        self._times[sid] = self._ledger.clock() if at is None else at
        date = self._date(self._times[sid])
        uri = f"/2010-04-01/Accounts/{self._account_sid}/Messages/{sid}"
        self.messages[sid] = {
            "account_sid": self._account_sid,
            "api_version": "2010-04-01",
            "body": shown_text(fields, self.extras.contents) or "",
            "date_created": date,
            "date_sent": date if direction == "inbound" else None,
            "date_updated": date,
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

    def _date(self, at: float) -> str:
        return format_datetime(datetime.fromtimestamp(int(at), UTC))

    async def _fetch(self, request: web.Request) -> web.Response:
        resource = self.messages.get(request.match_info["sid"])
        return error(404, 20404) if resource is None else web.json_response(resource)

    async def _list(self, request: web.Request) -> web.Response:
        """Newest first, filtered by `To`, `From`, `DateSent`, `DateSent<` (or before) and `DateSent>` (or after)."""
        query = request.query
        matches = _filter(query)
        found = [sid for sid, resource in self.messages.items() if matches(resource, int(self._times[sid]))]
        found.sort(key=lambda sid: int(self._times[sid]))
        found.reverse()
        size, page = int(query.get("PageSize", 50)), int(query.get("Page", 0))
        start = size * page

        def uri(number: int) -> str:
            return f"{request.path}?{urlencode({**query, 'PageSize': size, 'Page': number})}"

        listing = {
            "messages": [self.messages[sid] for sid in found[start : start + size]],
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
        if not self.is_revoked and secrets.compare_digest(given.encode(), self._authorization.encode()):
            return None
        return error(401, 20003)


def _filter(query: Mapping[str, str]) -> Callable[[Resource, int], bool]:
    """By address and by time, which is in whole seconds."""
    names = ("DateSent>", "DateSent<", "DateSent")
    after, before, on = (_time(query[name]) if name in query else None for name in names)
    first = after.timestamp() if after else 0.0
    last = before.timestamp() if before else float("inf")
    wanted = [(field, query[name]) for name, field in (("To", "to"), ("From", "from")) if name in query]

    def matches(resource: Resource, at: int) -> bool:
        return (
            first <= at <= last
            and all(resource[field] == value for field, value in wanted)
            and (on is None or datetime.fromtimestamp(at, UTC).date() == on.date())
        )

    return matches


def _time(value: str) -> datetime:
    parsed = datetime.fromisoformat(value)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
