"""Reading the addresses that somebody declares: a clear fault for what is none, and nothing comes of it."""

import re
import unicodedata
from collections.abc import Collection
from typing import Final

import phonenumbers

from hub.domain.addresses import Address, is_e164, phone_key
from hub.domain.errors import Fault, Invalid

PHONE_MEDIA: Final = ("sms", "whatsapp")
MEDIA: Final = (*PHONE_MEDIA, "email", "tracking")
"""What a declaration may agree to: to be written to on its phone or its email; tracking, on both."""

_NO: Final = r"\s@<>\"(),:;\\\x00-\x1f\x7f-\x9f"
_EMAIL: Final = re.compile(rf"[^{_NO}]{{1,64}}@[^{_NO}.]+(\.[^{_NO}.]+)+")
_EMAIL_MAX: Final = 254


def parse_phone(text: str, region: str | None) -> Address | None:
    """A phone number in any usual spelling, national ones as in `region` (ISO 3166, as "DE"); None: not one.

    Letters (vanity numbers, extensions) are refused: what is written to must be what was meant.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    if any(character.isalpha() for character in text.removeprefix("tel:")):
        return None
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    # A form that is dialled no more may be the one that a customer is reported with.
    is_whole = any(map(_is_possible, (e164, phone_key(e164))))
    return Address("phone", e164) if is_whole and not number.extension and is_e164(e164) else None


def _is_possible(e164: str) -> bool:
    number = phonenumbers.parse(e164)
    return phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE


def parse_email(text: str) -> Address | None:
    """An email address, in small letters; None: not one."""
    text = unicodedata.normalize("NFC", text.strip()).lower()
    usable = len(text) <= _EMAIL_MAX and _EMAIL.fullmatch(text) is not None
    return Address("email", text) if usable else None


def read_declared(
    email: str | None, phone: str | None, region: str | None, consents: Collection[str] = (), *, is_named: bool = False
) -> tuple[Address | None, Address | None]:
    """The email and phone of a declaration; `is_named`: it says in another way, too, whom it is about. Raises `Invalid`
    with every fault, and nothing is to be created then.
    """
    faults = []
    addresses = parse_email(email) if email else None, parse_phone(phone, region) if phone else None
    if email and addresses[0] is None:
        faults.append(Fault("/email", "invalid_email", "is no email address: write it as name@example.com"))
    if phone and addresses[1] is None:
        sentence = "is no phone number that can be read: write it with its country code, as +4915112345678"
        faults.append(Fault("/phone", "invalid_phone", sentence))
    if not email and not phone and not is_named:
        faults.append(Fault("", "nothing_declared", "give an email, a phone, or both"))
    faults += [
        Fault("/consents", "no_address", f"{medium} is no medium of an address given here")
        for medium in consents
        if not _has_address(medium, email, phone)
    ]
    if faults:
        raise Invalid("This says of nobody who they are (rules I1 to I7).", errors=faults)
    return addresses


def _has_address(medium: str, email: str | None, phone: str | None) -> bool:
    match medium:
        case "email":
            return bool(email)
        case "tracking":
            return bool(email or phone)
    return medium in PHONE_MEDIA and bool(phone)
