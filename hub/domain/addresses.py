"""Addresses of customers: which spellings are the same person (rule B8)."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from hub.domain.phone_forms import phone_key, variants

__all__ = ["MATCHED_TYPES", "Address", "AddressType", "is_e164", "is_user_id", "phone_key", "sending_form", "variants"]

AddressType = Literal["phone", "user_id", "parent_user_id", "username", "email", "sender_id"]
MATCHED_TYPES: Final = ("user_id", "phone", "sender_id")
"""Types a customer is found by, the strongest first."""

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_USER_ID: Final = re.compile(r"[A-Z]{2}\.[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Address:
    """One way to reach or know a customer; `value` is the form that was reported."""

    type: AddressType
    value: str

    @property
    def match_key(self) -> str:
        """Equal for every form of the same address; user ids are never treated as numbers."""
        return phone_key(self.value) if self.type == "phone" else self.value


def is_e164(text: str) -> bool:
    """Whether this is a number in international form: a plus and 7 to 15 digits."""
    return _E164.fullmatch(text) is not None


def is_user_id(text: str) -> bool:
    """Whether this has the form of WhatsApp's business-scoped ids: a country, a point and more."""
    return _USER_ID.fullmatch(text) is not None


def sending_form(reported: Address, sends_to: str | None) -> Address:
    """Where messages go: the form that was seen to work, as long as it is one of the number the customer is reported
    with.
    """
    is_form = sends_to is not None and reported.type == "phone" and phone_key(sends_to) == phone_key(reported.value)
    return Address("phone", sends_to) if sends_to and is_form else reported
