"""What a customer's message says: Twilio's parameters under the names of the events contract."""

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from providers.twilio.parameters import Params, bare_address, settle

Content = dict[str, Any]

_MEDIA_URL: Final = re.compile(r"MediaUrl(0|[1-9][0-9]{0,3})")
_COUNT: Final = re.compile(r"[0-9]{1,4}")
_MEDIA_SID: Final = re.compile(r"/Media/(ME[0-9a-f]{32})$")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_MAX_DEPTH: Final = 32
_MEDIA_TYPES: Final = ("image", "video", "audio")
_KNOWN_TYPES: Final = frozenset(
    {"", "text", "image", "video", "audio", "voice", "document", "sticker", "media", "location", "contacts", "button",
     "interactive"}
)  # fmt: skip
"""Values of `MessageType` whose content the other parameters carry."""


def read_content(params: Params) -> tuple[str, Content, str | None]:
    """The message's type, its content, and for a type nobody knows all parameters as they came (rule B5)."""
    content: Content = {"text": params["Body"]} if params.get("Body") else {}
    kinds = [kind for reader in _READERS if (kind := reader(params, content))]
    _add_surroundings(params, content)
    if params.get("MessageType", "").lower() not in _KNOWN_TYPES:
        return "unsupported", content, orjson.dumps(params).decode()
    if not kinds:
        content.setdefault("text", "")
    return (kinds or ["text"])[0], content, None


def _list_reply(params: Params, content: Content) -> str | None:
    if not params.get("ListId") and not params.get("ListTitle"):
        return None
    reply = {"id": params.get("ListId"), "title": params.get("ListTitle"), "description": params.get("ListDescription")}
    content["interactive"] = {"type": "list_reply"} | {name: value for name, value in reply.items() if value}
    return "interactive"


def _flow_reply(params: Params, content: Content) -> str | None:
    """The answers of a form come as JSON; what does not parse is passed on as the text it is."""
    answers = params.get("InteractiveData") or params.get("FlowData")
    if not answers or "interactive" in content:
        return None
    response = _inner_json(answers)
    is_whole = isinstance(response, dict) and isinstance(response.get("type"), str)
    content["interactive"] = response if is_whole else {"type": "nfm_reply", "response": response}
    return "interactive"


def _button(params: Params, content: Content) -> str | None:
    text, payload = params.get("ButtonText"), params.get("ButtonPayload")
    if not text and not payload:
        return None
    content["button"] = {"text": text, "payload": payload}
    return "button"


def _location(params: Params, content: Content) -> str | None:
    if not params.get("Latitude") and not params.get("Longitude"):
        return None
    place: dict[str, Any] = {"latitude": _number(params.get("Latitude")), "longitude": _number(params.get("Longitude"))}
    for name, parameter in (("name", "Label"), ("address", "Address")):
        if params.get(parameter):
            place[name] = params[parameter]
    content["location"] = place
    return "location"


def _media(params: Params, content: Content) -> str | None:
    indexes = sorted(int(match[1]) for name in params if (match := _MEDIA_URL.fullmatch(name)))
    if _COUNT.fullmatch(params.get("NumMedia", "")):
        indexes = [index for index in indexes if index < int(params["NumMedia"])]
    media = [_medium(params, index) for index in indexes if params[f"MediaUrl{index}"]]
    if not media:
        return None
    content["media"] = media
    major = media[0].get("mime_type", "").partition("/")[0]
    return major if major in _MEDIA_TYPES else "document"


def _medium(params: Params, index: int) -> dict[str, Any]:
    url, mime_type = params[f"MediaUrl{index}"], params.get(f"MediaContentType{index}")
    sid = _MEDIA_SID.search(url)
    known = {"id": sid[1] if sid else None, "mime_type": mime_type and mime_type.lower(), "url": url}
    return {name: value for name, value in known.items() if value}


_READERS: Final[tuple[Callable[[Params, Content], str | None], ...]] = (
    _list_reply,
    _flow_reply,
    _button,
    _location,
    _media,
)
"""All are asked; the first that finds something names the type."""


def _add_surroundings(params: Params, content: Content) -> None:
    target, author = params.get("OriginalRepliedMessageSid"), bare_address(params.get("OriginalRepliedMessageSender"))
    if target:
        content["reply_to"] = {"provider_id": target} | ({"from": author} if author else {})
    for flag, parameter in (("forwarded", "Forwarded"), ("frequently_forwarded", "FrequentlyForwarded")):
        if params.get(parameter, "").lower() == "true":
            content[flag] = True
    if params.get("OptOutType"):
        content["opt_out_type"] = params["OptOutType"]
    referral = {
        _snake(name.removeprefix("Referral")): value
        for name, value in params.items()
        if name.startswith("Referral") and value and name not in ("Referral", "ReferralNumMedia")
    }
    if referral:
        content["referral"] = referral


def _snake(name: str) -> str:
    return _HUMP.sub("_", name).lower()


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def _inner_json(text: str) -> Any:
    """What a JSON text says; the text itself if it does not parse, is too deep, or could not be stored."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return text
    return value if _is_storable(value, _MAX_DEPTH) else text


def _is_storable(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        return levels > 0 and all(settle(k) == k and _is_storable(v, levels - 1) for k, v in value.items())
    if isinstance(value, list):
        return levels > 0 and all(_is_storable(item, levels - 1) for item in value)
    return not isinstance(value, str) or settle(value) == value
