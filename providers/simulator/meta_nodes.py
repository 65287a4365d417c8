"""Meta's numbers, business accounts and app as objects of the Graph: how they are, and where their webhooks go.

https://developers.facebook.com/docs/graph-api/reference/whats-app-business-account-to-number-current-status,
https://developers.facebook.com/docs/graph-api/reference/application/subscriptions.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from providers.simulator.ledger import Number
from providers.simulator.meta_answers import Handler, chosen, error, no_such_node

APP_ID: Final = "100000000000009"
FIELDS: Final = (
    "messages",
    "message_template_status_update",
    "message_template_quality_update",
    "template_category_update",
    "message_template_components_update",
    "phone_number_quality_update",
    "phone_number_name_update",
    "account_update",
    "account_alerts",
    "account_review_update",
    "business_capability_update",
    "security",
    "user_preferences",
    "user_id_update",
    "smb_message_echoes",
    "smb_app_state_sync",
    "history",
    "standby",
    "messaging_handovers",
    "calls",
)
_NUMBER: Final[Mapping[str, Any]] = {
    "verified_name": "Simulated Business",
    "code_verification_status": "VERIFIED",
    "quality_rating": "GREEN",
    "platform_type": "CLOUD_API",
    "status": "CONNECTED",
    "name_status": "APPROVED",
    "messaging_limit_tier": "TIER_1K",
    "whatsapp_business_manager_messaging_limit": "TIER_1K",
    "account_mode": "LIVE",
    "is_official_business_account": False,
    "is_pin_enabled": True,
    "throughput": {"level": "STANDARD"},
}
_ACCOUNT: Final[Mapping[str, Any]] = {
    "name": "Simulated Account",
    "timezone_id": "1",
    "account_review_status": "APPROVED",
    "business_verification_status": "verified",
    "ownership_type": "SELF",
    "status": "ACTIVE",
}


class MetaNodes:
    """`number_fields` and `account_fields` say, by id, what differs from the usual; both may be changed at any time.

    `fields` are the webhook fields the app is subscribed to; with `callback_url` None its webhooks go to the hub.
    `subscribed` are the business accounts whose webhooks this app gets, `others` names of other apps that get them.
    """

    def __init__(self, numbers: Mapping[str, Number], app_secrets: Sequence[str]) -> None:
        self._numbers = numbers
        self._app_secrets = app_secrets
        self._accounts = {number.waba_id for number in numbers.values()}
        self.hub_callback: Callable[[], str] = lambda: ""
        self.number_fields: dict[str, dict[str, Any]] = {}
        self.account_fields: dict[str, dict[str, Any]] = {}
        self.fields: set[str] = set(FIELDS)
        self.callback_url: str | None = None
        self.is_active = True
        self.subscribed: set[str] = set(self._accounts)
        self.overrides: dict[str, str] = {}
        self.others: list[str] = []

    def routes(self, version: str, node: str, asked: Callable[[Handler], Handler]) -> list[web.RouteDef]:
        """What the server is to serve, under the patterns of the API's version and of an object in it."""
        return [
            web.get(f"{node}/subscribed_apps", asked(self._apps)),
            web.get(rf"{version}/{{node:\d+|app}}/subscriptions", self._subscriptions),
        ]

    def describe(self, request: web.Request, node: str) -> web.Response | None:
        """Answer for a number or an account; None where it is neither."""
        if node in self._numbers:
            known = self._number(self._numbers[node])
        elif node in self._accounts:
            known = {**_ACCOUNT, **self.account_fields.get(node, {}), "id": node}
            known.setdefault("health_status", self._health("WABA", node))
        elif node == APP_ID:
            known = {"id": APP_ID, "name": "Simulated App"}
        else:
            return None
        asked = [name.partition("{")[0] for name in request.query.get("fields", "").split(",") if name]
        unknown = next((name for name in asked if name not in known), None)
        if unknown is not None:
            return error(400, 100, details=f"Tried accessing nonexisting field ({unknown})")
        return web.json_response(chosen(request, known))

    def numbers_of(self, account: str) -> list[dict[str, Any]]:
        """The numbers of a business account, as Graph lists them."""
        return [self._number(known) for known in self._numbers.values() if known.waba_id == account]

    def is_app_token(self, token: str) -> bool:
        """Whether this is the app's own token: its id and one of its secrets."""
        app, _, secret = token.partition("|")
        matches = [secrets.compare_digest(secret.encode(), known.encode()) for known in self._app_secrets]
        return app == APP_ID and any(matches)

    def _number(self, number: Number) -> dict[str, Any]:
        node = number.phone_number_id or ""
        known = {**_NUMBER, "display_phone_number": number.e164, **self.number_fields.get(node, {}), "id": node}
        known.setdefault("health_status", self._health("PHONE_NUMBER", node))
        known.setdefault("webhook_configuration", self._webhooks(number))
        return known

    def _webhooks(self, number: Number) -> dict[str, str]:
        configured = {"application": self.callback_url or self.hub_callback()}
        named = {"whatsapp_business_account": number.waba_id, "phone_number": number.phone_number_id or ""}
        return configured | {level: self.overrides[node] for level, node in named.items() if node in self.overrides}

    def _health(self, kind: str, node: str) -> dict[str, Any]:
        entity = {"entity_type": kind, "id": node, "can_send_message": "AVAILABLE"}
        return {"can_send_message": "AVAILABLE", "entities": [entity]}

    async def _apps(self, request: web.Request) -> web.Response:
        account = request.match_info["node"]
        if account not in self._accounts:
            return no_such_node(account)
        apps = [(APP_ID, "Simulated App")] if account in self.subscribed else []
        apps += [(str(200000000000000 + place), name) for place, name in enumerate(self.others)]
        listed: list[dict[str, Any]] = []
        for app_id, name in apps:
            link = f"https://www.facebook.com/games/?app_id={app_id}"
            listed.append({"whatsapp_business_api_data": {"id": app_id, "link": link, "name": name}})
            if app_id == APP_ID and account in self.overrides:
                listed[-1]["override_callback_uri"] = self.overrides[account]
        return web.json_response({"data": listed})

    async def _subscriptions(self, request: web.Request) -> web.Response:
        header = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = request.query.get("access_token") or header
        if "|" not in token:
            return error(400, 15, details="This method must be called with an app access_token.")
        if not self.is_app_token(token):
            return error(400, 190, details="Error validating application. Invalid application ID.")
        if request.match_info["node"] not in (APP_ID, "app"):
            return no_such_node(request.match_info["node"])
        subscription = {
            "object": "whatsapp_business_account",
            "callback_url": self.callback_url or self.hub_callback(),
            "active": self.is_active,
            "fields": [{"name": name, "version": "v23.0"} for name in sorted(self.fields)],
        }
        return web.json_response({"data": [subscription] if self.fields else []})
