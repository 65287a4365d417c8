"""From an element of `user_preferences` to an item."""

from typing import Any, Final

from providers.base import Item, PreferenceChanged
from providers.whatsapp_cloud.batch import Change
from providers.whatsapp_cloud.people import SUBJECT, customer_of
from providers.whatsapp_cloud.values import text_of, unix_time

_MARKETING: Final = "marketing_messages"
_WANTS: Final = {"stop": False, "resume": True}


def read_preference(preference: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """A customer's choice in WhatsApp's settings (rule E5). What is not about marketing is kept, not guessed at."""
    category, value = text_of(preference.get("category")), text_of(preference.get("value"))
    wants = _WANTS.get((value or "").lower())
    if category != _MARKETING or wants is None:
        return change.unparsed("unhandled_field", change.field, "user_preferences", preference)
    return PreferenceChanged(
        key=change.item_key(preference),
        sender=change.sender,
        customer=customer_of(preference, SUBJECT, change.contacts),
        at=unix_time(preference.get("timestamp")),
        wants_marketing=wants,
        cleaned=is_cleaned,
    )
