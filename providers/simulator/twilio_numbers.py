"""Which URLs Twilio calls for a number: its phone numbers, messaging services and WhatsApp senders.

https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource,
https://www.twilio.com/docs/messaging/api/service-resource,
https://www.twilio.com/docs/whatsapp/api/senders.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from providers.simulator.ledger import Number
from providers.simulator.twilio_answers import Handler, error

Resource = dict[str, Any]

_RFC_2822 = "Thu, 01 Jan 2026 00:00:00 +0000"
_ISO = "2026-01-01T00:00:00Z"


class TwilioNumbers:
    """`number_fields` (by E.164), `service_fields` (by messaging service) and `sender_fields` (by E.164) say what
    differs from the usual: all webhooks go to the hub. `account_status` is `active`, `suspended` or `closed`.
    """

    def __init__(self, numbers: Sequence[Number], account_sid: str) -> None:
        self._numbers = numbers
        self._account_sid = account_sid
        self.hub_callback: Callable[[], str] = lambda: ""
        self.number_fields: dict[str, dict[str, Any]] = {}
        self.service_fields: dict[str, dict[str, Any]] = {}
        self.sender_fields: dict[str, dict[str, Any]] = {}
        self.account_status = "active"

    def routes(self, asked: Callable[[Handler], Handler]) -> list[web.RouteDef]:
        """What the server is to serve."""
        account = f"/2010-04-01/Accounts/{self._account_sid}"
        return [
            web.get(f"{account}.json", asked(self._account)),
            web.get(f"{account}/IncomingPhoneNumbers.json", asked(self._list_numbers)),
            web.get(account + r"/IncomingPhoneNumbers/{sid:\w+}.json", asked(self._number)),
            web.get("/v1/Services", asked(self._list_services)),
            web.get(r"/v1/Services/{sid:\w+}", asked(self._service)),
            web.get(r"/v1/Services/{sid:\w+}/PhoneNumbers", asked(self._list_service_numbers)),
            web.get("/v2/Channels/Senders", asked(self._list_senders)),
            web.get(r"/v2/Channels/Senders/{sid:\w+}", asked(self._sender)),
        ]

    async def _account(self, request: web.Request) -> web.Response:
        account = {
            "date_created": _RFC_2822,
            "date_updated": _RFC_2822,
            "friendly_name": "Simulated Account",
            "owner_account_sid": self._account_sid,
            "sid": self._account_sid,
            "status": self.account_status,
            "type": "Full",
            "uri": f"{request.path}",
        }
        return web.json_response(account)

    async def _list_numbers(self, request: web.Request) -> web.Response:
        wanted = request.query.get("PhoneNumber")
        found = [self._phone(number) for number in self._numbers if wanted in (None, number.e164)]
        listing = {
            "incoming_phone_numbers": found,
            "page": 0,
            "page_size": 50,
            "start": 0,
            "end": max(0, len(found) - 1),
            "uri": request.path_qs,
            "first_page_uri": request.path_qs,
            "next_page_uri": None,
            "previous_page_uri": None,
        }
        return web.json_response(listing)

    async def _number(self, request: web.Request) -> web.Response:
        return _one(request, [self._phone(number) for number in self._numbers])

    async def _list_services(self, request: web.Request) -> web.Response:
        return _page(request, "services", self._services())

    async def _service(self, request: web.Request) -> web.Response:
        return _one(request, self._services())

    async def _list_service_numbers(self, request: web.Request) -> web.Response:
        service = request.match_info["sid"]
        members = [number for number in self._numbers if number.messaging_service == service]
        if not members:
            return error(404, 20404)
        listed = [
            {
                "account_sid": self._account_sid,
                "capabilities": ["SMS", "MMS"],
                "country_code": "US",
                "date_created": _ISO,
                "date_updated": _ISO,
                "phone_number": number.e164,
                "service_sid": service,
                "sid": _sid("PN", number.e164),
                "url": f"https://messaging.twilio.com/v1/Services/{service}/PhoneNumbers/{_sid('PN', number.e164)}",
            }
            for number in members
        ]
        return _page(request, "phone_numbers", listed)

    async def _list_senders(self, request: web.Request) -> web.Response:
        if request.query.get("Channel") != "whatsapp":
            return error(400, 20001)
        return _page(request, "senders", [self._channel(number) for number in self._numbers])

    async def _sender(self, request: web.Request) -> web.Response:
        return _one(request, [self._channel(number) for number in self._numbers])

    def _phone(self, number: Number) -> Resource:
        sid = _sid("PN", number.e164)
        known = {
            "account_sid": self._account_sid,
            "api_version": "2010-04-01",
            "capabilities": {"fax": False, "mms": True, "sms": True, "voice": True},
            "date_created": _RFC_2822,
            "date_updated": _RFC_2822,
            "friendly_name": number.e164,
            "phone_number": number.e164,
            "sid": sid,
            "sms_application_sid": "",
            "sms_fallback_method": "POST",
            "sms_fallback_url": "",
            "sms_method": "POST",
            "sms_url": self.hub_callback(),
            "status": "in-use",
            "status_callback": "",
            "status_callback_method": "POST",
            "uri": f"/2010-04-01/Accounts/{self._account_sid}/IncomingPhoneNumbers/{sid}.json",
        }
        return known | self.number_fields.get(number.e164, {})

    def _services(self) -> list[Resource]:
        sids = dict.fromkeys(number.messaging_service for number in self._numbers if number.messaging_service)
        return [
            {
                "account_sid": self._account_sid,
                "date_created": _ISO,
                "date_updated": _ISO,
                "fallback_method": "POST",
                "fallback_url": None,
                "friendly_name": "Simulated Service",
                "inbound_method": "POST",
                "inbound_request_url": self.hub_callback(),
                "sid": sid,
                "status_callback": None,
                "sticky_sender": True,
                "url": f"https://messaging.twilio.com/v1/Services/{sid}",
                "use_inbound_webhook_on_number": False,
                "usecase": "notifications",
            }
            | self.service_fields.get(sid, {})
            for sid in sids
        ]

    def _channel(self, number: Number) -> Resource:
        """A WhatsApp sender; `sender_fields` may name parts such as `status`, `webhook` or `properties`."""
        sid = _sid("XE", number.e164)
        known: Resource = {
            "configuration": {"waba_id": number.waba_id, "verification_method": "sms"},
            "offline_reasons": None,
            "profile": {"name": "Simulated Business"},
            "properties": {"messaging_limit": "1K Customers/24hr", "quality_rating": "HIGH"},
            "sender_id": f"whatsapp:{number.e164}",
            "sid": sid,
            "status": "ONLINE",
            "url": f"https://messaging.twilio.com/v2/Channels/Senders/{sid}",
            "webhook": {
                "callback_method": "POST",
                "callback_url": self.hub_callback(),
                "fallback_method": "POST",
                "fallback_url": "",
                "status_callback_method": "POST",
                "status_callback_url": "",
            },
        }
        return known | self.sender_fields.get(number.e164, {})


def _sid(prefix: str, name: str) -> str:
    """The same id for the same name, always."""
    return f"{prefix}{hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()}"


def _one(request: web.Request, resources: Sequence[Mapping[str, Any]]) -> web.Response:
    found = next((item for item in resources if item["sid"] == request.match_info["sid"]), None)
    return error(404, 20404) if found is None else web.json_response(found)


def _page(request: web.Request, key: str, found: Sequence[Mapping[str, Any]]) -> web.Response:
    """A list of the newer APIs."""
    size, page = int(request.query.get("PageSize", 50)), int(request.query.get("Page", 0))
    start = size * page

    def url(number: int) -> str:
        query = {**request.query, "PageSize": size, "Page": number}
        return f"https://messaging.twilio.com{request.path}?{urlencode(query)}"

    meta = {
        "first_page_url": url(0),
        "key": key,
        "next_page_url": url(page + 1) if start + size < len(found) else None,
        "page": page,
        "page_size": size,
        "previous_page_url": url(page - 1) if page else None,
        "url": url(page),
    }
    return web.json_response({key: found[start : start + size], "meta": meta})
