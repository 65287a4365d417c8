"""How a number is by Meta's account, and what the app gets to hear where.

https://developers.facebook.com/docs/graph-api/reference/whats-app-business-account-to-number-current-status,
https://developers.facebook.com/docs/whatsapp/cloud-api/health-status,
https://developers.facebook.com/docs/graph-api/reference/app/subscriptions.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pywa_async.api import GraphAPIAsync

from providers.base import Refused, SenderCheck, SenderProbe, SendError
from providers.checking import Findings, of_refusal
from providers.whatsapp_cloud.subscriptions import Webhooks, judge_webhooks
from providers.whatsapp_cloud.templates import Ask, find_account
from providers.whatsapp_cloud.values import as_dict, ident, text_of

CORE: Final = (
    "display_phone_number",
    "verified_name",
    "quality_rating",
    "status",
    "name_status",
    "code_verification_status",
    "platform_type",
    "throughput",
    "messaging_limit_tier",
)
MORE: Final = ("whatsapp_business_manager_messaging_limit", "health_status", "webhook_configuration", "is_pin_enabled")
"""Fields that not every version of the Graph API has: it refuses the whole request for one it does not know."""
SCOPES: Final = ("whatsapp_business_messaging", "whatsapp_business_management")
"""Permissions of the token: to send, and to be told of numbers and templates."""

_QUALITY: Final = {"GREEN": None, "YELLOW": "quality_low", "RED": "quality_red"}
_STATUS: Final = {
    "CONNECTED": None,
    "BANNED": "account_restricted",
    "RESTRICTED": "limit_reached",
    "RATE_LIMITED": "throttled",
    **dict.fromkeys(
        ("DELETED", "DISCONNECTED", "MIGRATED", "OFFLINE", "PENDING", "UNVERIFIED"), "sender_not_registered"
    ),
}
"""Meta's word for a number's state -> the problem it is. FLAGGED is of its quality, which has a field of its own. None
of them tells that the account is not restricted, or that nothing is throttled.
"""
_NAMES_IN_ORDER: Final = ("APPROVED", "AVAILABLE_WITHOUT_REVIEW", "PENDING_REVIEW", "NON_EXISTS", "NONE")
_UNPAID: Final = 141006
"""What `health_status` says of a business without a valid means of payment."""
_SENTENCES: Final = {
    "quality_low": "Customers block or report this number: its quality is medium. Send less that was not asked for.",
    "quality_red": "Customers block or report this number much: its quality is low, and Meta may lower its limit. "
    "Stop campaigns until it is better.",
    "account_restricted": "Meta has banned this number: see Business Support Home, and appeal there.",
    "limit_reached": "The number has reached its messaging limit: until the 24 hours are over only customers who write "
    "can be answered.",
    "throttled": "Meta says that this number sends too fast.",
    "sender_not_registered": "The number is not connected to the Cloud API: register it in the WhatsApp Manager.",
}


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """With what Meta is asked: the access token, the app and its secrets, and where its webhooks belong."""

    access_token: str
    app_id: str | None
    app_secrets: tuple[str, ...]
    callback_url: str | None


async def check(ask: Ask, settings: CheckSettings, sender: SenderProbe) -> SenderCheck:
    """What Meta answers about a number. Raises `SendError` where it cannot be asked."""
    findings = Findings()
    try:
        number = await _read_number(ask, sender.external_id)
    except Refused as error:
        return of_refusal(error, "Meta")
    judge_number(number, findings)
    token = await _read_token(ask, settings.access_token)
    judge_token(token, findings)
    account = sender.account or await _account(ask, settings.access_token, sender.external_id)
    if account:
        findings.facts["account"] = account
    webhooks = Webhooks(settings.app_id, ident(token.get("app_id")), settings.app_secrets, settings.callback_url)
    await judge_webhooks(ask, webhooks, account, as_dict(number.get("webhook_configuration")), findings)
    return findings.result()


def judge_number(number: Mapping[str, Any], findings: Findings) -> None:
    """What Meta's object of a phone number says."""
    findings.judge("token_revoked")
    quality, status = _upper(number, "quality_rating"), _upper(number, "status")
    if quality in _QUALITY:
        findings.judge("quality_low", "quality_red")
        _raise(findings, _QUALITY[quality])
    elif status == "FLAGGED":
        findings.judge("quality_red")
        _raise(findings, "quality_red")
    if status in _STATUS or status == "FLAGGED":
        findings.judge("sender_not_registered", "limit_reached")
        _raise(findings, _STATUS.get(status))
    if _upper(number, "platform_type") in ("NOT_APPLICABLE", "ON_PREMISE"):
        _raise(findings, "sender_not_registered")
    _judge_name(_upper(number, "name_status"), findings)
    if isinstance(number.get("is_pin_enabled"), bool):
        findings.judge("two_step_pin_off")
        if not number["is_pin_enabled"]:
            findings.found("two_step_pin_off", "Two-step verification is off: set a PIN in the WhatsApp Manager.")
    _judge_health(as_dict(number.get("health_status")), findings)
    _add_facts(number, findings)


def judge_token(token: Mapping[str, Any], findings: Findings) -> None:
    """What `/debug_token` says of the access token; nothing where it was not answered."""
    scopes = token.get("scopes")
    if not isinstance(scopes, list):
        return
    findings.judge("permission_missing")
    if missing := [scope for scope in SCOPES if scope not in scopes]:
        detail = f"The access token lacks {' and '.join(missing)}: make one with both for the system user."
        findings.found("permission_missing", detail)
    if app_id := ident(token.get("app_id")):
        findings.facts["app_id"] = app_id


def _judge_name(name_status: str, findings: Findings) -> None:
    if name_status == "DECLINED":
        findings.found("name_declined", "Meta declined the display name: choose another one in the WhatsApp Manager.")
    elif name_status in _NAMES_IN_ORDER:
        findings.judge("name_declined")


def _judge_health(health: Mapping[str, Any], findings: Findings) -> None:
    """Of all that a message from the number passes (number, business account, business, app): what is blocked."""
    entities = health.get("entities")
    if not isinstance(entities, list):
        return
    findings.judge("account_restricted", "payment_required")
    for entity in map(as_dict, entities):
        if _upper(entity, "can_send_message") != "BLOCKED":
            continue
        errors = entity.get("errors")
        for error in map(as_dict, errors if isinstance(errors, list) and errors else [{}]):
            code = "payment_required" if ident(error.get("error_code")) == str(_UNPAID) else "account_restricted"
            findings.found(code, _blocked(entity, error))
    if word := text_of(health.get("can_send_message")):
        findings.facts["can_send"] = word.lower()


def _blocked(entity: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    kind = (text_of(entity.get("entity_type")) or "part").replace("_", " ").lower()
    said = [text_of(error.get(name)) for name in ("error_description", "possible_solution")]
    return " ".join([f"Meta blocks messages at the {kind}.", *(part for part in said if part)])[:500]


def _add_facts(number: Mapping[str, Any], findings: Findings) -> None:
    limit = number.get("whatsapp_business_manager_messaging_limit") or number.get("messaging_limit_tier")
    told = {
        "quality": number.get("quality_rating"),
        "messaging_limit": limit,
        "status": number.get("status"),
        "name_status": number.get("name_status"),
        "code_verification": number.get("code_verification_status"),
        "platform": number.get("platform_type"),
        "throughput": as_dict(number.get("throughput")).get("level"),
    }
    findings.facts |= {name: value.lower() for name, value in told.items() if isinstance(value, str) and value}
    if name := text_of(number.get("verified_name")):
        findings.facts["verified_name"] = name


def _raise(findings: Findings, code: str | None) -> None:
    if code is not None:
        findings.found(code, _SENTENCES[code])


def _upper(value: Mapping[str, Any], name: str) -> str:
    return (text_of(value.get(name)) or "").upper()


async def _read_number(ask: Ask, number: str) -> dict[str, Any]:
    """The number with as many fields as this version of the API has. Raises `SendError`."""

    def fields(names: tuple[str, ...]) -> Awaitable[Any]:
        return ask(lambda api: api.get_business_phone_number(number, fields=names))

    try:
        return as_dict(await fields(CORE + MORE))
    except Refused as error:
        if error.code != "invalid_content":
            raise
    return as_dict(await fields(CORE))


async def _read_token(ask: Ask, access_token: str) -> dict[str, Any]:
    """What Meta says of the token; nothing where it does not."""

    def inspect(api: GraphAPIAsync) -> Awaitable[Any]:
        return api.send_raw_request("GET", "/debug_token", params={"input_token": access_token})

    try:
        return as_dict(as_dict(await ask(inspect)).get("data"))
    except SendError:
        return {}


async def _account(ask: Ask, access_token: str, number: str) -> str | None:
    try:
        return await find_account(ask, number, access_token)
    except SendError:
        return None
