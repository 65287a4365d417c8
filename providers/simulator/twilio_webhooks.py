"""Forms as Twilio posts them.

https://www.twilio.com/docs/messaging/guides/webhook-request. Names may repeat and values may be blank, so a form is a
list of pairs, in Twilio's arbitrary order.
"""

from collections.abc import Mapping
from typing import Any

from providers.simulator.ledger import Medium, Number, Person

Pairs = list[tuple[str, str]]

_MEDIA_URL = "https://api.twilio.com/2010-04-01/Accounts/{account}/Messages/{message}/Media/{media}"
_MEDIA_KINDS = ("image", "video", "audio", "document", "sticker")


def message(
    number: Number,
    person: Person,
    content: Mapping[str, Any],
    *,
    medium: Medium,
    account_sid: str,
    sid: str,
    reply_to: str | None = None,
) -> Pairs:
    """An inbound message; `content` is Meta's form of a text, media, location or tapped button.

    Raises `ValueError` for a type that Twilio does not hand on.
    """
    fields = {
        "ToCountry": "US",
        "SmsMessageSid": sid,
        "NumMedia": "0",
        "ToCity": "",
        "SmsSid": sid,
        "SmsStatus": "received",
        "Body": "",
        "MessagingServiceSid": number.messaging_service,
        "To": _prefixed(number.e164, medium),
        "NumSegments": "1",
        "MessageSid": sid,
        "AccountSid": account_sid,
        "From": _prefixed(person.phone or person.user_id or "", medium),
        "ApiVersion": "2010-04-01",
    }
    if medium == "whatsapp":
        fields |= _whatsapp(number, person, reply_to)
    fields |= _content(content, account_sid, sid)
    return [(name, value) for name, value in fields.items() if value is not None]


def status(
    name: str,
    *,
    number: Number,
    to: str,
    medium: Medium,
    account_sid: str,
    sid: str,
    error_code: int | None = None,
) -> Pairs:
    """A status callback."""
    fields = {
        "SmsSid": sid,
        "SmsStatus": name,
        "MessageStatus": name,
        "ChannelToAddress": f"+{to[1:4]}XXXX" if medium == "whatsapp" and to.startswith("+") else None,
        "To": _prefixed(to, medium),
        "MessagingServiceSid": number.messaging_service,
        "MessageSid": sid,
        "AccountSid": account_sid,
        "From": _prefixed(number.e164, medium),
        "ApiVersion": "2010-04-01",
        "ErrorCode": None if error_code is None else str(error_code),
    }
    return [(key, value) for key, value in fields.items() if value is not None]


def _whatsapp(number: Number, person: Person, reply_to: str | None) -> dict[str, str | None]:
    return {
        "ProfileName": person.name or "",
        "ProfileUsername": person.username,
        "WaId": person.phone.removeprefix("+") if person.phone else None,
        "ExternalUserId": person.user_id,
        "ParentExternalUserId": person.parent_user_id,
        "Forwarded": "false",
        "OriginalRepliedMessageSid": reply_to,
        "OriginalRepliedMessageSender": _prefixed(number.e164, "whatsapp") if reply_to else None,
    }


def _content(content: Mapping[str, Any], account_sid: str, sid: str) -> dict[str, str | None]:
    kind = content["type"]
    value = content[kind]
    if kind == "text":
        return {"MessageType": "text", "Body": value["body"]}
    if kind in _MEDIA_KINDS:
        url = _MEDIA_URL.format(account=account_sid, message=sid, media=f"ME{value['id']}")
        body = value.get("caption", "")
        return {"Body": body, "NumMedia": "1", "MediaUrl0": url, "MediaContentType0": value["mime_type"]}
    if kind == "location":
        return {
            "MessageType": "location",
            "Latitude": str(value["latitude"]),
            "Longitude": str(value["longitude"]),
            "Label": value.get("name"),
            "Address": value.get("address"),
        }
    if kind == "button":
        return {"Body": value["text"], "ButtonText": value["text"], "ButtonPayload": value["payload"]}
    raise ValueError(f"Twilio hands on no {kind}")


def _prefixed(address: str, medium: Medium) -> str:
    return f"whatsapp:{address}" if medium == "whatsapp" else address
