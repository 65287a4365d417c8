"""Which spellings of an address are one customer (rule B8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.addresses import Address, is_e164, phone_key

SAME = [
    ("+5511987654321", "+551187654321"),  # Brazil: the ninth digit
    ("+5521996543210", "+552196543210"),
    ("+5585991234567", "+558591234567"),
    ("+5491123456789", "+541123456789"),  # Argentina: the 9 of mobiles
    ("+5492214567890", "+542214567890"),
    ("+5215512345678", "+525512345678"),  # Mexico: the 1 until 2019
    ("+5213312345678", "+523312345678"),
]

DIFFERENT = [
    ("+5511932654321", "+551132654321"),  # Brazil: a mobile and a land line, not each other's variant
    ("+5511923456789", "+551123456789"),
    ("+5511952345678", "+551152345678"),
    ("+5511987654321", "+5521987654321"),  # another area
    ("+5491123456789", "+5491123456780"),
    ("+5215512345678", "+5215512345679"),
    ("+15512345678", "+525512345678"),
    ("+4915112345678", "+49151123456789"),
    ("+9511987654321", "+951187654321"),  # Myanmar is not Brazil
    ("+549112345678", "+54112345678"),  # too short for Argentina
    ("+521551234567", "+52551234567"),  # and for Mexico
    ("+5501987654321", "+550187654321"),  # no Brazilian area starts with 0
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_b8_variants_of_one_number_have_one_key(one: str, other: str) -> None:
    assert phone_key(one) == phone_key(other)
    assert Address("phone", one).match_key == Address("phone", other).match_key


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_b8_two_subscribers_never_share_a_key(one: str, other: str) -> None:
    assert phone_key(one) != phone_key(other)


@pytest.mark.parametrize("number", ["+551132654321", "+541143211234", "+525512345678", "+15551234567", "+4930123456"])
def test_b8_land_lines_and_other_countries_stay_as_they_are(number: str) -> None:
    assert phone_key(number) == number


@given(st.from_regex(r"\A\+[1-9][0-9]{6,14}\Z"))
def test_b8_a_key_is_a_number_and_its_own_key(number: str) -> None:
    key = phone_key(number)
    assert is_e164(key)
    assert phone_key(key) == key or key.startswith("+55")


@given(st.from_regex(r"\A\+(55|54|52)[0-9]{8,11}\Z"), st.from_regex(r"\A\+(55|54|52)[0-9]{8,11}\Z"))
def test_b8_equal_keys_end_in_the_same_eight_digits(one: str, other: str) -> None:
    if phone_key(one) == phone_key(other):
        assert one[-8:] == other[-8:]
        assert one[:3] == other[:3]


@pytest.mark.parametrize("kind", ["user_id", "parent_user_id", "username", "email", "sender_id"])
@pytest.mark.parametrize("value", ["+5511987654321", "5215512345678", "US.5511987654321", "BR.+5511987654321"])
def test_b8_only_phones_are_treated_as_numbers(kind: str, value: str) -> None:
    assert Address(kind, value).match_key == value  # type: ignore[arg-type]


def test_b8_the_reported_form_is_kept() -> None:
    assert Address("phone", "+5215512345678").value == "+5215512345678"


@pytest.mark.parametrize("text", ["+15550001111", "+4930123", "+123456789012345"])
def test_e164(text: str) -> None:
    assert is_e164(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "+", "15550001111", "+0155500011", "+123456", "+1234567890123456", "+1555000111x", "+15550001111\n",
        " +15550001111", "+1 555 000 1111", "+١٥٥٥٠٠٠١١١١", "US.1349",
    ],
)  # fmt: skip
def test_what_is_no_e164(text: str) -> None:
    assert not is_e164(text)
