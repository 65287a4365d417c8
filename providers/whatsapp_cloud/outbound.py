"""What the hub asks to send, in Meta's words (rule E10).

Pure: the hub has checked the content already, so that these look only for what would make a request senseless. Meta's
limits (lengths, counts) are Meta's to enforce: its answer says which.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from providers.base import OutboundMedia, OutboundMessage, Refused

Json = dict[str, Any]
Content = Mapping[str, Any]
Body = Json | tuple[Json, ...]
"""The part of a request that is named after the message's type."""


def body_of(message: OutboundMessage) -> Body:
    """The body of any type in `TYPES`. Raises `Refused` (`invalid_content`, `unsupported_type`)."""
    build = _BUILDERS.get(message.type)
    if build is None:
        raise Refused("unsupported_type", f"{message.type} over {message.medium}")
    return build(message)


def text_at(content: Content, name: str) -> str:
    """A text that must be there. Raises `Refused`."""
    value = content.get(name)
    if not isinstance(value, str) or not value:
        raise Refused("invalid_content", f"{name} is missing")
    return value


def object_at(content: Content, name: str) -> Content:
    """An object that must be there. Raises `Refused`."""
    value = content.get(name)
    if not isinstance(value, Mapping):
        raise Refused("invalid_content", f"{name} is missing")
    return value


def objects_at(content: Content, name: str) -> Sequence[Content]:
    """A list of objects with at least one in it. Raises `Refused`."""
    value = content.get(name)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(part, Mapping) for part in value):
        raise Refused("invalid_content", f"{name} must be a list of objects")
    return value


def texts_of(content: Content, *names: str) -> Json:
    """Those of the named texts that are there."""
    return {name: content[name] for name in names if isinstance(content.get(name), str) and content[name]}


def _text(message: OutboundMessage) -> Body:
    body: Json = {"body": text_at(message.content, "text")}
    if isinstance(message.content.get("preview_url"), bool):
        body["preview_url"] = message.content["preview_url"]
    return body


def _media(message: OutboundMessage) -> Body:
    if len(message.media) != 1:
        raise Refused("invalid_content", f"{message.type} takes one file")
    file = message.media[0]
    body = _file(file)
    caption = message.content.get("text")
    if caption and (not isinstance(caption, str) or message.type not in _CAPTIONED):
        raise Refused("invalid_content", f"{message.type} takes no text")
    if caption:
        body["caption"] = caption
    if file.filename and message.type == "document":
        body["filename"] = file.filename
    return body


def _file(file: OutboundMedia) -> Json:
    if file.provider_id:
        return {"id": file.provider_id}
    if file.url:
        return {"link": file.url}
    raise Refused("invalid_content", "the file has neither an id nor a URL")


def _template(message: OutboundMessage) -> Body:
    template = object_at(message.content, "template")
    body: Json = {"name": text_at(template, "name"), "language": {"code": text_at(template, "language")}}
    if template.get("components"):
        body["components"] = [dict(part) for part in objects_at(template, "components")]
    return body


def _interactive(message: OutboundMessage) -> Body:
    content = object_at(message.content, "interactive")
    kind = content.get("type")
    build = _ACTIONS.get(kind) if isinstance(kind, str) else None
    if build is None:
        raise Refused("invalid_content", "interactive.type must be buttons, list or cta_url")
    body: Json = {"type": "button" if kind == "buttons" else kind, "body": {"text": text_at(content, "text")}}
    if header := texts_of(content, "header"):
        body["header"] = {"type": "text", "text": header["header"]}
    if footer := texts_of(content, "footer"):
        body["footer"] = {"text": footer["footer"]}
    return body | {"action": build(content)}


def _buttons(content: Content) -> Json:
    buttons = objects_at(content, "buttons")
    return {"buttons": [{"type": "reply", "reply": _choice(button)} for button in buttons]}


def _list(content: Content) -> Json:
    sections = [
        texts_of(section, "title")
        | {"rows": [_choice(row) | texts_of(row, "description") for row in objects_at(section, "rows")]}
        for section in objects_at(content, "sections")
    ]
    return {"button": text_at(content, "button"), "sections": sections}


def _cta_url(content: Content) -> Json:
    parameters = {"display_text": text_at(content, "title"), "url": text_at(content, "url")}
    return {"name": "cta_url", "parameters": parameters}


def _choice(choice: Content) -> Json:
    return {"id": text_at(choice, "id"), "title": text_at(choice, "title")}


def _location(message: OutboundMessage) -> Body:
    place = object_at(message.content, "location")
    body: Json = {name: place.get(name) for name in ("latitude", "longitude")}
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in body.values()):
        raise Refused("invalid_content", "location needs latitude and longitude as numbers")
    return body | texts_of(place, "name", "address")


def _contacts(message: OutboundMessage) -> Body:
    return tuple(dict(contact) for contact in objects_at(message.content, "contacts"))


def _reaction(message: OutboundMessage) -> Body:
    reaction = object_at(message.content, "reaction")
    emoji = reaction.get("emoji")
    if emoji is not None and not isinstance(emoji, str):
        raise Refused("invalid_content", "reaction.emoji must be a text, or null to take the reaction back")
    return {"message_id": text_at(reaction, "provider_id"), "emoji": emoji or ""}


_CAPTIONED: Final = frozenset({"image", "video", "document"})
_ACTIONS: Final[Mapping[str, Callable[[Content], Json]]] = {"buttons": _buttons, "list": _list, "cta_url": _cta_url}
_BUILDERS: Final[Mapping[str, Callable[[OutboundMessage], Body]]] = {
    "text": _text,
    **dict.fromkeys(("image", "video", "audio", "document", "sticker"), _media),
    "template": _template,
    "interactive": _interactive,
    "location": _location,
    "contacts": _contacts,
    "reaction": _reaction,
}

TYPES: Final = frozenset(_BUILDERS)
"""What can be sent: the types of the events contract, which are also Meta's own names."""
