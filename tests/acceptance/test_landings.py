"""Clicks and the pages they end on: whose browser that makes it, and what a page may declare (rules K and I)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from hub.actions.stitch_clicks import stitch_clicks
from hub.domain.errors import Unavailable
from hub.domain.ids import new_id, public_id
from hub.domain.link_tokens import digest, new_secret
from hub.domain.tracking import Tracking
from hub.http import collector
from hub.store import visitors
from hub.store.landings import lock_proofs
from tests.support.database import Server
from tests.support.talk import MIA, writes
from tests.support.web import (
    SITE,
    WEB,
    WWW,
    Browser,
    PlantedLink,
    outcomes,
    page,
    plant_click,
    plant_contact,
    plant_link,
    signed,
    together,
    who,
)
from tests.support.wire import LOCKS_HERE, ask, connected, until
from tests.support.world import World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "the-secret-of-the-shop"
MINUTE = timedelta(minutes=1)
OTHER = "https://www.other.example"
SETTINGS = WEB | {"site_domains": (SITE, "other.example"), "site_secrets": (SECRET,), "phone_region": "DE"}
_numbers = count(1)


def new_phone() -> str:
    """A number that nobody has."""
    return f"+491512{next(_numbers):07d}"


def new_email() -> str:
    """An address that nobody has."""
    return f"anna{next(_numbers)}@example.com"


@dataclass
class Shop:
    """A hub that tracks two sites, with its database."""

    world: World
    url: str
    phones: dict[UUID, str] = field(default_factory=dict)

    def browser(self, **more: Any) -> Browser:
        return Browser(self.world, **more)

    async def contact(self) -> UUID:
        phone = new_phone()
        made = await plant_contact(self.url, phone)
        self.phones[made] = phone
        return made

    async def link(self, contact: UUID | None, **more: Any) -> PlantedLink:
        return await plant_link(self.url, contact, to=contact and self.phones.get(contact), **more)

    async def click(self, link: PlantedLink, browser: Browser | None = None, **more: Any) -> UUID:
        return await plant_click(self.url, link, browser, **more)

    async def opened(self, link: PlantedLink, browser: Browser) -> str:
        """The browser follows the link and its page loads; gives what came of it."""
        click = await self.click(link, browser, ago=timedelta(0))
        assert (await browser.load()).status == 204
        return str(await self.outcome(click))

    async def outcome(self, click: UUID) -> str | None:
        found: str | None = await self.value("select outcome from landing where click_id = $1", click)
        return found

    async def who(self, browser: Browser, **ago: Any) -> UUID | None:
        return await who(self.url, browser.visitor, **ago)

    async def bindings(self, contact: UUID) -> int:
        return int(await self.value("select count(*) from visitor_binding where contact_id = $1", contact))

    async def value(self, sql: str, *args: Any) -> Any:
        return await ask(self.url, sql, *args)


@asynccontextmanager
async def opened(server: Server, folder: Path, **settings: Any) -> AsyncIterator[Shop]:
    async with server.fresh() as url, world(url, folder, **settings) as made:
        yield Shop(made, url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """One hub for these, each with people and browsers of its own."""
    async with opened(server, tmp_path_factory.mktemp("hub"), **SETTINGS) as made:
        yield made


# Landings -----------------------------------------------------------------------------------------------------------


async def test_k3_a_page_after_the_click_makes_the_browser_the_contacts(shop: Shop) -> None:
    anna, browser = await shop.contact(), shop.browser()
    await browser.load("/before")
    link = await shop.link(anna)
    assert await shop.opened(link, browser) == "bound"
    assert [await shop.who(browser, ago=timedelta(days=days)) for days in (0, 29, 31)] == [anna, anna, None]
    assert await shop.value("select claimed_by from tracked_link where id = $1", link.id) == browser.visitor
    binding, operation = await shop.value(
        "select (b.destination_value, o.kind || ' ' || o.source || ' ' || o.rule) "
        "from visitor_binding b join identity_op o on o.visitor_id = b.visitor_id where b.link_id = $1",
        link.id,
    )
    assert (binding, operation) == (shop.phones[anna], "click click K3")
    await browser.load("/later")
    assert await outcomes(shop.url, link) == ["bound"]
    assert await shop.opened(await shop.link(anna), browser) == "already_bound"
    assert await shop.bindings(anna) == 1


async def test_what_is_no_landing_changes_nothing_until_one_comes(shop: Shop) -> None:
    anna = await shop.contact()
    here, there = {"origin": WWW}, {"origin": OTHER}
    for name, site, click, event in [
        ("a change of route", here, {}, {"kind": "route"}),
        ("a page out of memory", here, {}, {"kind": "restore"}),
        ("a page of another site", there, {}, {}),
        ("a page that was open before", here, {}, {"age": 1500}),
        ("a page that has slept", here, {}, {"age": 10**12}),
        ("a receipt that has expired", here, {"ago": 31 * MINUTE}, {}),
        ("a link to no tracked site", here, {"site": None}, {}),
        ("a click of a machine", here, {"counts": False}, {}),
    ]:
        browser = shop.browser(**site)
        link = await shop.link(anna, ago=60 * MINUTE)
        await shop.click(link, browser, **click)
        await browser.collect(page(f"{browser.origin}/", **event))
        assert await outcomes(shop.url, link) == [], name
        assert await shop.who(browser) is None, name
        assert await shop.value("select claimed_by from tracked_link where id = $1", link.id) is None, name
    waiting = shop.browser()
    link = await shop.link(anna)
    await shop.click(link, waiting)
    await waiting.collect(page(age=60_000))
    await waiting.collect(page(kind="route"))
    assert await outcomes(shop.url, link) == []
    await waiting.load()
    assert (await outcomes(shop.url, link), await shop.who(waiting)) == (["bound"], anna)


async def test_without_the_clicks_receipt_a_page_is_no_landing(shop: Shop) -> None:
    link, browser = await shop.link(await shop.contact()), shop.browser()
    await shop.click(link, browser)
    browser.jar = {name: cookie for name, cookie in browser.jar.items() if name == "__Host-hv"}
    browser.give_receipt(new_secret())
    await browser.load()
    assert (await outcomes(shop.url, link), await shop.who(browser)) == ([], None)


async def test_a_minted_visitor_lands_once_its_cookie_has_come_back(shop: Shop) -> None:
    anna, browser = await shop.contact(), shop.browser()
    link, receipt = await shop.link(anna), new_secret()
    await shop.click(link, receipt=receipt)
    browser.give_receipt(receipt)
    await browser.load()
    assert (await outcomes(shop.url, link), await shop.who(browser)) == ([], None)
    await browser.collect({"type": "engaged", "url": f"{WWW}/", "age": 0})
    assert (await outcomes(shop.url, link), await shop.who(browser)) == (["bound"], anna)


async def test_two_tabs_without_a_cookie_are_one_browser(shop: Shop) -> None:
    anna, first = await shop.contact(), shop.browser()
    link, receipt = await shop.link(anna), new_secret()
    await shop.click(link, receipt=receipt)
    first.give_receipt(receipt)
    second = first.twin()
    await together(first.load("/1"), second.load("/2"))
    assert first.visitor != second.visitor
    known = "select array_agg((visitor_id, twin_id)) from visitor_twin where $1 in (visitor_id, twin_id)"
    assert {*await shop.value(known, first.visitor)} == {
        (first.visitor, second.visitor),
        (second.visitor, first.visitor),
    }
    await together(first.load("/3"), second.load("/4"))
    assert {*await outcomes(shop.url, link)} == {"bound"}
    assert [await shop.who(tab) for tab in (first, second)] == [anna, anna]
    third = await shop.link(anna)
    assert [await shop.opened(third, tab) for tab in (first, second)] == ["already_bound"] * 2


async def test_a_receipt_that_all_the_world_shows_joins_no_more_than_a_few(shop: Shop) -> None:
    """Anybody can post any cookies: neither rows nor locks may grow with the square of that."""
    receipt, crowd = new_secret(), [shop.browser() for _ in range(9)]
    for one in crowd:
        one.become()
        one.give_receipt(receipt)
        await one.load("/")
    twins = "select count(*) from visitor_twin where visitor_id = any($1::uuid[])"
    assert await shop.value(twins, [one.visitor for one in crowd]) == 5 * 4
    chain = """
    with made as (
        select id, lead(id) over (order by n) as next
        from (select $1::uuid as id, 0 as n union all select gen_random_uuid(), n from generate_series(1, 500) n) m)
    insert into visitor_twin
    select id, next from made where next is not null union all select next, id from made where next is not null"""
    anna, browser = await shop.contact(), shop.browser()
    await shop.value(chain, browser.become())
    async with connected(shop.url) as conn:
        assert len(await visitors.list_browser(conn, [browser.visitor])) == 51
    assert await shop.opened(await shop.link(anna), browser) == "bound"


async def test_a_click_that_comes_out_of_the_spool_is_stitched_then(shop: Shop) -> None:
    anna, browser = await shop.contact(), shop.browser()
    link, receipt = await shop.link(anna), new_secret()
    browser.become()
    browser.give_receipt(receipt)
    await browser.load()
    assert await shop.who(browser) is None
    click = await shop.click(link, receipt=receipt, ago=timedelta(seconds=5))
    tracking = Tracking(WEB["link_base_url"], "", WEB["site_domains"], "implied")
    async with connected(shop.url) as conn:
        for _ in range(2):
            async with conn.transaction():
                await lock_proofs(conn, [digest(receipt)])
                await stitch_clicks(conn, [click], tracking, datetime.now(UTC))
    assert (await outcomes(shop.url, link), await shop.who(browser)) == (["bound"], anna)


async def test_a_page_and_its_click_that_are_stored_at_the_same_moment_meet(shop: Shop) -> None:
    anna, browser = await shop.contact(), shop.browser()
    link, receipt = await shop.link(anna), new_secret()
    browser.become()
    browser.give_receipt(receipt)
    waits = f"select count(*) from {LOCKS_HERE} where locktype = 'advisory' and classid = 7011 and not granted"
    async with connected(shop.url) as conn:
        async with conn.transaction():
            await lock_proofs(conn, [digest(receipt)])
            loading = asyncio.create_task(browser.load())
            await until(lambda: shop.value(waits))
            assert not loading.done()
            click = await shop.click(link, receipt=receipt)
        assert (await loading).status == 204
    assert (await shop.outcome(click), await shop.who(browser)) == ("bound", anna)


async def test_a_key_is_good_for_one_browser_once(shop: Shop) -> None:
    anna, key = await shop.contact(), new_secret()
    link = await shop.link(anna, target=f"{OTHER}/")
    await shop.click(link, key=key, site="other.example")
    browser, thief, late = (shop.browser(origin=OTHER) for _ in range(3))
    await browser.load(key=key)
    assert await outcomes(shop.url, link) == []
    await thief.load(key=key)
    await thief.load(key=key)
    assert (await outcomes(shop.url, link), await shop.who(thief)) == ([], None)
    await browser.load()
    assert (await outcomes(shop.url, link), await shop.who(browser)) == (["bound"], anna)
    late.become()
    await shop.click(link, key=(old := new_secret()), site="other.example", ago=6 * MINUTE)
    await late.load(key=old)
    assert await outcomes(shop.url, link) == ["bound"]
    again = await shop.click(link, key=(second := new_secret()), site="other.example")
    for _ in range(2):  # the tracker tries again
        await browser.load(key=second)
    assert await shop.outcome(again) == "already_bound"


# Whose it is --------------------------------------------------------------------------------------------------------


async def test_k4_a_forwarded_link_is_the_other_browsers_session_alone_until_it_shows_another(shop: Shop) -> None:
    anna, owner, second = await shop.contact(), shop.browser(), shop.browser()
    message = new_id()
    link, beside = await shop.link(anna, message=message), await shop.link(anna, message=message)
    assert await shop.opened(link, owner) == "bound"
    assert await shop.opened(link, second) == "session_only"
    assert await shop.opened(beside, second) == "session_only"
    assert await shop.who(second) is None
    assert await shop.value("select count(*) from web_event where visitor_id = $1", second.visitor) == 2
    assert await shop.bindings(anna) == 1
    first = await shop.value("select min(click_at) from landing where visitor_id = $1", second.visitor)
    assert await shop.opened(await shop.link(anna), second) == "confirmed"
    since = await shop.value("select lower(period) from visitor_binding where visitor_id = $1", second.visitor)
    assert (await shop.who(second), since) == (anna, first)


async def test_k4_a_suspect_link_binds_nobody(shop: Shop) -> None:
    anna, browser = await shop.contact(), shop.browser()
    link = await shop.link(anna)
    await shop.value("update tracked_link set suspect_at = now() where id = $1", link.id)
    assert await shop.opened(link, browser) == "session_only"
    assert await shop.value("select claimed_by from tracked_link where id = $1", link.id) is None


async def test_k5_another_contacts_link_ends_the_binding_and_k6_a_declared_one_stays(shop: Shop) -> None:
    anna, ben, browser = await shop.contact(), await shop.contact(), shop.browser()
    assert await shop.opened(await shop.link(anna), browser) == "bound"
    assert await shop.opened(await shop.link(ben), browser) == "moved"
    assert [await shop.who(browser), await shop.who(browser, ago=MINUTE)] == [ben, anna]
    declared = shop.browser()
    await declared.load()
    assert (await declared.identify(email=new_email())).status == 204
    carl = await shop.who(declared)
    assert carl
    assert await shop.opened(await shop.link(anna), declared) == "stays"
    assert await shop.who(declared) == carl


async def test_forty_first_clicks_at_once_have_one_claimant(shop: Shop) -> None:
    anna = await shop.contact()
    link = await shop.link(anna)
    browsers = [shop.browser() for _ in range(40)]
    for browser in browsers:
        await shop.click(link, browser)
    answers = await together(*(browser.load() for browser in browsers))
    assert [answer.status for answer in answers] == [204] * 40
    assert Counter(await outcomes(shop.url, link)) == {"bound": 1, "session_only": 39}
    claimant = await shop.value("select claimed_by from tracked_link where id = $1", link.id)
    bound = [browser.visitor for browser in browsers if await shop.who(browser)]
    assert bound == [claimant]
    assert await shop.bindings(anna) == 1
    claims = "select count(*) from identity_op where contact_id = $1 and changes ilike '%claim%'"
    assert await shop.value(claims, anna) == 1
    assert await shop.value("select count(*) > 0 from identity_flag where subject_id = $1", link.id)


async def test_a_link_that_names_nobody_is_landed_on_anonymously(shop: Shop) -> None:
    anna, browser = await shop.contact(), shop.browser()
    gone = await shop.contact()
    disabled = await shop.link(anna)
    erased = await shop.link(gone)
    await shop.value("update tracked_link set disabled_at = now() where id = $1", disabled.id)
    await shop.value("update contact set erased_at = now() where id = $1", gone)
    for link in (await shop.link(None), await shop.link(anna, ago=timedelta(days=31)), disabled, erased):
        assert await shop.opened(link, browser) == "anonymous"
        kept = await shop.value("select contact_id from landing where link_id = $1", link.id)
        assert (kept, await shop.who(browser)) == (None, None)
    assert await shop.opened(await shop.link(anna), browser) == "bound"


async def test_consent_is_judged_when_the_page_lands(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path, **WEB | {"tracking_consent": "required"}) as shop:
        anna, browser = await shop.contact(), shop.browser()
        assert await shop.opened(await shop.link(anna), browser) == "no_consent"
        assert await shop.value("select count(*) from landing where contact_id is not null") == 0
        body = {"status": "granted", "evidence": "she said so"}
        agreed = await shop.world.call("PUT", f"/v1/admin/consents/tracking/{shop.phones[anna]}", body)
        assert agreed.status == 200, agreed
        refusing = shop.browser()
        click = await shop.click(await shop.link(anna), refusing, opted_out=True)
        await refusing.load()
        assert await shop.outcome(click) == "no_consent"
        assert await shop.opened(await shop.link(anna), browser) == "bound"
        assert await shop.who(browser) == anna
        silent = shop.browser(consent="unset")
        click = await shop.click(await shop.link(anna), silent)
        await silent.load()
        assert (await shop.outcome(click), await shop.who(silent)) == (None, None)


async def test_reset_leaves_the_binding_and_starts_anew(shop: Shop) -> None:
    anna, browser = await shop.contact(), shop.browser()
    link = await shop.link(anna)
    assert await shop.opened(link, browser) == "bound"
    was = browser.visitor
    await browser.collect({"type": "reset", "age": 0})
    await browser.load()
    assert (await who(shop.url, was), await shop.who(browser)) == (anna, None)
    assert await shop.opened(link, browser) == "session_only"


async def test_services_that_may_know_the_profile_are_told(shop: Shop) -> None:
    scopes = ["read", "reply", "automate", "profiles"]
    crm, blind = await shop.world.service("crm", scopes=scopes), await shop.world.service("blind")
    for service in (crm, blind):
        await service.connect()
    await writes(shop.world.customer(MIA), crm, blind)
    mia = await shop.value("select contact_id from conversation limit 1")
    browser = shop.browser()
    link = await shop.link(mia)
    assert await shop.opened(link, browser) == "bound"
    await crm.endpoint.wait(lambda me: bool(me.of("visitor.identified")))
    (event,) = crm.endpoint.of("visitor.identified")
    assert browser.visitor
    said = event.data["visitor"]
    assert (said["id"], said["trust"], said["rule"]) == (public_id("vis", browser.visitor), "click", "K3")
    since = await shop.value("select lower(period) from visitor_binding where contact_id = $1", mia)
    assert datetime.fromisoformat(said["since"]) == since
    assert event.data["link"] == {"id": public_id("lnk", link.id)}
    assert event.data["contact"]["id"] == public_id("con", mia)
    await writes(shop.world.customer(MIA), crm, blind, text="Bye")
    assert not blind.endpoint.of("visitor.identified")


# What a page declares -----------------------------------------------------------------------------------------------


async def test_a_browsers_word_makes_a_profile_that_owns_nothing(shop: Shop) -> None:
    browser = shop.browser()
    await browser.load()
    phone, mail = new_phone(), new_email()
    answer = await browser.identify(email=mail.upper(), phone=phone.replace("+49151", "0151 "), consents=["whatsapp"])
    assert (answer.status, answer.body) == (204, b"")
    contact = await shop.who(browser)
    known = (
        "select array_agg((value, is_proved, is_declared) order by value) from contact_address where contact_id = $1"
    )
    assert await shop.value(known, contact) == [(phone, False, False), (mail, False, False)]
    said = "select array_agg(kind || ' ' || source) from consent_event where address_value = $1"
    assert await shop.value(said, phone) == ["pending browser"]
    before = await shop.value("select count(*) from contact")
    assert (await browser.identify(email=mail)).status == 204
    assert (await shop.who(browser), await shop.value("select count(*) from contact")) == (contact, before)


async def test_what_cannot_be_parsed_is_told_and_makes_nobody(shop: Shop) -> None:
    browser, before = shop.browser(), await shop.value("select count(*) from contact")
    answer = await browser.collect(
        page(), {"type": "identify", "age": 0, "email": "nonsense", "phone": "1", "consents": ["fax"]}
    )
    assert (answer.status, answer.json["code"], len(answer.cookies)) == (422, "invalid_request", 1)
    assert {fault["pointer"] for fault in answer.json["errors"]} == {"/email", "/phone", "/consents"}
    assert await shop.value("select count(*) from contact") == before
    assert await shop.value("select count(*) from web_event where session = $1", browser.session) == 1


async def test_a_landing_comes_before_what_is_declared_with_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """And while the database is away half way, the tracker's second try tells nothing twice."""
    anna, browser = await shop.contact(), shop.browser()
    link = await shop.link(anna)
    await shop.click(link, browser)
    mail, stored = new_email(), "select count(*) from web_event where session = $1"
    batch = page(), {"type": "identify", "age": 0, "email": mail}

    async def away(*_: Any) -> Any:
        raise Unavailable("not now")

    with monkeypatch.context() as broken:
        broken.setattr(collector, "declare_from_site", away)
        answer = await browser.collect(*batch)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert await shop.value(stored, browser.session) == 0
    assert (await browser.collect(*batch)).status == 204
    assert await shop.value(stored, browser.session) == 1
    assert (await outcomes(shop.url, link), await shop.who(browser)) == (["bound"], anna)
    mails = "select array_agg(value) from contact_address where contact_id = $1 and type = 'email'"
    assert await shop.value(mails, anna) == [mail]


async def test_the_sites_signature_makes_it_proved(shop: Shop) -> None:
    browser, mail = shop.browser(), new_email()
    await browser.load()
    said = signed(SECRET, await browser.handle(), email=mail, consents=["email"])
    assert (await browser.identify(**said)).status == 204
    contact = await shop.who(browser)
    known = "select array_agg((value, is_proved)) from contact_address where contact_id = $1"
    assert await shop.value(known, contact) == [(mail, True)]
    assert await shop.value("select trust from visitor_binding where visitor_id = $1", browser.visitor) == 3
    told = "select array_agg(kind || ' ' || source) from consent_event where address_value = $1"
    assert await shop.value(told, mail) == ["granted site"]
    again = await browser.identify(**said)
    assert (again.status, again.json["code"]) == (422, "handle_used")


async def test_a_signature_that_is_not_right_declares_nothing(shop: Shop) -> None:
    browser, other = shop.browser(), shop.browser()
    await together(browser.load(), other.load())
    now, mail = int(datetime.now(UTC).timestamp()), {"email": new_email()}
    used = signed(SECRET, await browser.handle(), nonce="nonce-of-before", **mail)
    assert (await browser.identify(**used)).status == 204
    before = await shop.value("select count(*) from identity_op")
    handle = await browser.handle()
    for name, code, said in [
        ("another secret", "invalid_signature", signed("another", handle, **mail)),
        ("another field", "invalid_signature", signed(SECRET, handle, **mail) | {"email": "ben@example.com"}),
        ("another phone", "invalid_signature", signed(SECRET, handle, **mail) | {"phone": new_phone()}),
        ("an old one", "signature_expired", signed(SECRET, handle, time=now - 360, **mail)),
        ("one to come", "signature_expired", signed(SECRET, handle, time=now + 360, **mail)),
        ("no handle", "invalid_handle", signed(SECRET, "x" * 70, **mail)),
        ("another's handle", "invalid_handle", signed(SECRET, await other.handle(), **mail)),
        ("a used nonce", "signature_used", signed(SECRET, handle, nonce="nonce-of-before", **mail)),
    ]:
        answer = await browser.identify(**said)
        assert (answer.status, answer.json["code"]) == (422, code), name
    assert await shop.value("select count(*) from identity_op") == before
    assert (await browser.identify(**signed(SECRET, handle, **mail))).status == 204, "what failed used nothing up"
