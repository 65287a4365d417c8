"""Twilio's request parameters: reading them, and who is at the other end."""

import json
import re
from typing import Any, Final

import orjson

from providers.base import Customer, Medium

Params = dict[str, str]

_WHATSAPP: Final = "whatsapp:"
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
# A plus that was not encoded arrives as a space.
_PHONE: Final = re.compile(r"[+ ]([1-9][0-9]{6,14})")
_USER_ID: Final = re.compile(r"[A-Z]{2}\.[A-Za-z0-9._-]+")
"""WhatsApp's business-scoped ids, such as `US.1349`."""


def settle(text: str) -> str:
    """The text without NUL and lone surrogates, which PostgreSQL and UTF-8 cannot hold."""
    return _UNSTORABLE.sub("", text)


def read_json(body: bytes) -> tuple[Params, str | None]:
    """The parameters of a JSON body as texts, and what is wrong where there are none."""
    try:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = json.loads(body)
        if not isinstance(document, dict):
            return {}, "unexpected_shape"
        return {name: _as_text(value) for name, value in document.items() if value is not None}, None
    except (ValueError, RecursionError):
        return {}, "invalid_json"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def canonical(params: Params) -> bytes:
    """The same bytes for equal parameters in any order (rule B4)."""
    return orjson.dumps(params, option=orjson.OPT_SORT_KEYS)


def medium_of(params: Params) -> Medium:
    """WhatsApp's addresses carry a prefix, and only WhatsApp has user ids."""
    if params.get("ExternalUserId") or any(_is_whatsapp(params.get(side)) for side in ("From", "To")):
        return "whatsapp"
    return "sms"


def bare_address(address: str | None) -> str:
    """The address without WhatsApp's prefix, a phone number always with its plus; empty where there is none."""
    bare = (address or "")[len(_WHATSAPP) :] if _is_whatsapp(address) else address or ""
    phone = _PHONE.fullmatch(bare)
    return f"+{phone[1]}" if phone else bare.strip()


def customer_of(params: Params, side: str) -> Customer:
    """The customer at that side of the message. A `whatsapp:US.123` is a user id, never a phone number."""
    address = bare_address(params.get(side))
    user_id = bare_address(params.get("ExternalUserId"))
    is_phone = _PHONE.fullmatch(address) is not None
    is_user_id = not is_phone and _is_whatsapp(params.get(side)) and _USER_ID.fullmatch(address) is not None
    return Customer(
        phone=address if is_phone else None,
        user_id=user_id or (address if is_user_id else None),
        parent_user_id=bare_address(params.get("ParentExternalUserId")) or None,
        username=params.get("ProfileUsername") or None,
        sender_id=address or None if not is_phone and not is_user_id else None,
        name=params.get("ProfileName") or None,
    )


def _is_whatsapp(address: str | None) -> bool:
    return address is not None and address[: len(_WHATSAPP)].lower() == _WHATSAPP
