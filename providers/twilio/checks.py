"""How a sender is by Twilio's account, and where what customers write to it goes.

https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource,
https://www.twilio.com/docs/messaging/api/service-resource, https://www.twilio.com/docs/whatsapp/api/senders.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twilio.rest import Client

from providers.base import Refused, SenderCheck, SenderProbe
from providers.checking import Findings, is_same_address, of_refusal, shown

Ask = Callable[[Callable[[Client], Awaitable[Any]]], Awaitable[Any]]

SANDBOX: Final = "+14155238886"
"""Twilio's number to try WhatsApp with: everybody's, and in nobody's list."""

_MAX_SERVICES: Final = 50
_MAX_MEMBERS: Final = 400
_MAX_SENDERS: Final = 500
_ASKED_MEMBERS: Final = 10
_QUALITY: Final = {"HIGH": None, "MEDIUM": "quality_low", "LOW": "quality_red"}
_RESTRICTED: Final = frozenset({"63020", "63051", "63112"})
"""Why a WhatsApp sender is offline where the account is at fault."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """Where something says that customers' messages go."""

    of: str
    url: str | None
    method: str | None


async def check(ask: Ask, sender: SenderProbe, callback_urls: Sequence[str]) -> SenderCheck:
    """What Twilio answers about a sender; its webhooks belong to the first of `callback_urls`, any of them will do.

    Raises `SendError` where it cannot be asked.
    """
    findings = Findings()
    try:
        await _check_account(ask, sender, findings)
        if sender.external_id.startswith("MG"):
            await _check_service(ask, sender.external_id, callback_urls, findings)
        elif sender.medium == "whatsapp":
            await _check_whatsapp(ask, sender, callback_urls, findings)
        elif sender.external_id.startswith("+"):
            await _check_number(ask, sender.external_id, callback_urls, findings)
        elif sender.external_id.isascii() and sender.external_id.isdigit():
            await _check_short_code(ask, sender.external_id, callback_urls, findings)
    except Refused as error:
        return of_refusal(error, "Twilio")
    return findings.result()


def judge_inbound(inbound: Inbound, wanted: Sequence[str], findings: Findings) -> None:
    """Whether customers' messages come here, by POST."""
    findings.judge("webhook_elsewhere")
    cure = f"set {wanted[0]} there, by POST, or change PARTYLINE_PUBLIC_URL here."
    if not inbound.url:
        findings.found(
            "webhook_elsewhere", f"Twilio drops what customers write: {inbound.of} has no URL for it; {cure}"
        )
        return
    findings.facts["webhook_url"] = shown(inbound.url)
    if not any(is_same_address(inbound.url, url) for url in wanted):
        findings.found(
            "webhook_elsewhere", f"What customers write goes to {shown(inbound.url)} by {inbound.of}: {cure}"
        )
    elif (inbound.method or "POST").upper() != "POST":
        findings.found("webhook_elsewhere", f"Twilio calls the hub by {inbound.method}, as {inbound.of} says: {cure}")


def judge_whatsapp(sender: Any, wanted: Sequence[str], findings: Findings) -> None:
    """What Twilio's resource of a WhatsApp sender says."""
    status = str(sender.status or "").upper()
    findings.judge("sender_not_registered", "account_restricted")
    if status == "OFFLINE":
        reasons = [_mapping(reason) for reason in sender.offline_reasons or ()]
        is_restricted = any(str(reason.get("code")) in _RESTRICTED for reason in reasons)
        said = "; ".join(str(reason.get("message") or reason.get("code")) for reason in reasons) or "no reason given"
        code = "account_restricted" if is_restricted else "sender_not_registered"
        findings.found(code, f"The WhatsApp sender is offline: {said[:300]}.")
    elif not status.startswith("ONLINE"):
        detail = f"The WhatsApp sender is {status.lower() or 'in no state'}: finish its registration at Twilio."
        findings.found("sender_not_registered", detail)
    _judge_quality(_mapping(sender.properties), findings)
    name = str(getattr(sender, "pending_display_name_status", None) or "").upper()
    findings.judge("name_declined")
    if name == "DECLINED":
        findings.found("name_declined", "Meta declined the display name: choose another one for the WhatsApp sender.")
    findings.facts["status"] = status.lower()
    webhook = _mapping(sender.webhook)
    url, method = webhook.get("callback_url"), webhook.get("callback_method")
    judge_inbound(Inbound("the WhatsApp sender", _text(url), _text(method)), wanted, findings)


def _judge_quality(properties: Mapping[str, Any], findings: Findings) -> None:
    quality = str(properties.get("quality_rating") or "").upper()
    if quality in _QUALITY:
        findings.judge("quality_low", "quality_red")
    if code := _QUALITY.get(quality):
        detail = f"WhatsApp rates the quality of this sender as {quality.lower()}: send less that was not asked for."
        findings.found(code, detail)
    told = {"quality": properties.get("quality_rating"), "messaging_limit": properties.get("messaging_limit")}
    findings.facts |= {name: str(value).lower() for name, value in told.items() if value}


async def _check_account(ask: Ask, sender: SenderProbe, findings: Findings) -> None:
    """Raises `Refused`: also where the account is suspended, which is all there is to say then."""
    account = await ask(lambda client: client.api.accounts(client.account_sid).fetch_async())
    findings.judge("token_revoked")
    findings.facts["account_status"] = status = str(account.status or "").lower()
    if status in ("suspended", "closed"):
        raise Refused("account_restricted", status)
    if status == "active" and sender.medium == "sms":
        findings.judge("account_restricted")


async def _check_number(ask: Ask, e164: str, wanted: Sequence[str], findings: Findings) -> None:
    found = await ask(lambda client: client.incoming_phone_numbers.list_async(phone_number=e164, limit=20))
    number = next((item for item in found if item.phone_number == e164), None)
    findings.judge("sender_not_registered")
    if number is None:
        detail = f"The Twilio account has no number {e164}: check the sender's external_id, or the account."
        findings.found("sender_not_registered", detail)
        return
    if _mapping(number.capabilities).get("sms") is False:
        findings.found("sender_not_registered", "The number cannot send SMS: take one at Twilio that can.")
    service = await _service_of(ask, number.sid)
    if service is not None:
        findings.facts["messaging_service"] = service.sid
    if service is None or service.use_inbound_webhook_on_number:
        judge_inbound(await _of_number(ask, number), wanted, findings)
    else:
        judge_inbound(_of_service(service), wanted, findings)


async def _check_short_code(ask: Ask, code: str, wanted: Sequence[str], findings: Findings) -> None:
    found = await ask(lambda client: client.short_codes.list_async(short_code=code, limit=20))
    number = next((item for item in found if item.short_code == code), None)
    findings.judge("sender_not_registered")
    if number is None:
        findings.found("sender_not_registered", "The Twilio account has no such short code: check external_id.")
        return
    judge_inbound(Inbound("the short code", number.sms_url, number.sms_method), wanted, findings)


async def _check_service(ask: Ask, sid: str, wanted: Sequence[str], findings: Findings) -> None:
    findings.judge("sender_not_registered")
    try:
        service = await ask(lambda client: client.messaging.v1.services(sid).fetch_async())
    except Refused as error:
        if error.code != "not_found":
            raise
        findings.found("sender_not_registered", "The Twilio account has no such messaging service: check external_id.")
        return
    if not service.use_inbound_webhook_on_number:
        judge_inbound(_of_service(service), wanted, findings)
        return
    for member in (await _members(ask, sid))[:_ASKED_MEMBERS]:
        number = await ask(_fetch_number(member.sid))
        judge_inbound(await _of_number(ask, number), wanted, findings)


async def _check_whatsapp(ask: Ask, sender: SenderProbe, wanted: Sequence[str], findings: Findings) -> None:
    address = sender.external_id.removeprefix("whatsapp:")
    if address == SANDBOX:
        findings.facts["sender"] = "unknown: this is Twilio's sandbox"
        return
    try:
        found = await ask(
            lambda client: client.messaging.v2.channels_senders.list_async(channel="whatsapp", limit=_MAX_SENDERS)
        )
        sids = [item.sid for item in found if item.sender_id == f"whatsapp:{address}"]
        fetched = [await ask(_fetch_whatsapp(sid)) for sid in sids[:1]]
    except Refused as error:
        if error.code == "token_revoked":
            raise
        findings.facts["sender"] = "unknown: Twilio does not show this account its WhatsApp senders"
        return
    if not fetched and len(found) >= _MAX_SENDERS:
        findings.facts["sender"] = f"unknown: it is not among the account's first {_MAX_SENDERS} WhatsApp senders"
        return
    if not fetched:
        detail = f"The Twilio account has no WhatsApp sender {address}: check external_id, or register it there."
        findings.found("sender_not_registered", detail)
        return
    judge_whatsapp(fetched[0], wanted, findings)


def _fetch_number(sid: str) -> Callable[[Client], Awaitable[Any]]:
    return lambda client: client.incoming_phone_numbers(sid).fetch_async()


def _fetch_whatsapp(sid: str) -> Callable[[Client], Awaitable[Any]]:
    return lambda client: client.messaging.v2.channels_senders(sid).fetch_async()


async def _service_of(ask: Ask, number_sid: str) -> Any | None:
    """The messaging service that a number is in: it decides where the number's messages go."""
    for service in await ask(lambda client: client.messaging.v1.services.list_async(limit=_MAX_SERVICES)):
        if any(member.sid == number_sid for member in await _members(ask, service.sid)):
            return service
    return None


async def _members(ask: Ask, service: str) -> Sequence[Any]:
    """The phone numbers of a messaging service."""
    try:
        members = await ask(
            lambda client: client.messaging.v1.services(service).phone_numbers.list_async(
                limit=_MAX_MEMBERS, page_size=_MAX_MEMBERS
            )
        )
    except Refused as error:
        if error.code != "not_found":
            raise
        return []  # deleted meanwhile
    return list(members)


def _of_service(service: Any) -> Inbound:
    return Inbound(f"the messaging service {service.sid}", service.inbound_request_url, service.inbound_method)


async def _of_number(ask: Ask, number: Any) -> Inbound:
    """What a number says itself; an application that it names goes before its own URL."""
    if not number.sms_application_sid:
        return Inbound(f"the number {number.phone_number}", number.sms_url, number.sms_method)
    sid = number.sms_application_sid
    application = await ask(lambda client: client.applications(sid).fetch_async())
    return Inbound(f"the application {sid}", application.sms_url, application.sms_method)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
