"""Whose a browser is after a click: landings, rules K1 to K6, and the rows of links.md's table about clicks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from hub.domain.bindings import Binding, Flag, Trust, contact_at
from hub.domain.stitching import Click, ClickFacts, Link, Page, link_life, site_of, stitch, why_no_landing
from tests.support.identity_world import SITE, World

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANNA, BEN = "+4915111111111", "+4915122222222"
DAY = timedelta(days=1)


def visitors(world: World, number: int) -> list[UUID]:
    return [world.id() for _ in range(number)]


# Links and landings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "life"),
    [
        (timedelta(0), "identifies"),
        (30 * DAY, "identifies"),
        (30 * DAY + timedelta(microseconds=1), "redirects"),
        (31 * DAY, "redirects"),
        (90 * DAY, "redirects"),
        (90 * DAY + timedelta(microseconds=1), "expired"),
    ],
    ids=str,
)
def test_a_link_identifies_for_30_days_and_redirects_for_90(age: timedelta, life: str) -> None:
    assert link_life(NOW, NOW + age) == life


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("shop.example", "shop.example"),
        ("WWW.Shop.Example.", "shop.example"),
        ("a.uk.shop.example", "uk.shop.example"),
        ("myshop.example", None),
        ("shop.example.evil.test", None),
        ("", None),
    ],
)
def test_the_site_of_a_host_is_its_narrowest(host: str, site: str | None) -> None:
    assert site_of(host, ["shop.example", "uk.shop.example", "other.test"]) == site


CLICK = Click(UUID(int=7), NOW, True, SITE)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, None),
        ({"kind": "route"}, "not_a_load"),
        ({"kind": "restore"}, "not_a_load"),
        ({"site": "other.test"}, "other_site"),
        ({"site": None}, "other_site"),
        ({"receipts": []}, "no_receipt"),
        ({"receipts": [UUID(int=8)]}, "no_receipt"),
        ({"receipts": [UUID(int=8), CLICK.id]}, None),
        ({"receipts": [], "key": CLICK.id}, None),
        ({"receipts": [], "key": UUID(int=8)}, "no_receipt"),
        ({"age": 3 * SECOND}, None),
        ({"age": 3 * SECOND + timedelta(microseconds=1)}, "before_the_click"),
        ({"age": -SECOND}, "before_the_click"),
        ({"received_at": NOW - SECOND, "age": timedelta(0)}, "before_the_click"),
        ({"received_at": NOW + timedelta(minutes=30)}, None),
        ({"received_at": NOW + timedelta(minutes=30, seconds=1)}, "receipt_expired"),
        ({"received_at": NOW + timedelta(minutes=5), "key": CLICK.id}, None),
        ({"received_at": NOW + timedelta(minutes=5, seconds=1), "key": CLICK.id, "receipts": []}, "receipt_expired"),
        ({"is_returning": False}, "cookie_not_back"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
def test_a_landing_is_a_load_on_the_site_after_the_click_with_its_receipt(
    changes: dict[str, Any], missing: str | None
) -> None:
    page = {
        "visitor_id": UUID(int=1),
        "is_returning": True,
        "kind": "load",
        "site": SITE,
        "received_at": NOW + 3 * SECOND,
        "age": SECOND,
        "receipts": [CLICK.id],
    }
    assert why_no_landing(CLICK, Page(**{**page, **changes})) == missing


def test_a_click_whose_target_is_on_no_tracked_site_never_lands() -> None:
    click = Click(CLICK.id, NOW, True, None)
    assert why_no_landing(click, Page(UUID(int=1), True, "load", None, NOW, timedelta(0), [CLICK.id])) == "other_site"


def test_a_click_without_a_landing_changes_nothing_until_the_landing_comes() -> None:
    world = World()
    (phone,) = visitors(world, 1)
    link = world.link(world.person(phone=ANNA), ANNA)
    assert world.click(phone, link, kind="route").outcome == "waiting"
    assert not world.ledger
    assert world.click(phone, link).outcome == "bound"


# The table of links.md ----------------------------------------------------------------------------------------------


def test_k_sms_with_a_link_only_received() -> None:
    world = World()
    (browser,) = visitors(world, 1)
    world.link(world.person(phone=ANNA), ANNA)
    assert world.who(browser) is None
    assert not world.ledger


def test_k3_clicked_and_landed() -> None:
    world = World()
    (browser,) = visitors(world, 1)
    anna = world.person(phone=ANNA)
    assert world.click(browser, world.link(anna, ANNA)).outcome == "bound"
    assert [world.who(browser, ago=days * DAY) for days in (0, 29, 31)] == [anna, anna, None]
    assert world.wait(days=300).who(browser) == anna
    assert world.bindings_of(browser)[0].trust is Trust.CLICK


def test_k3_further_links_on_the_same_browser_are_no_new_binding() -> None:
    world = World()
    (browser,) = visitors(world, 1)
    anna = world.person(phone=ANNA)
    world.click(browser, world.link(anna, ANNA))
    later = world.wait(days=2).link(anna, ANNA)
    assert world.click(browser, later).outcome == "already_bound"
    assert len(world.bindings_of(browser)) == 1
    assert world.claims[later.id] == browser


def test_k_another_browser_without_a_click_is_nobodys() -> None:
    world = World()
    first, other = visitors(world, 2)
    world.click(first, world.link(world.person(phone=ANNA), ANNA))
    assert world.who(other) is None


def test_k4_the_same_link_on_a_second_device_is_confirmed_by_another_message() -> None:
    world = World()
    phone, laptop = visitors(world, 2)
    anna = world.person(phone=ANNA)
    link = world.link(anna, ANNA)
    world.click(phone, link)
    assert world.click(laptop, link).outcome == "session_only"
    first = world.now
    assert world.who(laptop) is None
    assert world.click(laptop, world.link(anna, ANNA, message=link.message_id)).reason == "same_message"
    assert world.who(laptop) is None, "another link of the same message is forwarded with it"

    assert world.wait(days=3).click(laptop, world.link(anna, ANNA)).outcome == "confirmed"
    assert world.who(laptop) == anna
    assert world.bindings_of(laptop)[0].start == first - timedelta(seconds=2), "from its first click on Anna's links"


def test_k4_opening_a_link_of_the_same_message_twice_does_not_help() -> None:
    world = World()
    phone, other = visitors(world, 2)
    anna = world.person(phone=ANNA)
    link = world.link(anna, ANNA)
    twin = world.link(anna, ANNA, message=link.message_id)
    world.click(phone, link)
    outcomes = [world.click(other, which).outcome for which in (link, twin, twin, link)]
    assert outcomes == ["session_only"] * 4


def test_k4_another_contacts_link_confirms_nothing() -> None:
    world = World()
    phone, laptop = visitors(world, 2)
    anna, ben = world.person(phone=ANNA), world.person(phone=BEN)
    link = world.link(anna, ANNA)
    world.click(phone, link)
    world.click(laptop, link)
    assert world.click(laptop, world.link(ben, BEN)).outcome == "bound"
    assert world.who(laptop) == ben


@pytest.mark.parametrize(("days", "outcome"), [(30, "bound"), (31, "anonymous"), (91, "anonymous")])
def test_k2_day_31(days: int, outcome: str) -> None:
    world = World()
    (browser,) = visitors(world, 1)
    link = world.link(world.person(phone=ANNA), ANNA)
    world.now += days * DAY - timedelta(seconds=1)
    assert world.click(browser, link).outcome == outcome


def test_k2_a_link_without_a_recipient() -> None:
    world = World()
    (browser,) = visitors(world, 1)
    assert world.click(browser, world.link(None)).reason == "no_recipient"
    assert not world.ledger


def test_k1_preview_bot_and_prefetch_before_the_person() -> None:
    world = World()
    bot, browser = visitors(world, 2)
    anna = world.person(phone=ANNA)
    link = world.link(anna, ANNA)
    assert world.click(bot, link, is_person=False).outcome == "not_a_person"
    assert world.click(browser, link).outcome == "bound"
    assert world.claims[link.id] == browser


def test_k4_forwarded_after_the_owner_clicked() -> None:
    world = World()
    owner, friend = visitors(world, 2)
    anna = world.person(phone=ANNA)
    link = world.link(anna, ANNA)
    world.click(owner, link)
    assert world.click(friend, link).reason == "claimed_by_another"
    assert (world.who(owner), world.who(friend)) == (anna, None)
    assert world.click(owner, link).outcome == "already_bound"


def test_k4_a_forwarded_link_never_ends_the_friends_own_binding() -> None:
    world = World()
    owner, friend = visitors(world, 2)
    anna, ben = world.person(phone=ANNA), world.person(phone=BEN)
    link = world.link(anna, ANNA)
    world.click(owner, link)
    world.click(friend, world.link(ben, BEN))
    assert world.click(friend, link).outcome == "session_only"
    assert world.who(friend) == ben


def test_k4_a_suspect_link_binds_nobody_until_another_message() -> None:
    world = World()
    (browser,) = visitors(world, 1)
    anna = world.person(phone=ANNA)
    link = world.link(anna, ANNA)
    world.suspect.add(link.id)
    assert world.click(browser, link).reason == "suspect"
    assert not world.claims
    assert world.click(browser, world.link(anna, ANNA)).outcome == "confirmed"


def test_k5_two_contacts_on_one_browser_keep_their_own_intervals() -> None:
    world = World()
    (browser,) = visitors(world, 1)
    anna, ben = world.person(phone=ANNA), world.person(phone=BEN)
    world.click(browser, world.link(anna, ANNA))
    assert world.wait(days=2).click(browser, world.link(ben, BEN)).outcome == "moved"
    assert world.wait(days=2).click(browser, world.link(anna, ANNA)).outcome == "moved"
    assert [world.who(browser, ago=days * DAY) for days in (0, 1, 3, 20)] == [anna, ben, anna, anna]


def test_k6_a_declared_visitor_stays_and_the_link_is_known_to_be_out() -> None:
    world = World()
    browser, other = visitors(world, 2)
    anna = world.person(phone=ANNA)
    ben = world.declare(browser, email="ben@example.com").contact_id
    link = world.link(anna, ANNA)
    assert world.click(browser, link).outcome == "stays"
    assert world.who(browser) == ben
    assert world.click(other, link).outcome == "session_only"


def test_k_40_first_clicks_on_one_link_have_one_claimant() -> None:
    world = World()
    anna = world.person(phone=ANNA)
    link = world.link(anna, ANNA)
    browsers = visitors(world, 40)
    for browser in browsers:
        world.click(browser, link)
    assert world.claims == {link.id: browsers[0]}
    assert [world.who(browser) for browser in browsers] == [anna] + [None] * 39
    assert world.flags[Flag("link", link.id)] > 0


# Beyond the table ---------------------------------------------------------------------------------------------------


def test_two_visitors_that_showed_one_receipt_are_one_browser() -> None:
    world = World()
    first, second = visitors(world, 2)
    anna = world.person(phone=ANNA)
    link = world.link(anna, ANNA)
    world.click(first, link)
    assert world.click(second, link, browser=[first]).outcome == "bound"
    assert world.who(second) == anna


def test_a_click_out_of_the_spool_never_overrules_what_came_after_it() -> None:
    world = World()
    (browser,) = visitors(world, 1)
    anna, ben = world.person(phone=ANNA), world.person(phone=BEN)
    late, before = world.link(anna, ANNA), world.now
    world.wait(minutes=5).click(browser, world.link(ben, BEN))
    decision = world.click(browser, late, at=before, age=timedelta(minutes=4))
    assert decision.outcome == "overtaken"
    assert world.claims[late.id] == browser, "it was the first all the same"
    assert world.who(browser) == ben


def test_without_consent_a_click_neither_binds_nor_claims() -> None:
    link = Link(UUID(int=1), UUID(int=2), UUID(int=3), NOW)
    page = Page(UUID(int=4), True, "load", SITE, NOW + SECOND, timedelta(0), [CLICK.id])
    facts = ClickFacts(CLICK, page, link)
    assert stitch(facts).outcome == "bound"
    refused = stitch(replace(facts, may_bind=False))
    assert (refused.outcome, refused.changes) == ("no_consent", ())


def test_limit_five_visitors_a_week_per_contact() -> None:
    world = World()
    anna = world.person(phone=ANNA)
    browsers = visitors(world, 7)
    outcomes = [world.click(browser, world.link(anna, ANNA)).outcome for browser in browsers[:6]]
    assert outcomes == ["bound"] * 5 + ["limited"]
    assert world.flags[Flag("contact", anna)] == 1
    assert world.wait(days=7, minutes=1).click(browsers[6], world.link(anna, ANNA)).outcome == "bound"


def test_limit_three_visitors_per_link_makes_it_suspect() -> None:
    world = World()
    anna = world.person(phone=ANNA)
    link = world.link(anna, ANNA)
    browsers = visitors(world, 4)
    for browser in browsers[:3]:
        world.click(browser, link)
    assert not world.flags
    assert world.click(browsers[3], link).reason == "suspect"
    assert world.flags[Flag("link", link.id)] == 1


def test_limit_three_contacts_per_visitor_leaves_the_fourth_nobodys() -> None:
    world = World()
    (browser,) = visitors(world, 1)
    people = [(world.person(phone=f"+4915100000{n:03}"), f"+4915100000{n:03}") for n in range(4)]
    outcomes = [world.wait(hours=1).click(browser, world.link(who, to)).outcome for who, to in people]
    assert outcomes == ["bound", "moved", "moved", "limited"]
    assert world.flags[Flag("visitor", browser)] == 1
    assert world.who(browser) is None
    assert world.who(browser, ago=timedelta(minutes=30)) == people[2][0]
    world.wait(hours=1).click(browser, world.link(*people[0]))
    assert [world.who(browser, ago=timedelta(minutes=m)) for m in (0, 59, 90)] == [
        people[0][0],
        people[0][0],
        people[2][0],
    ], "one of the three, back to where the third's ended, and no further"


def test_a_link_of_a_merged_contact_binds_to_that_contact_and_counts_for_the_survivor() -> None:
    world = World()
    (browser,) = visitors(world, 1)
    anna, twin = world.person(phone=ANNA), world.person(email="anna@example.com")
    world.merge(twin, anna)
    world.click(browser, world.link(anna, ANNA))
    assert world.who(browser) == twin
    assert world.click(browser, world.link(twin, "anna@example.com")).outcome == "already_bound"
    world.undo(world.ledger[0])
    assert world.who(browser) == anna


def test_an_interval_holds_its_start_and_not_its_end() -> None:
    first = Binding(UUID(int=1), UUID(int=9), UUID(int=5), NOW, NOW + DAY, Trust.CLICK, NOW)
    second = Binding(UUID(int=2), UUID(int=9), UUID(int=6), NOW + DAY, None, Trust.CLICK, NOW)
    both = [first, second]
    assert contact_at(both, NOW - SECOND) is None
    assert contact_at(both, NOW) == UUID(int=5)
    assert contact_at(both, NOW + DAY) == UUID(int=6)
