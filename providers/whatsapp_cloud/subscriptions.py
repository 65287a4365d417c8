"""Whether Meta's webhooks come here, and with which fields.

https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview,
https://developers.facebook.com/docs/whatsapp/embedded-signup/webhooks/override.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pywa_async.api import GraphAPIAsync

from providers.base import SendError
from providers.checking import Findings, is_same_address, shown
from providers.whatsapp_cloud.templates import Ask
from providers.whatsapp_cloud.values import as_dict, ident, text_of

REQUIRED_FIELDS: Final = (
    "messages",
    "standby",
    "messaging_handovers",
    "user_preferences",
    "user_id_update",
    "account_update",
    "account_alerts",
    "security",
    "phone_number_quality_update",
    "message_template_status_update",
    "message_template_quality_update",
    "template_category_update",
)
"""Without one of these the hub misses messages, customers' wishes, or what becomes of numbers and templates."""
RECOMMENDED_FIELDS: Final = (
    "smb_message_echoes",
    "history",
    "calls",
    "business_capability_update",
    "message_template_components_update",
    "phone_number_name_update",
    "account_review_update",
)
"""Of use where the number is also in the phone app, takes calls, or where its templates are kept elsewhere."""

_OBJECT: Final = "whatsapp_business_account"
_LEVELS: Final = ("phone_number", _OBJECT, "application")
"""Where a webhook's address may be set, the one that counts first."""


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Whose webhooks they are: the app as configured, the one the token is of, its secrets; and where they belong."""

    app_id: str | None
    token_app_id: str | None
    app_secrets: Sequence[str]
    callback_url: str | None


async def judge_webhooks(
    ask: Ask, webhooks: Webhooks, account: str | None, configured: Mapping[str, Any], findings: Findings
) -> None:
    """Ask for the app's subscriptions as far as they can be asked for, and judge them.

    `configured` is what the number says of its webhooks. Nothing is judged of what Meta did not answer.
    """
    apps = await _read_apps(ask, account) if account else None
    subscription = await _read_subscription(ask, webhooks)
    if apps is not None:
        judge_apps(apps, webhooks, account or "", findings)
    if subscription is not None:
        judge_fields(subscription, findings)
    elif webhooks.app_id is None:
        findings.facts["webhook_fields"] = f"unknown: set PARTYLINE_META_APP_ID{_suggested(webhooks)}"
    else:
        findings.facts["webhook_fields"] = "unknown: Meta did not answer for this app id and these app secrets"
    if webhooks.callback_url is not None:
        address = _effective(configured, apps or [], subscription, webhooks)
        judge_address(address, webhooks.callback_url, findings)


def judge_apps(apps: Sequence[Mapping[str, Any]], webhooks: Webhooks, account: str, findings: Findings) -> None:
    """Whether the app hears of the business account at all."""
    ours = webhooks.app_id or webhooks.token_app_id
    names = [ident(app.get("name")) or ident(app.get("id")) or "?" for app in apps]
    if names:
        findings.facts["subscribed_apps"] = ", ".join(names)
    is_there = any(ident(app.get("id")) == ours for app in apps) if ours else bool(apps)
    findings.judge("fields_missing")
    if not is_there:
        findings.found(
            "fields_missing",
            f"The app is not subscribed to the business account {account}, so that nothing is sent here: "
            f"POST /{account}/subscribed_apps with the access token.",
        )


def judge_fields(subscription: Mapping[str, Any], findings: Findings) -> None:
    """Whether the app is subscribed to all fields that the hub reads."""
    names = _names(subscription)
    findings.judge("fields_missing")
    findings.facts["webhook_fields"] = ", ".join(sorted(names)) or "none"
    if optional := [name for name in RECOMMENDED_FIELDS if name not in names]:
        findings.facts["webhook_fields_optional"] = ", ".join(optional)
    where = "subscribe the app to them (App Dashboard, WhatsApp, Configuration)"
    missing = [name for name in REQUIRED_FIELDS if name not in names]
    if "messages" in missing:
        findings.found(
            "fields_missing",
            "Customers' messages and statuses are not sent here: the field messages is missing. "
            f"Missing in all: {', '.join(missing)}; {where}.",
        )
    elif missing:
        findings.found("fields_missing", f"Webhook fields are missing: {', '.join(missing)}; {where}.")
    if subscription.get("active") is False:
        findings.found("fields_missing", "The app's webhook subscription is not active: verify its callback URL again.")


def judge_address(found: str | None, wanted: str, findings: Findings) -> None:
    """Whether webhooks come here; not judged where it was not told."""
    if not found:
        return
    findings.judge("webhook_elsewhere")
    findings.facts["webhook_url"] = shown(found)
    if not is_same_address(found, wanted):
        findings.found(
            "webhook_elsewhere",
            f"Meta sends the webhooks of this number to {shown(found)}, not to {wanted}: "
            "change the callback URL there, or PARTYLINE_PUBLIC_URL here.",
        )


def _effective(
    configured: Mapping[str, Any],
    apps: Sequence[Mapping[str, Any]],
    subscription: Mapping[str, Any] | None,
    webhooks: Webhooks,
) -> str | None:
    """Where messages' webhooks go: the number's own address, else its account's, else the app's."""
    for level in _LEVELS:
        if url := text_of(configured.get(level)):
            return url
    ours = webhooks.app_id or webhooks.token_app_id
    overrides = [text_of(app.get("override")) for app in apps if ours and ident(app.get("id")) == ours]
    return next((url for url in overrides if url), None) or text_of(as_dict(subscription).get("callback_url"))


def _names(subscription: Mapping[str, Any]) -> set[str]:
    fields = subscription.get("fields")
    listed = fields if isinstance(fields, list) else []
    return {name for field in listed if (name := text_of(as_dict(field).get("name")) or text_of(field))}


def _suggested(webhooks: Webhooks) -> str:
    return f"={webhooks.token_app_id}" if webhooks.token_app_id else ""


async def _read_apps(ask: Ask, account: str) -> list[dict[str, Any]] | None:
    """The apps that get the account's webhooks: `id`, `name`, and `override`, the address that replaces theirs."""
    try:
        listed = as_dict(await ask(lambda api: api.get_waba_subscribed_apps(account))).get("data")
    except SendError:
        return None
    if not isinstance(listed, list):
        return None
    known = [(as_dict(as_dict(item).get("whatsapp_business_api_data")), as_dict(item)) for item in listed]
    return [{**app, "override": item.get("override_callback_uri")} for app, item in known]


async def _read_subscription(ask: Ask, webhooks: Webhooks) -> dict[str, Any] | None:
    """What the app is subscribed to of business accounts: an empty object for nothing, None where it is not told.

    Only the app itself is told, which proves itself by one of its secrets.
    """
    if webhooks.app_id is None:
        return None
    for secret in webhooks.app_secrets:
        headers = {"Authorization": f"Bearer {webhooks.app_id}|{secret}"}

        def read(api: GraphAPIAsync, headers: Mapping[str, str] = headers) -> Awaitable[Any]:
            return api.send_raw_request("GET", f"/{webhooks.app_id}/subscriptions", headers=headers)

        try:
            listed = as_dict(await ask(read)).get("data")
        except SendError:
            continue
        if isinstance(listed, list):
            found = [as_dict(item) for item in listed if as_dict(item).get("object") == _OBJECT]
            return found[0] if found else {}
    return None
