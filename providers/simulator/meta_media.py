"""Media of customers at Meta: the look-up by id, and the download from another host with the same token.

https://developers.facebook.com/docs/whatsapp/cloud-api/reference/media.
"""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from providers.simulator.ledger import Ledger
from providers.simulator.media_shelf import InboundFile, MediaShelf
from providers.simulator.meta_answers import no_such_node

DOWNLOAD_PATH: Final = "/whatsapp_business/attachments/"
_VALID: Final = 300
"""Seconds a download's address can be used."""


class MetaMedia:
    """What Graph tells of a file, and the host that serves it."""

    def __init__(self, ledger: Ledger, shelf: MediaShelf, is_ours: Callable[[str], bool]) -> None:
        self._ledger = ledger
        self._shelf = shelf
        self._is_ours = is_ours

    def lookup(self, request: web.Request, media_id: str) -> web.Response:
        """Answer `GET /{media-id}`."""
        file = self._shelf.find(media_id)
        if file is None:
            return no_such_node(media_id, status=404 if media_id in self._shelf.files else 400)
        file.lookups += 1
        self._ledger.changed()
        fault = self._shelf.fault_at_lookup()
        is_wrong = fault is not None and fault.kind == "wrong_size"
        found = {
            "url": fault.url if fault is not None and fault.kind == "address" else self._address(request, file),
            "mime_type": file.mime_type,
            "sha256": file.sha256,
            "file_size": len(file.content) + (1000 if is_wrong else 0),
            "id": file.id,
            "messaging_product": "whatsapp",
        }
        return web.json_response(found)

    async def download(self, request: web.Request) -> web.StreamResponse:
        """Answer the address that a look-up gave; only with the access token, and for five minutes."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or not self._is_ours(token):
            return web.Response(status=401)
        file = self._shelf.find(request.query.get("mid", ""))
        if file is None or int(request.query.get("ext", "0")) < self._ledger.clock():
            return web.Response(status=404)
        return await self._shelf.serve(request, file)

    def _address(self, request: web.Request, file: InboundFile) -> str:
        until = int(self._ledger.clock()) + _VALID
        query = {"mid": file.id, "ext": str(until), "hash": file.sha256[:40]}
        return str(request.url.origin().with_path(DOWNLOAD_PATH).with_query(query))
