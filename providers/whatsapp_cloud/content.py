"""What a message says: Meta's fields under the names of the events contract.

Each reader gets the message's own object (`message[type]`) and gives the content, or None where that object is not
what its type promises; such a message is passed on as `unsupported` with its raw JSON (rule B5).
"""

from collections.abc import Callable
from typing import Any, Final

from providers.whatsapp_cloud.values import errors_of, ident, inner_json, number_of, text_of

Content = dict[str, Any]

_MEDIA_FLAGS: Final = ("voice", "animated")


def read_content(kind: str, message: dict[str, Any]) -> Content | None:
    """The content of a message of this type; None if the type is unknown or its object of the wrong shape."""
    reader = _READERS.get(kind)
    if reader is None:
        return None
    body = message.get(kind)
    if body is None and kind == "voice":
        body = message.get("audio")
    return reader(body)


def add_surroundings(message: dict[str, Any], content: Content) -> None:
    """What goes along with any type: replies, forwarding, advertisements, errors."""
    context = message.get("context")
    if isinstance(context, dict):
        _add_context(context, content)
    if isinstance(message.get("referral"), dict):
        content["referral"] = message["referral"]
    if message.get("errors"):
        content["errors"] = errors_of(message["errors"])


def _add_context(context: dict[str, Any], content: Content) -> None:
    target, author = ident(context.get("id")), ident(context.get("from"))
    if target:
        content["reply_to"] = {"provider_id": target} | ({"from": author} if author else {})
    for flag in ("forwarded", "frequently_forwarded"):
        if context.get(flag) is True:
            content[flag] = True
    if isinstance(context.get("referred_product"), dict):
        content["referred_product"] = context["referred_product"]


def _text(body: Any) -> Content | None:
    text = body.get("body") if isinstance(body, dict) else None
    return {"text": text} if isinstance(text, str) else None


def _media(body: Any) -> Content | None:
    if not isinstance(body, dict):
        return None
    media: dict[str, Any] = {
        "id": ident(body.get("id")),
        "mime_type": text_of(body.get("mime_type")),
        "filename": text_of(body.get("filename")),
        "sha256": text_of(body.get("sha256")),
        "url": text_of(body.get("url")) or text_of(body.get("link")),
    }
    if not media["id"] and not media["url"]:
        return None
    flags = {flag: True for flag in _MEDIA_FLAGS if body.get(flag) is True}
    content: Content = {"media": [{name: value for name, value in media.items() if value is not None} | flags]}
    if isinstance(body.get("caption"), str):
        content["text"] = body["caption"]
    return content


def _location(body: Any) -> Content | None:
    if not isinstance(body, dict):
        return None
    place: dict[str, Any] = {name: number_of(body.get(name)) for name in ("latitude", "longitude")}
    place |= {name: body[name] for name in ("name", "address", "url") if isinstance(body.get(name), str)}
    return {"location": place}


def _contacts(body: Any) -> Content | None:
    return {"contacts": body} if isinstance(body, list) else None


def _button(body: Any) -> Content | None:
    if not isinstance(body, dict):
        return None
    return {"button": {"text": text_of(body.get("text")), "payload": text_of(body.get("payload"))}}


def _interactive(body: Any) -> Content | None:
    if not isinstance(body, dict):
        return None
    kind = body.get("type")
    if kind not in ("button_reply", "list_reply", "nfm_reply", "call_permission_reply"):
        return {"interactive": body}
    reply = body.get(kind)
    if not isinstance(reply, dict):
        return None
    if kind == "nfm_reply":
        return {"interactive": _flow_reply(reply)}
    return {"interactive": reply | {"type": kind}}


def _flow_reply(reply: dict[str, Any]) -> dict[str, Any]:
    """The answers of a flow come as a JSON text; one that does not parse is passed on as the text it is."""
    answers = reply.get("response_json")
    return {
        "type": "nfm_reply",
        "name": text_of(reply.get("name")),
        "body": text_of(reply.get("body")),
        "response": inner_json(answers) if isinstance(answers, str) else answers,
    }


def _order(body: Any) -> Content | None:
    return {"order": body} if isinstance(body, dict) else None


def _system(body: Any) -> Content | None:
    return {"system": body} if isinstance(body, dict) else None


def _nothing(_body: Any) -> Content:
    return {}


_READERS: Final[dict[str, Callable[[Any], Content | None]]] = {
    "text": _text,
    "image": _media,
    "video": _media,
    "audio": _media,
    "voice": _media,
    "document": _media,
    "sticker": _media,
    "location": _location,
    "contacts": _contacts,
    "button": _button,
    "interactive": _interactive,
    "order": _order,
    "system": _system,
    "request_welcome": _nothing,
}
