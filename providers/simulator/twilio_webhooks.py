"""Forms as Twilio posts them.

https://www.twilio.com/docs/messaging/guides/webhook-request. Names may repeat and values may be blank, so a form is a
list of pairs, in Twilio's arbitrary order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from providers.simulator.ledger import Medium, Number, Person
from providers.simulator.media_shelf import twilio_media_sid

Pairs = list[tuple[str, str]]
OptOut = Literal["STOP", "START", "HELP"]

API = "https://api.twilio.com"
_MEDIA_PATH = "/2010-04-01/Accounts/{account}/Messages/{message}/Media/{media}"
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
    opt_out: OptOut | None = None,
    more_media: Sequence[tuple[str, str]] = (),
    api_url: str = API,
) -> Pairs:
    """An inbound message; `content` is Meta's form of a text, media, location or tapped button.

    `opt_out` is there only with Advanced Opt-Out; `more_media` are further files of an MMS (id and type). `api_url` is
    where files are. Raises `ValueError` for a type that Twilio does not hand on.
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
    fields |= _content(content) | _referral(content) | {"OptOutType": opt_out}
    fields |= _files([*_file(content), *more_media], api_url, account_sid, sid)
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


def _file(content: Mapping[str, Any]) -> Pairs:
    """The file of a message that has one: its id and type."""
    kind = content["type"]
    return [(content[kind]["id"], content[kind]["mime_type"])] if kind in _MEDIA_KINDS else []


def _files(files: Sequence[tuple[str, str]], api_url: str, account_sid: str, sid: str) -> dict[str, str | None]:
    fields: dict[str, str | None] = {"NumMedia": str(len(files))}
    for place, (media_id, mime_type) in enumerate(files):
        path = _MEDIA_PATH.format(account=account_sid, message=sid, media=twilio_media_sid(media_id))
        fields |= {f"MediaUrl{place}": api_url + path, f"MediaContentType{place}": mime_type}
    return fields


def _referral(content: Mapping[str, Any]) -> dict[str, str | None]:
    referral = content.get("referral")
    if referral is None:
        return {}
    return {
        "ReferralBody": referral["body"],
        "ReferralHeadline": referral["headline"],
        "ReferralSourceId": referral["source_id"],
        "ReferralSourceType": referral["source_type"],
        "ReferralSourceUrl": referral["source_url"],
        "ReferralCtwaClid": referral["ctwa_clid"],
        "ReferralMediaUrl": referral["image_url"],
        "ReferralMediaContentType": "image/jpeg",
        "ReferralNumMedia": "1",
    }


def _content(content: Mapping[str, Any]) -> dict[str, str | None]:
    kind = content["type"]
    value = content[kind]
    if kind == "text":
        return {"MessageType": "text", "Body": value["body"]}
    if kind in _MEDIA_KINDS:
        return {"MessageType": kind, "Body": value.get("caption", "")}
    if kind == "location":
        return {
            "MessageType": "location",
            "Latitude": str(value["latitude"]),
            "Longitude": str(value["longitude"]),
            "Label": value.get("name"),
            "Address": value.get("address"),
        }
    if kind == "button":
        tap = {"ButtonText": value["text"], "ButtonPayload": value["payload"]}
        return {"MessageType": "button", "Body": value["text"], **tap}
    raise ValueError(f"Twilio hands on no {kind}")


def _prefixed(address: str, medium: Medium) -> str:
    return f"whatsapp:{address}" if medium == "whatsapp" else address
