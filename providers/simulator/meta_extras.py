"""The Graph API beside its messages: uploads, templates, and what the token may do.

https://developers.facebook.com/docs/whatsapp/cloud-api/reference/media,
https://developers.facebook.com/docs/graph-api/reference/whats-app-business-account.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from providers.simulator.ledger import Ledger, Number
from providers.simulator.meta_answers import Handler, error, no_such_node, page
from providers.simulator.meta_media import DOWNLOAD_PATH, MetaMedia
from providers.simulator.meta_nodes import APP_ID, MetaNodes

_TEMPLATES: Final[Sequence[Mapping[str, Any]]] = (
    {
        "name": "order_update",
        "language": "en",
        "status": "APPROVED",
        "category": "UTILITY",
        "id": "900000000000001",
        "components": [
            {
                "type": "BODY",
                "text": "Your order {{1}} is on its way.",
                "example": {"body_text": [["4711"]]},
            }
        ],
    },
    {
        "name": "spring_sale",
        "language": "en",
        "status": "APPROVED",
        "category": "MARKETING",
        "id": "900000000000002",
        "components": [{"type": "BODY", "text": "Our spring sale has begun."}],
    },
    {
        "name": "lottery",
        "language": "en",
        "status": "REJECTED",
        "category": "MARKETING",
        "id": "900000000000003",
        "components": [{"type": "BODY", "text": "You have won!"}],
    },
)


@dataclass(frozen=True, slots=True)
class SimulatedUpload:
    """A file that Meta keeps for the number `sender` (its phone_number_id)."""

    provider_id: str
    sender: str
    mime_type: str
    filename: str
    content: bytes


class MetaExtras:
    """`templates` are as Graph lists them, the same for every business account; `media` holds the uploads by id.

    `scopes` are the permissions of the access token.
    """

    def __init__(
        self,
        ledger: Ledger,
        numbers: Mapping[str, Number],
        access_token: str,
        asked: Callable[[Handler], Handler],
        nodes: MetaNodes,
        inbound: MetaMedia,
    ) -> None:
        self._ledger = ledger
        self._numbers = numbers
        self._access_token = access_token
        self._asked = asked
        self._nodes = nodes
        self._inbound = inbound
        self.scopes: tuple[str, ...] = ("whatsapp_business_management", "whatsapp_business_messaging")
        self.is_revoked = False
        self.templates: list[Mapping[str, Any]] = list(_TEMPLATES)
        self.media: dict[str, SimulatedUpload] = {}

    def routes(self, version: str, node: str) -> list[web.RouteDef]:
        """What the server is to serve, under the patterns of the API's version and of an object in it."""
        return [
            web.post(f"{node}/media", self._asked(self._upload)),
            web.get(f"{version}/debug_token", self._asked(self._inspect)),
            web.get(f"{node}/message_templates", self._asked(self._list_templates)),
            web.get(f"{node}/phone_numbers", self._asked(self._list_numbers)),
            web.get(node, self._asked(self._describe)),
            web.get(DOWNLOAD_PATH, self._inbound.download),
            *self._nodes.routes(version, node, self._asked),
        ]

    async def _upload(self, request: web.Request) -> web.Response:
        sender = request.match_info["node"]
        form = await request.post()
        file, kind = form.get("file"), form.get("type")
        if sender not in self._numbers:
            return no_such_node(sender)
        if form.get("messaging_product") != "whatsapp" or not isinstance(kind, str):
            return error(400, 100, details="messaging_product or type is missing")
        if not isinstance(file, web.FileField) or not (content := file.file.read()):
            return error(400, 131053, details="The file is missing or empty")
        upload = SimulatedUpload(self._ledger.media_id(), sender, kind, file.filename, content)
        self.media[upload.provider_id] = upload
        self._ledger.changed()
        return web.json_response({"id": upload.provider_id})

    async def _inspect(self, request: web.Request) -> web.Response:
        """What the token itself was granted: both permissions, for every business account there is."""
        is_known = secrets.compare_digest(request.query.get("input_token", "").encode(), self._access_token.encode())
        if not is_known or self.is_revoked:
            return web.json_response({"data": {"error": {"code": 190}, "is_valid": False, "scopes": []}})
        accounts = list(dict.fromkeys(number.waba_id for number in self._numbers.values()))
        data = {
            "app_id": APP_ID,
            "type": "SYSTEM_USER",
            "is_valid": True,
            "scopes": [*self.scopes, "public_profile"],
            "granular_scopes": [{"scope": scope, "target_ids": accounts} for scope in self.scopes],
        }
        return web.json_response({"data": data})

    async def _list_templates(self, request: web.Request) -> web.Response:
        query = request.query
        found = [
            template
            for template in self.templates
            if all(query.get(name, template[name]) == template[name] for name in ("name", "status", "language"))
        ]
        return self._listing(request, found)

    async def _list_numbers(self, request: web.Request) -> web.Response:
        account = request.match_info["node"]
        return self._listing(request, self._nodes.numbers_of(account))

    def _listing(self, request: web.Request, items: Sequence[Mapping[str, Any]]) -> web.Response:
        account = request.match_info["node"]
        if all(account != number.waba_id for number in self._numbers.values()):
            return no_such_node(account)
        return page(request, items)

    async def _describe(self, request: web.Request) -> web.Response:
        node = request.match_info["node"]
        answer = self._nodes.describe(request, node)
        return self._inbound.lookup(request, node) if answer is None else answer
