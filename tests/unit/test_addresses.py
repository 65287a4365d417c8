"""Which spellings of an address are one customer (rule B8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.addresses import Address, is_e164, phone_key, sending_form, variants

SAME = [
    ("+5511987654321", "+551187654321"),  # Brazil: the ninth digit
    ("+5521996543210", "+552196543210"),
    ("+5585991234567", "+558591234567"),
    ("+5491123456789", "+541123456789"),  # Argentina: the 9 of mobiles
    ("+5492214567890", "+542214567890"),
    ("+5215512345678", "+525512345678"),  # Mexico: the 1 until 2019
    ("+5213312345678", "+523312345678"),
    ("+5511912345678", "+55011912345678"),  # a trunk prefix that somebody kept
    ("+55011987654321", "+551187654321"),
    ("+54111523456789", "+5491123456789"),  # Argentina: the 15 of mobiles at home
    ("+540111523456789", "+541123456789"),
    ("+54221154567890", "+5492214567890"),
    ("+54296615412345", "+5492966412345"),
    ("+520445512345678", "+5215512345678"),  # Mexico: what was dialled at home
    ("+52015512345678", "+525512345678"),
    ("+22507123456", "+2250707123456"),  # Ivory Coast: ten digits since 2021, by operator
    ("+22545123456", "+2250545123456"),
    ("+22501123456", "+2250101123456"),
    ("+22997123456", "+2290197123456"),  # Benin: ten digits since 2024
    ("+4401632960123", "+441632960123"),  # (0) kept
    ("+4407700900123", "+447700900123"),
    ("+49015112345678", "+4915112345678"),
    ("+330612345678", "+33612345678"),
    ("+3606201234567", "+36201234567"),
    ("+789161234567", "+79161234567"),
    ("+112125551234", "+12125551234"),
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
    ("+2250507123456", "+22507123456"),  # Ivory Coast: an old number got its own operator's digits
    ("+2250507123456", "+2250707123456"),
    ("+22590123456", "+2250190123456"),  # and some kept their eight
    ("+390612345678", "+39612345678"),  # Italian numbers do begin with 0
    ("+242061234567", "+24261234567"),  # Congolese, too
    ("+78005553535", "+7005553535"),  # and Russian ones with 8
    ("+375802912345", "+37502912345"),
    ("+441632960123", "+44441632960123"),
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
    assert phone_key(key) == key


@given(st.from_regex(r"\A\+([1-9][0-9]{6,14}|(55|54|52|225|229|44|49|7|1)[0-9]{7,12})\Z"))
def test_b8_every_form_of_a_number_has_its_key_and_the_same_forms(number: str) -> None:
    forms = variants(number)
    assert forms[0] == number
    assert len(set(forms)) == len(forms) <= 3
    for form in forms:
        assert phone_key(form) == phone_key(number)
        assert set(variants(form)) <= set(forms)


@pytest.mark.parametrize(
    ("number", "others"),
    [
        ("+5511987654321", ["+551187654321"]),
        ("+551187654321", ["+5511987654321"]),
        ("+55011987654321", ["+5511987654321", "+551187654321"]),
        ("+5511912345678", []),  # given out after the ninth digit came: there was no such number before
        ("+551132654321", []),
        ("+5491123456789", ["+541123456789"]),
        ("+541123456789", ["+5491123456789"]),
        ("+54111523456789", ["+5491123456789", "+541123456789"]),
        ("+5215512345678", ["+525512345678"]),
        ("+525512345678", ["+5215512345678"]),
        ("+22507123456", ["+2250707123456"]),
        ("+2250707123456", ["+22507123456"]),
        ("+2250507123456", []),  # this one is new
        ("+2290197123456", ["+22997123456"]),
        ("+4401632960123", ["+441632960123"]),
        ("+441632960123", []),
        ("+4915112345678", []),
        ("+15551234567", []),
        ("+999123456789", []),
    ],
)
def test_b8_the_forms_of_a_number(number: str, others: list[str]) -> None:
    assert variants(number) == (number, *others)


@pytest.mark.parametrize(
    ("reported", "sends_to", "goes_to"),
    [
        ("+551187654321", None, "+551187654321"),
        ("+551187654321", "+5511987654321", "+5511987654321"),
        ("+5511987654321", "+5511987654321", "+5511987654321"),
        ("+551187654322", "+5511987654321", "+551187654322"),  # they have another number now
    ],
)
def test_b8_the_form_that_works_is_used_while_it_is_one_of_the_number(
    reported: str, sends_to: str | None, goes_to: str
) -> None:
    assert sending_form(Address("phone", reported), sends_to) == Address("phone", goes_to)


def test_b8_an_id_has_one_form() -> None:
    assert sending_form(Address("user_id", "BR.5511987654321"), "+5511987654321").value == "BR.5511987654321"


@given(st.from_regex(r"\A\+(55|54|52)[0-9]{8,11}\Z"), st.from_regex(r"\A\+(55|54|52)[0-9]{8,11}\Z"))
def test_b8_equal_keys_end_in_the_same_digits(one: str, other: str) -> None:
    if phone_key(one) == phone_key(other):
        assert one[-6:] == other[-6:]
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
