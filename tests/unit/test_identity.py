"""Whose a declared address is: rules I1 to I7, merges, undo, and the rows of links.md's table about declarations."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from hub.domain import identity as i
from hub.domain.addresses import Address
from hub.domain.bindings import Bind, Flag, Retract, Trust
from hub.domain.declared import parse_email, parse_phone, read_declared
from hub.domain.errors import Invalid, Refusal
from hub.domain.merging import Merge, Operation, Side, check_undo, may_manage, merge
from hub.domain.profiles import Standing
from hub.domain.stitching import Link
from tests.support.identity_world import World

ANNA, NEW, BEN = "+4915111111111", "+4915199999999", "+4915122222222"
ANNA_MAIL, BEN_MAIL = "anna@example.com", "ben@example.com"
DAY = timedelta(days=1)
REVOKED = [("revoked", "sms"), ("revoked", "whatsapp"), ("revoked", "tracking")]


def pair(*contacts: UUID) -> frozenset[UUID]:
    return frozenset(contacts)


# Reading addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["+49 151 11111111", "0151 1111 1111", "0049-151-11111111", "(0151) 11111111", "+49 (0) 151 11111111",
     "tel:+4915111111111", "＋４９１５１１１１１１１１１"],
)  # fmt: skip
def test_every_spelling_of_a_number_is_the_same_number(text: str) -> None:
    assert parse_phone(text, "DE") == Address("phone", ANNA)


@pytest.mark.parametrize(
    "text",
    ["", " ", "12", "call me", "1-800-FLOWERS", "+4915111111111 ext. 5", "+999 123456789", "+49151111111111111111",
     "ben@example.com", "+", "0151\x0011111111x", "9" * 400],
)  # fmt: skip
def test_what_is_no_number_is_none(text: str) -> None:
    assert parse_phone(text, "DE") is None


def test_a_national_number_needs_a_region() -> None:
    assert parse_phone("0151 11111111", None) is None
    assert parse_phone("+49 151 11111111", None) == Address("phone", ANNA)
    for form in ("+5215541100005", "+22507123456", "+22997123456"):  # as customers are reported, and dialled no more
        assert parse_phone(form, None) == Address("phone", form)
    assert parse_phone("+22512345678", None) is None
    assert parse_phone("555-0123", "US") is None, "a local number could be anybody's"


@pytest.mark.parametrize(
    ("text", "email"),
    [
        (" Anna@Example.COM ", ANNA_MAIL),
        ("a+b@sub.example.co", "a+b@sub.example.co"),
        ("jörg@bücher.example", "jörg@bücher.example"),
        ("anna", None),
        ("anna@localhost", None),
        ("a b@example.com", None),
        ("a@b@example.com", None),
        ("a@example..com", None),
        ("a\x00@example.com", None),
        ("<a@example.com>", None),
        (f"{'a' * 65}@example.com", None),
        (f"a@{'b' * 250}.com", None),
    ],
)
def test_emails(text: str, email: str | None) -> None:
    assert parse_email(text) == (Address("email", email) if email else None)


@pytest.mark.parametrize(
    ("said", "codes"),
    [
        (("anna", "12", "DE", ["sms"]), ["/email invalid_email", "/phone invalid_phone"]),
        ((None, None, "DE"), [" nothing_declared"]),
        ((ANNA_MAIL, None, "DE", ["sms"]), ["/consents no_address"]),
        ((None, ANNA, "DE", ["email", "fax"]), ["/consents no_address", "/consents no_address"]),
    ],
)
def test_every_fault_of_a_declaration_is_told_at_once(said: Any, codes: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        read_declared(*said)
    assert [f"{fault.pointer} {fault.code}" for fault in caught.value.errors] == codes


def test_an_unreadable_number_creates_nothing() -> None:
    world = World()
    with pytest.raises(Invalid):
        world.declare(world.id(), email=ANNA_MAIL, phone="not a number")
    assert not world.contacts


# The table of links.md ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["browser", "service", "signature"])
def test_i6_friend_first_then_types_own_email(by: str) -> None:
    world = World()
    friend, owner = world.id(), world.id()
    anna = world.person(phone=ANNA, email=ANNA_MAIL)
    link = world.link(anna, ANNA)
    world.click(friend, link)
    started = world.bindings_of(friend)[0].start
    decision = world.wait(days=1).declare(friend, by=by, email=BEN_MAIL)
    assert decision.rule == "I6"
    (binding,) = world.bindings_of(friend)
    assert (binding.contact_id, binding.start) == (decision.contact_id, started), "all of the history is the friend's"
    assert world.addresses(anna) == {ANNA: Standing.PROVED, ANNA_MAIL: Standing.PROVED}
    assert not world.consents
    assert not +world.candidates
    assert world.click(owner, link).outcome == "session_only"
    assert world.click(owner, world.link(anna, ANNA)).outcome == "confirmed"


def test_i6_friend_with_a_profile_of_their_own() -> None:
    world = World()
    friend = world.id()
    anna, ben = world.person(phone=ANNA, email=ANNA_MAIL), world.person(email=BEN_MAIL)
    world.click(friend, world.link(anna, ANNA))
    assert world.declare(friend, by="browser", email=BEN_MAIL).contact_id == ben
    assert [world.who(friend, ago=days * DAY) for days in (0, 29)] == [ben, ben]


@pytest.mark.parametrize("by", ["browser", "service", "signature"])
def test_i6_click_bound_visitor_gives_another_phone_than_the_link_went_to(by: str) -> None:
    world = World()
    visitor = world.id()
    anna = world.person(phone=ANNA, email=ANNA_MAIL)
    world.click(visitor, world.link(anna, ANNA))
    decision = world.declare(visitor, by=by, phone=NEW, consents=["sms"])
    assert decision.rule == "I6"
    assert any(isinstance(change, Retract) for change in decision.changes)
    assert world.who(visitor, ago=29 * DAY) == decision.contact_id != anna
    assert world.addresses(anna) == {ANNA: Standing.PROVED, ANNA_MAIL: Standing.PROVED}
    assert world.said(ANNA) == []
    assert world.said(NEW) == [("pending" if by == "browser" else "granted", "sms")]


def test_i6_another_phone_even_where_the_owners_number_is_gone_or_the_phone_is_somebodys() -> None:
    world = World()
    first, second = world.id(), world.id()
    anna, ben = world.person(email=ANNA_MAIL), world.person(phone=BEN)
    world.click(first, world.link(anna, ANNA))
    assert world.declare(first, phone=NEW).rule == "I6"
    world.click(second, world.link(anna, ANNA))
    assert world.declare(second, phone=BEN).contact_id == ben
    assert world.who(second, ago=20 * DAY) == ben


@pytest.mark.parametrize(
    ("by", "standing", "consent"),
    [
        ("browser", Standing.UNCONFIRMED, "pending"),
        ("service", Standing.DECLARED, "granted"),
        ("signature", Standing.PROVED, "granted"),
    ],
)
def test_i2_email_link_then_the_popup_asks_for_the_phone_only(by: str, standing: Standing, consent: str) -> None:
    world = World()
    visitor = world.id()
    anna = world.person(email=ANNA_MAIL)
    world.click(visitor, world.link(anna, ANNA_MAIL))
    decision = world.declare(visitor, by=by, phone="0151 11111111", consents=["sms"])
    assert (decision.contact_id, decision.rule) == (anna, "I2")
    assert world.addresses(anna)[ANNA] == standing
    assert world.said(ANNA) == [(consent, "sms")]
    assert world.who(visitor) == anna
    trust = {"browser": Trust.CLICK, "service": Trust.DECLARED, "signature": Trust.VERIFIED}[by]
    assert world.bindings_of(visitor)[0].trust is trust


def test_i2_what_is_agreed_to_with_the_declaration_that_confirms_a_number_is_granted() -> None:
    world = World()
    visitor = world.id()
    anna = world.person(email=ANNA_MAIL)
    world.click(visitor, world.link(anna, ANNA_MAIL))
    world.declare(visitor, by="browser", phone="0151 11111111")
    assert world.declare(by="service", email=ANNA_MAIL, phone=ANNA, consents=["sms"]).contact_id == anna
    assert world.addresses(anna)[ANNA] == Standing.DECLARED
    assert world.said(ANNA) == [("granted", "sms")]


def test_i1_anonymous_opt_in_then_checkout_with_a_known_email() -> None:
    world = World()
    visitor = world.id()
    anna = world.person(email=ANNA_MAIL)
    phone_only = world.declare(visitor, phone=ANNA, consents=["sms"])
    assert phone_only.rule == "I1"
    decision = world.wait(days=1).declare(visitor, email=ANNA_MAIL, phone=ANNA, consents=["whatsapp"])
    assert decision.contact_id == anna
    assert +world.candidates == {pair(anna, phone_only.contact_id): 1}
    assert not world.merged
    assert world.owners(ANNA) == [phone_only.contact_id]
    assert world.said(ANNA) == [("granted", "sms")]
    assert [world.who(visitor, ago=hours * DAY / 24) for hours in (0, 1)] == [anna, phone_only.contact_id]


def test_i5_the_same_from_another_browser_and_without_one() -> None:
    for has_browser in (True, False):
        world = World()
        anna, owner = world.person(email=ANNA_MAIL), world.person(phone=ANNA)
        visitor = world.id() if has_browser else None
        decision = world.declare(visitor, email=ANNA_MAIL, phone=ANNA)
        assert (decision.contact_id, decision.notes) == (anna, ("not_taken",))
        assert world.owners(ANNA) == [owner]
        assert +world.candidates == {pair(anna, owner): 1}
        assert visitor is None or world.who(visitor) == anna


@pytest.mark.parametrize("consents", [[], ["sms"]])
def test_i3_purchase_with_another_number(consents: list[str]) -> None:
    world = World()
    visitor = world.id()
    anna = world.person(email=ANNA_MAIL, phone=ANNA)
    world.declare(email=ANNA_MAIL, phone=ANNA, consents=["sms", "whatsapp"])
    decision = world.declare(visitor, email=ANNA_MAIL, phone=NEW, consents=consents)
    assert (decision.contact_id, decision.rule) == (anna, "I3")
    assert world.addresses(anna) == {ANNA_MAIL: Standing.PROVED, NEW: Standing.DECLARED}
    assert world.said(ANNA)[2:] == REVOKED
    assert world.said(NEW) == [("granted", medium) for medium in consents]


@pytest.mark.parametrize("by", ["browser", "service"])
def test_three_people_registering_on_one_browser(by: str) -> None:
    for addresses in ("email", "phone", "both"):
        world = World()
        visitor = world.id()
        found = []
        for n in range(3):
            said = {"email": f"p{n}@example.com", "phone": f"+491511000000{n}"}
            chosen = said if addresses == "both" else {addresses: said[addresses]}
            found.append(world.wait(days=1).declare(visitor, by=by, **chosen).contact_id)
            assert set(chosen.values()) == set(world.addresses(found[-1]))
        assert len(set(found)) == 3
        assert [world.who(visitor, ago=days * DAY) for days in (0, 1, 2, 20)] == [*reversed(found), found[0]]
        assert not world.consents


@pytest.mark.parametrize("by", ["browser", "service", "signature"])
def test_20_declarations_of_one_number_have_one_owner(by: str) -> None:
    world = World()
    contacts = {world.declare(world.id(), by=by, phone=ANNA).contact_id for _ in range(20)}
    assert len(contacts) == 1
    assert len(world.slots) == 1
    assert len(world.owners(ANNA)) == (0 if by == "browser" else 1)


# Who may declare what -----------------------------------------------------------------------------------------------


def test_an_unsigned_word_never_replaces_nor_revokes_nor_confirms() -> None:
    world = World()
    visitor = world.id()
    anna = world.declare(visitor, email=ANNA_MAIL, phone=ANNA).contact_id
    before = dict(world.slots)
    decision = world.declare(visitor, by="browser", email=ANNA_MAIL, phone=NEW, consents=["sms"])
    assert (decision.contact_id, decision.notes, world.slots) == (anna, ("not_replaced",), before)
    assert not world.consents


def test_an_unsigned_word_binds_to_the_owner_but_never_ends_a_verified_binding() -> None:
    world = World()
    fresh, signed = world.id(), world.id()
    anna = world.person(email=ANNA_MAIL)
    assert world.declare(fresh, by="browser", email=ANNA_MAIL).rule == "I4"
    assert (world.who(fresh), world.bindings_of(fresh)[0].trust) == (anna, Trust.DECLARED)
    ben = world.declare(signed, by="signature", email=BEN_MAIL).contact_id
    assert world.declare(signed, by="browser", email=ANNA_MAIL).notes == ("outranked",)
    assert world.who(signed) == ben
    assert world.declare(signed, by="service", email=ANNA_MAIL).contact_id == world.who(signed) == anna


def test_what_was_typed_unsigned_is_confirmed_where_nothing_else_is_owned() -> None:
    world = World()
    anna = world.declare(world.id(), by="browser", email=ANNA_MAIL).contact_id
    assert world.addresses(anna) == {ANNA_MAIL: Standing.UNCONFIRMED}
    assert world.declare(world.id(), email=ANNA_MAIL).contact_id == anna
    assert world.addresses(anna) == {ANNA_MAIL: Standing.DECLARED}


def test_what_was_typed_unsigned_on_somebody_elses_profile_leads_nowhere() -> None:
    """A friend opens Anna's link first, types an email, and later buys something on another device."""
    world = World()
    visitor, other = world.id(), world.id()
    anna = world.person(phone=ANNA)
    world.click(visitor, world.link(anna, ANNA))
    assert world.declare(visitor, by="browser", email=BEN_MAIL).contact_id == anna
    ben = world.declare(other, email=BEN_MAIL, phone=BEN).contact_id
    assert ben != anna
    assert world.addresses(anna) == {ANNA: Standing.PROVED}, "Ben's email has gone to its owner"
    assert +world.candidates == {pair(anna, ben): 1}


def test_the_same_friend_on_the_same_device_takes_the_history_along_and_leaves_the_number() -> None:
    world = World()
    visitor = world.id()
    anna = world.person(phone=ANNA)
    world.click(visitor, world.link(anna, ANNA))
    world.declare(visitor, by="browser", email=BEN_MAIL)
    decision = world.declare(visitor, email=BEN_MAIL, phone=BEN, consents=["sms"])
    assert decision.rule == "I6"
    assert world.who(visitor, ago=20 * DAY) == decision.contact_id != anna
    assert world.addresses(anna) == {ANNA: Standing.PROVED}
    assert world.addresses(decision.contact_id) == {BEN_MAIL: Standing.DECLARED, BEN: Standing.DECLARED}
    assert world.said(ANNA) == []
    assert not +world.candidates


def test_the_owner_of_a_click_bound_profile_confirms_it_by_their_own_address() -> None:
    for said in ({"phone": "0151 1111 1111"}, {"email": ANNA_MAIL}):
        world = World()
        visitor = world.id()
        anna = world.person(phone=ANNA, email=ANNA_MAIL)
        world.click(visitor, world.link(anna, ANNA))
        decision = world.declare(visitor, by="browser", **said)
        assert (decision.contact_id, decision.rule) == (anna, "same_person")
        assert world.bindings_of(visitor)[0].trust is Trust.DECLARED
        assert world.declare(visitor, by="service", email=ANNA_MAIL, phone=NEW).rule == "I3"


def test_i3_a_click_bound_visitor_who_names_the_email_replaces_the_number() -> None:
    world = World()
    visitor = world.id()
    anna = world.person(phone=ANNA, email=ANNA_MAIL)
    world.click(visitor, world.link(anna, ANNA))
    decision = world.declare(visitor, email=ANNA_MAIL, phone=NEW)
    assert (decision.contact_id, decision.rule) == (anna, "I3")
    assert world.said(ANNA) == REVOKED


def test_an_email_typed_twice_leads_to_the_same_profile() -> None:
    world = World()
    visitor = world.id()
    anna = world.person(phone=ANNA)
    world.click(visitor, world.link(anna, ANNA))
    for rule in ("I2", "same_person"):
        assert world.declare(visitor, by="browser", email=ANNA_MAIL).rule == rule
    assert world.declare(visitor, by="service", email=ANNA_MAIL).contact_id == anna
    assert world.bindings_of(visitor)[0].trust is Trust.DECLARED


def test_a_phone_typed_twice_is_no_other_phone() -> None:
    world = World()
    visitor = world.id()
    anna = world.person(email=ANNA_MAIL)
    world.click(visitor, world.link(anna, ANNA_MAIL))
    found = [world.declare(visitor, by=by, phone=ANNA).contact_id for by in ("browser", "browser", "service")]
    assert found == [anna] * 3
    assert world.addresses(anna)[ANNA] == Standing.DECLARED


def test_i3_an_unconfirmed_old_number_may_be_a_strangers_and_is_not_revoked() -> None:
    world = World()
    visitor = world.id()
    anna = world.declare(visitor, email=ANNA_MAIL).contact_id
    world.declare(visitor, by="browser", phone=BEN)
    assert world.declare(visitor, phone=NEW).rule == "I3"
    assert set(world.addresses(anna)) == {ANNA_MAIL, NEW}
    assert not world.consents


def test_i7_a_phone_only_profile_declares_an_owned_email() -> None:
    world = World()
    clicked, declared = world.id(), world.id()
    anna, phone_only = world.person(email=ANNA_MAIL), world.person(phone=ANNA)
    world.click(clicked, world.link(phone_only, ANNA))
    world.declare(declared, phone=ANNA)
    world.wait(days=1)
    for visitor, start_is in ((clicked, anna), (declared, phone_only)):
        decision = world.declare(visitor, email=ANNA_MAIL)
        assert (decision.contact_id, decision.rule) == (anna, "I7")
        assert world.who(visitor) == anna
        assert world.who(visitor, ago=10 * DAY) == start_is
    assert +world.candidates == {pair(anna, phone_only): 2}
    assert not world.merged


def test_i6_an_owned_email_with_another_phone_than_the_link_went_to_is_no_candidate() -> None:
    world = World()
    visitor = world.id()
    ben, phone_only = world.person(email=BEN_MAIL), world.person(phone=ANNA)
    world.click(visitor, world.link(phone_only, ANNA))
    decision = world.declare(visitor, email=BEN_MAIL, phone=BEN)
    assert (decision.contact_id, decision.rule) == (ben, "I6")
    assert set(world.addresses(ben)) == {BEN_MAIL, BEN}
    assert not +world.candidates


def test_i5_an_owned_phone_on_a_profile_with_an_email() -> None:
    world = World()
    clicked, declared = world.id(), world.id()
    anna, ben = world.person(email=ANNA_MAIL), world.person(phone=BEN)
    world.click(clicked, world.link(anna, ANNA_MAIL))
    world.declare(declared, email=ANNA_MAIL)
    for visitor in (clicked, declared):
        decision = world.declare(visitor, phone=BEN, consents=["sms"])
        assert (decision.contact_id, decision.notes) == (anna, ("not_taken",))
        assert world.who(visitor) == anna
    assert world.owners(BEN) == [ben]
    assert not world.consents
    assert +world.candidates == {pair(anna, ben): 2}


def test_i5_an_email_nobody_owns_with_a_phone_somebody_does_is_a_new_profile() -> None:
    world = World()
    owner = world.person(phone=ANNA)
    decision = world.declare(world.id(), email=BEN_MAIL, phone=ANNA)
    assert decision.rule == "I1"
    assert world.addresses(owner) == {ANNA: Standing.PROVED}
    assert +world.candidates == {pair(decision.contact_id, owner): 1}


def test_contacts_by_a_business_scoped_id_only_and_by_none() -> None:
    world = World()
    visitor, nobody = world.id(), world.id()
    scoped = world.person()
    world.click(visitor, replace(world.link(scoped), destination=Address("user_id", "US.1234")))
    assert world.declare(visitor, phone=ANNA, email=ANNA_MAIL).contact_id == scoped
    assert set(world.addresses(scoped)) == {ANNA, ANNA_MAIL}
    assert world.who(nobody) is None


def test_limits_stop_the_binding_but_not_the_declaration() -> None:
    world = World()
    kiosk = world.id()
    people = [world.wait(hours=1).declare(kiosk, email=f"p{n}@example.com").contact_id for n in range(4)]
    assert world.owners("p3@example.com") == [people[3]]
    assert world.who(kiosk) is None
    assert world.who(kiosk, ago=timedelta(minutes=30)) == people[2]
    assert world.flags[Flag("visitor", kiosk)] == 1
    world.wait(hours=1).declare(kiosk, email="p0@example.com")
    assert [world.who(kiosk, ago=timedelta(minutes=m)) for m in (0, 59, 90)] == [people[0], people[0], people[2]]

    browsers = [world.id() for _ in range(6)]
    for browser in browsers:
        world.declare(browser, email=ANNA_MAIL)
    assert [world.who(browser) is None for browser in browsers] == [False] * 5 + [True]


# Merging and undo ---------------------------------------------------------------------------------------------------

SHOP, CRM = UUID(int=101), UUID(int=102)
A, B = UUID(int=1), UUID(int=2)


# Consent to being tracked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "said", "consents"),
    [
        ("browser", {"email": ANNA_MAIL}, [("pending", ANNA_MAIL)]),
        ("service", {"email": ANNA_MAIL}, [("granted", ANNA_MAIL)]),
        ("signature", {"phone": NEW}, [("granted", NEW)]),
        ("service", {"email": ANNA_MAIL, "phone": NEW}, [("granted", ANNA_MAIL), ("granted", NEW)]),
        ("service", {"email": ANNA_MAIL, "phone": BEN}, [("granted", ANNA_MAIL)]),
    ],
    ids=["browser", "email", "phone", "both", "phone of another"],
)
def test_tracking_is_agreed_to_on_every_address_given_that_is_theirs(
    by: str, said: dict[str, str], consents: list[tuple[str, str]]
) -> None:
    world = World()
    world.person(phone=BEN)
    world.declare(world.id(), by=by, consents=["tracking"], **said)
    assert [(one.kind, one.address.value) for _, one in world.consents] == consents
    assert {one.medium for _, one in world.consents} == {"tracking"}


# What a service names by itself -------------------------------------------------------------------------------------


def test_a_profile_named_for_certain_is_who_it_is_whatever_the_addresses_say() -> None:
    world = World()
    anna, ben = world.person(email=ANNA_MAIL), world.person(email=BEN_MAIL, phone=BEN)
    assert world.declare(named=anna).changes == ()
    decision = world.declare(named=anna, phone=ANNA)
    assert (decision.contact_id, decision.rule, world.owners(ANNA)) == (anna, "I2", [anna])
    decision = world.declare(named=anna, email=BEN_MAIL, phone=NEW)
    assert (decision.contact_id, decision.rule, decision.notes) == (anna, "I3", ("not_taken",))
    assert world.declare(named=anna, email="new@example.com").notes == ("not_replaced",)
    assert world.addresses(ben) == {BEN_MAIL: Standing.PROVED, BEN: Standing.PROVED}
    assert +world.candidates == {pair(anna, ben): 1}


@pytest.mark.parametrize("trust", ["click", "declared"])
def test_a_visitor_goes_to_the_profile_that_a_service_names(trust: str) -> None:
    world = World()
    visitor = world.id()
    anna, ben = world.person(phone=ANNA), world.person(email=BEN_MAIL)
    if trust == "click":
        world.click(visitor, world.link(anna, ANNA))
    else:
        world.declare(visitor, phone=ANNA)
    decision = world.wait(hours=2).declare(visitor, named=ben)
    assert (decision.contact_id, decision.rule) == (ben, "I6" if trust == "click" else "shared_browser")
    assert world.who(visitor) == ben
    assert world.who(visitor, ago=timedelta(hours=1)) == (ben if trust == "click" else anna)
    assert not +world.candidates


def test_naming_the_profile_of_a_click_bound_visitor_raises_the_binding() -> None:
    world = World()
    visitor = world.id()
    anna = world.person(phone=ANNA)
    world.click(visitor, world.link(anna, ANNA))
    assert world.declare(visitor, named=anna).rule == "same_person"
    assert [one.trust for one in world.bindings_of(visitor)] == [Trust.DECLARED]


@pytest.mark.parametrize(
    ("said", "is_anna"),
    [
        ({}, True),
        ({"phone": NEW}, True),
        ({"phone": BEN}, True),
        ({"email": ANNA_MAIL, "phone": NEW}, True),
        ({"email": BEN_MAIL}, False),
        ({"email": "new@example.com"}, False),
    ],
    ids=["nothing else", "a phone", "another's phone", "its email", "another's email", "a new email"],
)
def test_a_profile_hinted_at_gives_way_to_an_email_that_says_otherwise(said: dict[str, str], is_anna: bool) -> None:
    world = World()
    anna = world.person(email=ANNA_MAIL, phone=ANNA)
    world.person(email=BEN_MAIL, phone=BEN)
    assert (world.declare(hinted=anna, **said).contact_id == anna) is is_anna


def test_whom_a_service_has_verified_as_another_it_is_not() -> None:
    world = World()
    visitor = world.id()
    anna = world.person(email=ANNA_MAIL, phone=ANNA)
    world.click(visitor, world.link(anna, ANNA))
    for browser, phone in ((visitor, NEW), (None, BEN)):
        decision = world.declare(browser, email=ANNA_MAIL, phone=phone, strangers=[anna])
        assert (decision.contact_id != anna, decision.notes) == (True, ("not_taken",))
    assert world.who(visitor, ago=20 * DAY) != anna
    assert world.addresses(anna) == {ANNA_MAIL: Standing.PROVED, ANNA: Standing.PROVED}
    assert not +world.candidates


@pytest.mark.parametrize(
    ("kept", "absorbed", "by", "service", "code"),
    [
        ({}, {}, "operator", None, None),
        ({}, {}, "switch", None, None),
        ({"parents": {SHOP}}, {"parents": {SHOP}}, "service", SHOP, None),
        ({"parents": {SHOP}}, {}, "service", SHOP, None),
        ({}, {}, "service", SHOP, "merge_not_allowed"),
        ({"parents": {SHOP}}, {"parents": {SHOP, CRM}}, "service", SHOP, "merge_not_allowed"),
        ({"parents": {SHOP, None}}, {}, "service", SHOP, "merge_not_allowed"),
        ({"identities": {(SHOP, "1")}}, {"identities": {(CRM, "1")}}, "operator", None, None),
        ({"identities": {(SHOP, "1")}}, {"identities": {(SHOP, "2")}}, "operator", None, "verified_identities"),
        ({"identities": {(SHOP, "1")}}, {"identities": {(SHOP, "2")}}, "switch", None, "verified_identities"),
        ({"merged_into": B}, {}, "operator", None, "already_merged"),
        ({}, {"merged_into": UUID(int=3)}, "operator", None, "already_merged"),
        ({}, {"contact_id": A}, "operator", None, "already_merged"),
        ({}, {"is_erased": True}, "operator", None, "not_found"),
    ],
)
def test_who_may_merge_whom(
    kept: dict[str, Any], absorbed: dict[str, Any], by: Any, service: UUID | None, code: str | None
) -> None:
    sides = [
        Side(**{"contact_id": contact} | {k: frozenset(v) if isinstance(v, set) else v for k, v in said.items()})
        for contact, said in ((A, kept), (B, absorbed))
    ]
    if code is None:
        assert merge(sides[0], sides[1], by, service) == Merge(B, A, by)
        return
    with pytest.raises(Refusal) as caught:
        merge(sides[0], sides[1], by, service)
    assert caught.value.code == code
    assert "(rule" in caught.value.detail


def test_who_may_undo_what_touches_no_channel() -> None:
    assert may_manage([], "operator", None)
    assert not may_manage([], "service", SHOP)


def test_a_merged_profile_is_one_and_unmerging_gives_each_what_is_theirs() -> None:
    world = World()
    visitor = world.id()
    anna, phone_only = world.person(email=ANNA_MAIL), world.person(phone=ANNA)
    before = world.state()
    world.merge(anna, phone_only)
    assert world.declare(visitor, email=ANNA_MAIL, phone=ANNA).notes == ()
    assert world.who(visitor) == anna
    world.declare(visitor, phone=ANNA)
    world.undo(world.ledger[0])
    assert (world.who(visitor), world.owners(ANNA)) == (anna, [phone_only])
    world.undo(world.ledger[1])
    assert world.state() == before


def test_undo_is_refused_while_something_rests_on_it() -> None:
    world = World()
    visitor = world.id()
    world.declare(visitor, email=ANNA_MAIL, phone=ANNA)
    world.declare(visitor, email=ANNA_MAIL, phone=NEW)
    with pytest.raises(Refusal) as caught:
        world.undo(world.ledger[0])
    assert caught.value.code == "undo_order"
    assert len(caught.value.facts["operations"]) == 1
    world.undo(world.ledger[1])
    assert world.said(ANNA) == []
    assert world.owners(ANNA)
    with pytest.raises(Refusal, match="before"):
        world.undo(world.ledger[1])
    world.undo(world.ledger[0])
    assert not world.contacts


def test_what_was_erased_does_not_come_back() -> None:
    bind = Bind(UUID(int=9), A, *[World().now] * 2, Trust.CLICK, World().now, "bound")
    click = Operation(UUID(int=5), "click", (bind,))
    assert check_undo(click, []) is None
    codes = [
        refusal.code if (refusal := check_undo(*args)) else None
        for args in ((click, [], [A]), (click, [], [B]), (Operation(UUID(int=6), "erasure", ()), []))
    ]
    assert codes == ["not_undoable", None, "not_undoable"]


# Any history --------------------------------------------------------------------------------------------------------

PHONES, MAILS = [f"+491511000000{n}" for n in range(4)], [f"p{n}@example.com" for n in range(4)]
BYS = ["browser", "service", "signature"]
CLICK = st.tuples(st.just("click"), st.integers(0, 4), st.integers(0, 8))
STEP = st.one_of(
    CLICK,
    CLICK,
    CLICK,
    st.tuples(
        st.just("declare"), st.integers(0, 5), st.sampled_from(BYS), st.sampled_from([None, *MAILS]),
        st.sampled_from([None, *PHONES]), st.booleans(),
    ),
    st.tuples(st.just("merge"), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("undo"), st.integers(0, 30)),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 1, 8, 40])),
)  # fmt: skip
"""Clicks more than anything else: it takes several in a row until a second browser is confirmed."""


class History:
    """Random steps in a small world, judged after each by what must hold whatever happened."""

    def __init__(self) -> None:
        self.world = World()
        world = self.world
        self.browsers = [world.id() for _ in range(5)]
        self.people = [world.person(phone=PHONES[0], email=MAILS[0]), world.person(phone=PHONES[1])]
        self.people += [world.person(email=MAILS[2]), world.person()]
        world.identities = {self.people[0]: (SHOP, "0"), self.people[2]: (SHOP, "2"), self.people[3]: (CRM, "3")}
        self.send()
        self.first = world.state()
        self.evidence: set[tuple[UUID, UUID]] = set()

    def send(self) -> None:
        """Three links each to three of them: two in one message, one in another."""
        to = {self.people[0]: PHONES[0], self.people[1]: PHONES[1], self.people[2]: MAILS[2]}
        self.links: list[Link] = []
        for person, address in to.items():
            first = self.world.link(person, address)
            twin = self.world.link(person, address, message=first.message_id)
            self.links += [first, twin, self.world.link(person, address)]

    def do(self, step: tuple[Any, ...]) -> None:
        getattr(self, step[0])(*step[1:])
        self.judge()

    def wait(self, days: float) -> None:
        self.world.wait(days=days)
        if days > 30:
            self.send()

    def ended(self, visitor: UUID | None) -> set[Any]:
        return {one for one in self.world.bindings_of(visitor) if one.until} if visitor else set()

    def click(self, browser: int, link: int) -> None:
        visitor, target = self.browsers[browser], self.links[link]
        held = {n: self.world.who(v) for n, v in enumerate(self.browsers)}
        current = [one for one in self.world.bindings_of(visitor) if one.until is None]
        ended = self.ended(visitor)
        decision = self.world.click(visitor, target)
        assert ended <= self.ended(visitor), "what has ended stays"
        event(f"click {decision.outcome}")
        assert target.contact_id
        self.evidence.add((visitor, target.contact_id))
        if current and current[0].trust > Trust.CLICK:
            assert self.world.who(visitor) == held[browser], "K6"
        if decision.outcome in {"bound", "confirmed", "moved"}:
            assert self.world.claims[target.id] == visitor, "K3: only the first claimant"
            assert self.world.now - target.created_at <= timedelta(days=30, minutes=1), "K2"
            assert self.world.who(visitor) == self.world.contact_of(target.contact_id)
        if self.world.claims.get(target.id, visitor) != visitor:
            assert self.world.who(visitor) == held[browser], "K4"
        for n, other in enumerate(self.browsers):
            assert n == browser or self.world.who(other) == held[n], "a click says nothing of other browsers"

    def declare(self, browser: int, by: str, email: str | None, phone: str | None, is_consented: bool) -> None:
        if not email and not phone:
            return
        visitor = self.browsers[browser] if browser < 5 else None
        current = [one for one in self.world.bindings_of(visitor) if one.until is None] if visitor else []
        was, before = dict(self.world.slots), self.world.now
        past = [self.world.who(visitor, ago=n * DAY) for n in range(40)] if visitor else []
        consents = [m for m, a in (("email", email), ("sms", phone)) if a and is_consented]
        ended, left = self.ended(visitor), self.world.addresses(current[0].contact_id) if current else {}
        decision = self.world.declare(visitor, by=by, email=email, phone=phone, consents=consents)
        event(f"declare {decision.rule}")
        assert ended <= self.ended(visitor), "what has ended stays"
        if visitor:
            named = (c for c in self.world.contacts if self.world.contact_of(c) == decision.contact_id)
            self.evidence |= {(visitor, contact) for contact in named}
        changes = decision.changes
        if by == "browser":
            forbidden = [c for c in changes if isinstance(c, i.Remove | i.Confirm)]
            assert not forbidden, "an unsigned word takes nothing"
            assert all(c.standing is Standing.UNCONFIRMED for c in changes if isinstance(c, i.Fill))
            assert all(c.kind == "pending" for c in changes if isinstance(c, i.Consent))
            assert all(self.world.slots[key] == slot for key, slot in was.items())
        for consent in (c for c in changes if isinstance(c, i.Consent) and c.kind == "granted"):
            assert self.root_of_owner(consent.address.value) == decision.contact_id, "granted on what is theirs only"
        for value in (email, phone):
            owner = [s for s in was.values() if s.address.value == value and s.standing > 0]
            if value and owner:
                assert self.world.owners(value) == [owner[0].contact_id], "an owned address is never taken"
        if by != "browser" and email:
            assert self.root_of_owner(email) == decision.contact_id, "the email says who it is"
        if visitor and not self.limited(changes) and "outranked" not in decision.notes:
            assert self.world.who(visitor) == decision.contact_id
        if current and current[0].trust > Trust.CLICK:
            offset = self.world.now - before
            now = [self.world.who(visitor, ago=n * DAY + offset) for n in range(1, 40)]
            assert now == past[1:], "a declared past stays"
        if current and current[0].trust is Trust.CLICK and decision.contact_id != past[0]:
            kept = {a: st for a, st in left.items() if st > Standing.UNCONFIRMED}
            assert kept.items() <= self.world.addresses(current[0].contact_id).items(), "I6 takes nothing"
            revoked = {c.address.value for c in changes if isinstance(c, i.Consent) and c.kind == "revoked"}
            assert not revoked & kept.keys(), "I6 revokes nothing of theirs"
            heir = None if self.limited(changes) else decision.contact_id
            assert self.who_at(visitor, current[0].start) == heir, "I6 moves all of the click's history"

    def who_at(self, visitor: UUID | None, at: datetime) -> UUID | None:
        return self.world.who(visitor, ago=self.world.now - at) if visitor else None

    def root_of_owner(self, value: str) -> UUID | None:
        return next((self.world.contact_of(owner) for owner in self.world.owners(value)), None)

    def limited(self, changes: Any) -> bool:
        return any(isinstance(change, Flag) for change in changes)

    def merge(self, one: int, other: int) -> None:
        contacts = list(self.world.contacts)
        kept, absorbed = contacts[one % len(contacts)], contacts[other % len(contacts)]
        try:
            self.world.merge(kept, absorbed)
        except Refusal as refusal:
            event(f"merge {refusal.code}")
        else:
            event("merge done")

    def undo(self, back: int) -> None:
        if self.world.ledger:
            try:
                self.world.undo(self.world.ledger[-1 - back % len(self.world.ledger)])
            except Refusal as refusal:
                event(f"undo {refusal.code}")
            else:
                event("undo done")

    def judge(self) -> None:
        world = self.world
        for value in (*PHONES, *MAILS):
            assert len(world.owners(value)) <= 1, "one owner per address"
        for visitor in self.browsers:
            intervals = world.bindings_of(visitor)
            for earlier, later in pairwise(intervals):
                assert earlier.until is not None
                assert earlier.until <= later.start, "one binding per visitor at any time"
            for one in intervals:
                assert one.contact_id in world.contacts
                assert self.is_evident(visitor, one.contact_id), "only a click or a word of that browser binds it"
        for slot in world.slots.values():
            assert slot.contact_id in world.contacts
        shop = [world.contact_of(c) for c, (service, _) in world.identities.items() if service == SHOP]
        assert len(set(shop)) == len(shop), "two verified identities of one service stay two"

    def is_evident(self, visitor: UUID, contact: UUID) -> bool:
        """The browser itself opened a link of this very contact, or named it, or one it was merged with then."""
        return (visitor, contact) in self.evidence

    def undo_all(self) -> None:
        for operation in reversed(self.world.ledger):
            if not operation.is_undone:
                self.world.undo(operation)
                self.judge()


@settings(max_examples=300)
@given(st.lists(STEP, max_size=40))
def test_any_history_keeps_the_rules_and_undone_in_reverse_is_as_at_first(steps: list[tuple[Any, ...]]) -> None:
    history = History()
    for step in steps:
        history.do(step)
    history.undo_all()
    assert history.world.state() == history.first
