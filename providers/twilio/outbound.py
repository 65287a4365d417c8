"""What the hub sends, as arguments of the SDK: to whom, from whom, and what (rule E10).

https://www.twilio.com/docs/messaging/api/message-resource, https://www.twilio.com/docs/whatsapp/message-features.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from providers.base import Medium, OutboundMessage, Refused

Arguments = dict[str, Any]

SUPPORTS: Final[Mapping[Medium, frozenset[str]]] = {
    "sms": frozenset({"text", "image", "video", "audio", "document", "template", "templates", "find_sent"}),
    "whatsapp": frozenset(
        {"text", "image", "video", "audio", "document", "location", "template", "templates", "find_sent", "typing"}
    ),
}
"""There are no read marks: Twilio marks a message as read only together with showing that somebody is typing."""

_MAX_MEDIA: Final[Mapping[Medium, int]] = {"sms": 10, "whatsapp": 1}


def arguments(message: OutboundMessage) -> Arguments:
    """Everything Twilio is to be told about a message, but for the callback. Raises `Refused` without asking it."""
    build = _CONTENTS.get(message.type)
    if build is None or message.type not in SUPPORTS[message.medium]:
        raise Refused("unsupported_type", f"{message.type} over {message.medium}")
    if message.content.get("reply_to"):
        raise Refused("unsupported_reply_to", "Twilio cannot quote a message")
    return addresses(message) | build(message)


def addresses(message: OutboundMessage) -> Arguments:
    """`to`, and `from_` or the messaging service; on WhatsApp numbers and user ids carry the channel's prefix."""
    to = message.user_id or message.phone
    if not to or (message.medium == "sms" and not message.phone):
        raise Refused("bad_recipient", f"no address for {message.medium}")
    prefix = "whatsapp:" if message.medium == "whatsapp" else ""
    target = {"to": f"{prefix}{to}"}
    if message.sender.startswith("MG"):
        return target | {"messaging_service_sid": message.sender}
    return target | {"from_": prefix + message.sender.removeprefix(prefix)}


def _text(message: OutboundMessage) -> Arguments:
    return {"body": _required_text(message.content.get("text"), "text")}


def _media(message: OutboundMessage) -> Arguments:
    """Twilio takes no files, it fetches them; the type of a file is what its URL answers with."""
    urls = [file.url for file in message.media if file.url]
    if not urls or len(urls) < len(message.media):
        raise Refused("invalid_content", "every file needs a URL that Twilio can fetch")
    if len(urls) > _MAX_MEDIA[message.medium]:
        raise Refused("invalid_content", f"at most {_MAX_MEDIA[message.medium]} files over {message.medium}")
    caption = message.content.get("text")
    return {"media_url": urls} | ({"body": _required_text(caption, "text")} if caption else {})


def _location(message: OutboundMessage) -> Arguments:
    """The body is the place's name, the label the line below it; without a name what is known stands in for it."""
    place = message.content.get("location")
    if not isinstance(place, Mapping):
        raise Refused("invalid_content", "location is missing")
    point = f"{_degrees(place, 'latitude', 90):.6f},{_degrees(place, 'longitude', 180):.6f}"
    name, address = place.get("name"), place.get("address")
    label = f"|{address}" if name and address else ""
    return {"body": str(name or address or point), "persistent_action": [f"geo:{point}{label}"]}


def _template(message: OutboundMessage) -> Arguments:
    template = message.content.get("template")
    if not isinstance(template, Mapping):
        raise Refused("invalid_content", "template is missing")
    variables = template.get("variables") or {}
    if not isinstance(variables, Mapping):
        raise Refused("invalid_content", "template.variables is not an object")
    chosen = {"content_sid": _required_text(template.get("content_sid"), "template.content_sid")}
    return chosen | ({"content_variables": orjson.dumps(dict(variables)).decode()} if variables else {})


def _required_text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise Refused("invalid_content", f"{name} is missing")
    return value


def _degrees(place: Mapping[str, Any], name: str, limit: int) -> float:
    value = place.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
        raise Refused("invalid_content", f"location.{name} is no number from -{limit} to {limit}")
    return value


_CONTENTS: Final[Mapping[str, Callable[[OutboundMessage], Arguments]]] = {
    "text": _text,
    "image": _media,
    "video": _media,
    "audio": _media,
    "document": _media,
    "location": _location,
    "template": _template,
}
"""What can be sent: the message's type -> the SDK's arguments for it."""
