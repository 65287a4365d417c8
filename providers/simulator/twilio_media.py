"""Media of customers at Twilio: listed with their message, and a download that leads to another host.

https://www.twilio.com/docs/messaging/api/media-resource.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from providers.simulator.ledger import Ledger
from providers.simulator.media_shelf import MediaShelf
from providers.simulator.twilio_answers import Handler, error

_CDN: Final = "/twilio-cdn"

Resource = dict[str, Any]


class TwilioMedia:
    """`/Messages/{sid}/Media` of one account. The content is at an address that takes no credentials."""

    def __init__(self, ledger: Ledger, shelf: MediaShelf, account_sid: str, messages: Mapping[str, Resource]) -> None:
        self._ledger = ledger
        self._shelf = shelf
        self._account_sid = account_sid
        self._messages = messages
        self._listed: dict[str, list[Resource]] = {}

    def routes(self, base: str, asked: Callable[[Handler], Handler]) -> list[web.RouteDef]:
        """What the server is to serve; `base` is the account's path of messages."""
        one = base + r"/{message:\w+}/Media"
        return [
            web.get(f"{one}.json", asked(self._list)),
            web.get(one + r"/{sid:\w+}", asked(self._lead)),
            web.get(_CDN + r"/{sid:\w+}", self._serve),
        ]

    def add(self, message: str, media: Sequence[tuple[str, str]], at: str) -> None:
        """List the files of a message: their sids and types; `at` as RFC 2822 has it."""
        base = f"/2010-04-01/Accounts/{self._account_sid}/Messages/{message}/Media"
        self._listed[message] = [
            {
                "account_sid": self._account_sid,
                "content_type": mime_type,
                "date_created": at,
                "date_updated": at,
                "parent_sid": message,
                "sid": sid,
                "uri": f"{base}/{sid}.json",
            }
            for sid, mime_type in media
        ]

    async def _list(self, request: web.Request) -> web.Response:
        message = request.match_info["message"]
        if message not in self._messages:
            return error(404, 20404)
        found = self._listed.get(message, [])
        size, page = int(request.query.get("PageSize", 50)), int(request.query.get("Page", 0))
        start = size * page
        shown = found[start : start + size]
        path = request.path
        listing = {
            "media_list": shown,
            "page": page,
            "page_size": size,
            "start": start,
            "end": max(start, start + len(shown) - 1),
            "uri": f"{path}?PageSize={size}&Page={page}",
            "first_page_uri": f"{path}?PageSize={size}&Page=0",
            "next_page_uri": f"{path}?PageSize={size}&Page={page + 1}" if start + size < len(found) else None,
            "previous_page_uri": f"{path}?PageSize={size}&Page={page - 1}" if page else None,
        }
        return web.json_response(listing)

    async def _lead(self, request: web.Request) -> web.Response:
        sid = request.match_info["sid"]
        if self._shelf.find(sid) is None:
            return error(404, 20404)
        where = request.url.origin().with_path(f"{_CDN}/{sid}").with_query({"Signature": "simulated"})
        return web.Response(status=307, headers={"Location": str(where)})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            self._shelf.leaked += 1
            self._ledger.changed()
        file = self._shelf.find(request.match_info["sid"])
        return web.Response(status=404) if file is None else await self._shelf.serve(request, file)
