"""Twilio beside its messages: content templates with WhatsApp's verdicts, and the typing indicator.

https://www.twilio.com/docs/content/content-api-resources,
https://www.twilio.com/docs/whatsapp/api/typing-indicators-resource.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from providers.simulator.faults import misbehave
from providers.simulator.ledger import Ledger, ReadMark
from providers.simulator.twilio_answers import Handler, error, fault_error
from providers.simulator.twilio_checks import bare

Resource = dict[str, Any]
Guard = Callable[[web.Request], web.Response | None]

_CONTENTS = "/v1/ContentAndApprovals"


class TwilioExtras:
    """`/v1/ContentAndApprovals` and `/v2/Indicators/Typing`. `contents` is empty at first: then any is known."""

    def __init__(self, ledger: Ledger, account_sid: str, unauthorised: Guard, messages: Mapping[str, Resource]) -> None:
        self._ledger = ledger
        self._account_sid = account_sid
        self._unauthorised = unauthorised
        self._messages = messages
        self.contents: dict[str, Resource] = {}

    def routes(self) -> list[web.RouteDef]:
        """What the server is to serve."""
        return [
            web.get(_CONTENTS, self.asked(self._list)),
            web.post("/v2/Indicators/Typing.json", self.asked(self._typing)),
        ]

    def asked(self, answer: Handler) -> Handler:
        """With the credentials checked, and in touch with the faults of requests that send nothing."""

        async def handle(request: web.Request) -> web.Response:
            if (refusal := self._unauthorised(request)) is not None:
                return refusal
            async with self._ledger.asked() as fault:
                if fault is None:
                    return await answer(request)
                if fault.taken:
                    await answer(request)
                return await misbehave(fault, request, self._ledger.stopping, fault_error)

        return handle

    def add_content(
        self,
        name: str,
        *,
        language: str = "en",
        category: str | None = None,
        status: str = "unsubmitted",
        types: Mapping[str, Any] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Add a template and give its ContentSid; `category` and `status` are WhatsApp's, as Twilio spells them."""
        sid = self._ledger.sid("HX")
        at = datetime.fromtimestamp(self._ledger.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        approval = {
            "allow_category_change": True,
            "category": category or "",
            "content_type": next(iter(types or {"twilio/text": {}})),
            "flows": None,
            "name": name,
            "rejection_reason": "",
            "status": status,
        }
        self.contents[sid] = {
            "account_sid": self._account_sid,
            "approval_requests": approval,
            "date_created": at,
            "date_updated": at,
            "friendly_name": name,
            "language": language,
            "sid": sid,
            "types": dict(types or {"twilio/text": {"body": "Hello"}}),
            "variables": dict(variables or {}),
        }
        return sid

    async def _list(self, request: web.Request) -> web.Response:
        found = list(self.contents.values())
        size, page = int(request.query.get("PageSize", 50)), int(request.query.get("Page", 0))
        start = size * page
        meta = {
            "first_page_url": _url(size, 0),
            "key": "contents",
            "next_page_url": _url(size, page + 1) if start + size < len(found) else None,
            "page": page,
            "page_size": size,
            "previous_page_url": _url(size, page - 1) if page else None,
            "url": _url(size, page),
        }
        return web.json_response({"contents": found[start : start + size], "meta": meta})

    async def _typing(self, request: web.Request) -> web.Response:
        form = dict(parse_qsl(await request.text()))
        message = self._messages.get(form.get("messageId", ""))
        if form.get("channel") != "whatsapp":
            return error(400, 20001)
        if message is None or message["direction"] != "inbound" or not message["to"].startswith("whatsapp:"):
            return error(404, 20404)
        sender = bare(message["to"])
        self._ledger.mark(ReadMark("twilio", sender, message["sid"], is_typing=True, at=self._ledger.clock()))
        return web.json_response({"success": True})


def _url(size: int, page: int) -> str:
    return f"https://content.twilio.com{_CONTENTS}?{urlencode({'PageSize': size, 'Page': page})}"
