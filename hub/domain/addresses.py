"""Addresses of customers: which spellings are the same person (rule B8)."""

import re
from dataclasses import dataclass
from typing import Final, Literal

AddressType = Literal["phone", "user_id", "parent_user_id", "username", "email", "sender_id"]
MATCHED_TYPES: Final = ("user_id", "phone", "sender_id")
"""Types a customer is found by, the strongest first."""

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_USER_ID: Final = re.compile(r"[A-Z]{2}\.[A-Za-z0-9._-]{1,128}")
# Each pair: a form WhatsApp reports or carriers dial, and the short form both are matched by. Only digits that the
# numbering plan made optional are dropped, so that two subscribers never share a key.
_VARIANTS: Final = (
    # Brazil: mobiles got a leading 9. Eight digits that start with 2 to 5 are land lines and have no such twin.
    (re.compile(r"\+55([1-9][1-9])9([016-9][0-9]{7})"), r"+55\1\2"),
    # Argentina: mobiles carry a 9 after the country code in international form.
    (re.compile(r"\+549([0-9]{10})"), r"+54\1"),
    # Mexico: WhatsApp keeps the 1 that mobiles carried until 2019.
    (re.compile(r"\+521([0-9]{10})"), r"+52\1"),
)


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


def phone_key(e164: str) -> str:
    """What all variants of one phone number have in common (Brazil, Argentina, Mexico)."""
    for pattern, short in _VARIANTS:
        if pattern.fullmatch(e164):
            return pattern.sub(short, e164)
    return e164
