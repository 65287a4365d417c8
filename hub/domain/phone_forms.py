"""The forms of one phone number: what WhatsApp reports, what carriers dial, what was dialled before (rule B8).

Forms are one number only where the numbering plan leaves no room for two subscribers: a digit that became optional or
was added for all, a trunk prefix no national number can begin with. The plans: https://www.itu.int/oth/T0202.aspx.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

import phonenumbers
from phonenumbers import ValidationResult

Match = re.Match[str]


@dataclass(frozen=True, slots=True)
class _Form:
    """A way to write some numbers of a plan, and the key it stands for."""

    pattern: re.Pattern[str]
    key: Callable[[Match], str]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Numbers that have more forms than one. `writes` makes them of a key that fits `keys`, the dialled one first."""

    forms: tuple[_Form, ...]
    keys: re.Pattern[str]
    writes: Callable[[Match], tuple[str, ...]]


def _form(pattern: str, key: str) -> _Form:
    return _Form(re.compile(pattern), lambda match: match.expand(key))


def _ivorian(match: Match) -> str:
    """The operator's prefix was put before; it was told by the second digit."""
    return f"+225{_ivorian_prefix(match[1][1])}{match[1]}"


def _ivorian_prefix(second: str) -> str:
    return "01" if second in "0123" else "05" if second in "456" else "07"


def _ivorian_forms(match: Match) -> tuple[str, ...]:
    is_old = _ivorian_prefix(match[2][1]) == match[1]
    return (match[0], f"+225{match[2]}") if is_old else (match[0],)


_OLD_IVORIAN: Final = r"((?:0[1-9]|4[0-9]|5[14-9]|6[015-79]|[78][4-9])[0-9]{6})"
_OLD_BENINESE: Final = r"([24-69][0-9]{7})"
_PLANS: Final = {
    # Brazil: mobiles got a leading 9, 2012 to 2016. Eight digits that start with 2 to 5 are land lines and have no such
    # twin; none started with 0 or 1. WhatsApp reports accounts outside the areas 11 to 28 without it.
    "55": _Plan(
        (_form(r"\+55([1-9][1-9])9([016-9][0-9]{7})", r"+55\1\2"),),
        re.compile(r"\+55([1-9][1-9])([6-9][0-9]{7})"),
        lambda match: (f"+55{match[1]}9{match[2]}", match[0]),
    ),
    # Argentina: mobiles carry a 9 after the country code in international form, and a 15 after the area code at home.
    "54": _Plan(
        (
            _form(r"\+549([0-9]{10})", r"+54\1"),
            _form(r"\+54(?=[0-9]{12}$)((?:11|[23][0-9]{2,3}))15([0-9]{6,8})", r"+54\1\2"),
        ),
        re.compile(r"\+54([1-3][0-9]{9})"),
        lambda match: (f"+549{match[1]}", match[0]),
    ),
    # Mexico: WhatsApp keeps the 1 that mobiles carried until 2019; 01, 044 and 045 were dialled at home.
    "52": _Plan(
        (_form(r"\+52(?:1|01|04[45])([0-9]{10})", r"+52\1"),),
        re.compile(r"\+52([2-9][0-9]{9})"),
        lambda match: (match[0], f"+521{match[1]}"),
    ),
    # Ivory Coast: mobiles got their operator's two digits on 31 January 2021; WhatsApp knows older accounts by both.
    "225": _Plan(
        (_Form(re.compile(r"\+225" + _OLD_IVORIAN), _ivorian),),
        re.compile(r"\+225(0[157])" + _OLD_IVORIAN),
        _ivorian_forms,
    ),
    # Benin: every number got 01 on 30 November 2024.
    "229": _Plan(
        (_form(r"\+229" + _OLD_BENINESE, r"+22901\1"),),
        re.compile(r"\+22901" + _OLD_BENINESE),
        lambda match: (match[0], f"+229{match[1]}"),
    ),
}
_COUNTRIES: Final = frozenset(map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE))


@lru_cache(maxsize=10_000)
def phone_key(e164: str) -> str:
    """What all forms of one phone number have in common: a number itself, its own key."""
    country = _country(e164)
    e164 = _without_trunk_prefix(e164, country)
    for form in _PLANS[country].forms if country in _PLANS else ():
        if match := form.pattern.fullmatch(e164):
            return form.key(match)
    return e164


def variants(e164: str) -> tuple[str, ...]:
    """All forms of a number, this one first, then those that are the likeliest to reach its subscriber."""
    country, key = _country(e164), phone_key(e164)
    plan = _PLANS.get(country)
    match = plan.keys.fullmatch(key) if plan else None
    others = plan.writes(match) if plan and match else (_without_trunk_prefix(e164, country),)
    return tuple(dict.fromkeys((e164, *others)))


def _country(e164: str) -> str:
    """The country calling code; empty where there is none of it. None is the beginning of another."""
    return next((e164[1:end] for end in (2, 3, 4) if e164[1:end] in _COUNTRIES), "")


def _without_trunk_prefix(e164: str, country: str) -> str:
    """Without the prefix of calls at home that somebody kept, as in +44 (0)1632: where no number begins with it there,
    or none is so long, and what is left has the length of one.
    """
    national = e164[1 + len(country) :]
    if not country or national[:1] not in _FIRST:
        return e164
    prefix = _trunk_prefix(country)
    if not prefix or not national.startswith(prefix):
        return e164
    if prefix[0] != "0" and _length_of(country, national) == ValidationResult.IS_POSSIBLE:
        return e164
    left = national.removeprefix(prefix)
    is_whole = left[:1] not in {"", "0"} and _length_of(country, left) in _WHOLE.get(country, _POSSIBLE)
    return f"+{country}{left}" if is_whole else e164


_FIRST: Final = frozenset("018")
"""What trunk prefixes begin with."""
_POSSIBLE: Final = frozenset({ValidationResult.IS_POSSIBLE})
_WHOLE: Final = {"54": _POSSIBLE | {ValidationResult.TOO_LONG}}
"""Lengths of what may be left; in Argentina the 15 of mobiles may be, too."""


def _length_of(country: str, national: str) -> int:
    number = phonenumbers.PhoneNumber(country_code=int(country), national_number=int(national))
    return phonenumbers.is_possible_number_with_reason(number)


@cache
def _trunk_prefix(country: str) -> str | None:
    region = phonenumbers.region_code_for_country_code(int(country))
    return phonenumbers.ndd_prefix_for_region(region, True)
