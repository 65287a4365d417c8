"""Who tapped a link, whose browser it is and who they say they are: every row of the scenario table (rules F, K, I)."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from hub.domain.change_codec import thing_key
from providers.simulator import Person, StatusPlan
from tests.support.database import Server
from tests.support.scenes import FOREIGN, PROFILES, SETTINGS, Shop, email, page, phone
from tests.support.talk import writes
from tests.support.web import GO
from tests.support.web import page as page_event
from tests.support.world import NUMBER, World, world

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOT_PEOPLE: list[tuple[str, dict[str, str]]] = [
    ("GET", {"User-Agent": ""}),
    ("GET", {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}),
    ("GET", {"User-Agent": "python-requests/2.32.5"}),
    ("GET", {"User-Agent": "curl/8.14.1"}),
    ("HEAD", {}),
    ("GET", {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"}),
]
"""Requests that no tap makes, on whichever medium."""
PREFETCHES: list[dict[str, str]] = [
    {"Sec-Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Purpose": "prefetch"},
    {"X-Moz": "prefetch"},
    {"X-Purpose": "preview"},
]
CARRIERS = {
    "sms": [
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 "
            "Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0"
        ),
    ],
    "whatsapp": [
        "WhatsApp/2.25.20.79 A",
        "WhatsApp/2.2534.4 W",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    ],
}
"""What the medium itself fetches for a preview: iMessage; WhatsApp and Meta."""
STRANGERS = {
    "sms": ["WhatsApp/2.25.20.79 A", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"],
    "whatsapp": [
        "TelegramBot (like TwitterBot)",
        "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    ],
}
"""Previews made elsewhere: somebody pasted the link there."""
IN_WHATSAPP = (
    "Mozilla/5.0 (Linux; Android 14; SM-S911B Build/UP1A.231005.007; wv) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Version/4.0 Chrome/139.0.7258.94 Mobile Safari/537.36 WA4A/2.25.21.81"
)
MEDIA = pytest.mark.parametrize("medium", ["sms", "whatsapp"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database_address(server: Server) -> AsyncIterator[str]:
    async with server.fresh() as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(database_address: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One hub for all of these, each with people and browsers of its own."""
    async with world(database_address, tmp_path_factory.mktemp("hub"), **SETTINGS) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(shared: World, database_address: str) -> Shop:
    return await open_shop(shared, database_address)


async def open_shop(made: World, database_url: str) -> Shop:
    """Two services that may know of profiles, and one that may not."""
    crm, helpdesk = [await made.service(name, scopes=PROFILES) for name in ("crm", "helpdesk")]
    books = await made.service("books")
    for service in (crm, helpdesk, books):
        await service.connect()
    return Shop(made, database_url, crm, helpdesk, books)


# Clicks and browsers --------------------------------------------------------------------------------------------------


async def test_k1_a_link_that_was_only_received_ties_nothing_to_anybody(shop: Shop) -> None:
    mia, device = phone(), shop.device()
    await device.views(page())
    sent = await shop.sms(mia, f"New: {page()}")
    await device.views(page())
    assert await shop.visits(mia) == []
    assert await shop.clicks(sent) == {}


@MEDIA
async def test_k3_a_landing_makes_the_last_30_days_and_all_that_follows_the_contacts(shop: Shop, medium: str) -> None:
    mia, device = phone(), shop.device()
    long_ago, recently, today = page("long ago"), page("recently"), page("today")
    for url in (long_ago, recently, today):
        await device.views(url)
    await shop.age_visit(long_ago, 31)
    await shop.age_visit(recently, 29)
    sent = await shop.writes(medium, mia, f"New: {page()}")
    target = await device.opens(sent.link)
    later = await device.views(page("later"))
    assert await shop.visits(mia) == [recently, today, target, later]
    assert await shop.clicks(sent) == {"person": 1}


async def test_k3_links_of_captions_and_buttons_are_links_too(shop: Shop) -> None:
    mia, device, targets = phone(), shop.device(), [page("caption"), page("button"), page("template")]
    caption = await shop.whatsapp(
        mia, f"Look: {targets[0]}", type="image", media={"url": "https://shop.example.com/hat.jpg"}
    )
    button = {"type": "cta_url", "text": "Your parcel", "title": "Track it", "url": targets[1]}
    parameters = [{"type": "text", "text": targets[2], "track": True}]
    components = [{"type": "button", "sub_type": "url", "index": "0", "parameters": parameters}]
    template = {"name": "spring_sale", "language": "en", "components": components}
    shop.world.simulator.templates, usual = [], shop.world.simulator.templates  # every template may be sent
    try:
        sent = [
            caption,
            await shop.whatsapp(mia, None, type="interactive", interactive=button),
            await shop.whatsapp(mia, None, type="template", template=template),
        ]
    finally:
        shop.world.simulator.templates = usual
    (suffix,) = json.loads(sent[2].body)["template"]["components"][0]["parameters"]
    links = [sent[0].link, sent[1].link, f"https://{GO}/{suffix['text']}"]
    assert [await device.opens(link) for link in links] == targets
    assert await shop.visits(mia) == targets


async def test_k3_a_click_alone_binds_nothing_before_its_landing(shop: Shop) -> None:
    mia, device = phone(), shop.device()
    before = await device.views(page())
    sent = await shop.sms(mia, f"New: {page()}")
    answer = await device.taps(sent.link)
    assert answer.status == 302
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "noindex" in answer.headers["x-robots-tag"]
    assert await shop.visits(mia) == []
    routed = await device.views(page("route"), kind="route")
    restored = await device.views(page("restored"), kind="restore")
    earlier = await device.views(page("earlier"), age=60_000)  # its tracker started before the click
    assert await shop.visits(mia) == []
    landed = await device.views(answer.location)
    assert await shop.visits(mia) == [earlier, before, routed, restored, landed]


@MEDIA
async def test_k1_a_tap_counts_from_when_the_provider_took_the_message(shop: Shop, medium: str) -> None:
    mia, simulator = phone(), shop.world.simulator
    simulator.status_plan, usual = StatusPlan.none(), simulator.status_plan  # its reports may be late, or never come
    try:
        sent = await shop.writes(medium, mia, f"New: {page()}")
        target = await shop.device().opens(sent.link)
    finally:
        simulator.status_plan = usual
    assert await shop.clicks(sent) == {"person": 1}
    assert await shop.visits(mia) == [target]


async def test_k3_further_links_in_the_same_browser_need_no_new_binding(shop: Shop) -> None:
    mia, device = phone(), shop.device()
    first = await device.opens((await shop.sms(mia, f"One: {page()}")).link)
    await shop.hears_of("visitor.identified", mia)
    second = await device.opens((await shop.whatsapp(mia, f"Two: {page()}")).link)
    third = await device.opens((await shop.whatsapp(mia, f"Three: {page()}")).link)
    assert await shop.visits(mia) == [first, second, third]
    assert len(await shop.told("visitor.identified", mia)) == 1
    assert len((await shop.contact(mia))["bindings"]) == 1


async def test_k3_other_devices_browsers_and_cleared_cookies_are_their_own_without_a_click(shop: Shop) -> None:
    mia, device, other = phone(), shop.device(), shop.device()
    target = await device.opens((await shop.sms(mia, f"New: {page()}")).link)
    await other.views(page("other"))
    device.forgets()
    await device.views(page("cleared"))
    assert await shop.visits(mia) == [target]


async def test_k4_the_same_link_on_a_second_device_joins_when_another_link_confirms_it(shop: Shop) -> None:
    mia, mobile, laptop = phone(), shop.device(), shop.device()
    first = await shop.sms(mia, f"One: {page('one')}")
    on_mobile = await mobile.opens(first.link)
    await laptop.views(page("before"))
    assert await laptop.opens(first.link) == on_mobile
    walked = await laptop.views(page("walked"))
    assert await shop.visits(mia) == [on_mobile]
    second = await shop.sms(mia, f"Two: {page('two')}")
    confirmed = await laptop.opens(second.link)
    after = await laptop.views(page("after"))
    assert await shop.visits(mia) == [on_mobile, on_mobile, walked, confirmed, after]


async def test_f2_a_link_tells_who_for_30_days_and_leads_there_for_90(shop: Shop) -> None:
    mia = phone()
    links = [(await shop.sms(mia, f"New: {page()}")).link for _ in range(4)]
    for link, days in zip(links, (29.9, 31, 89.9, 91), strict=True):
        await shop.age_link(link, days)
    devices = [shop.device() for _ in links]
    known = await devices[0].opens(links[0])
    for device, link in zip(devices[1:3], links[1:3], strict=True):
        await device.opens(link)
        await device.views(page("walked"))
    assert (await devices[3].taps(links[3])).status in {404, 410}
    assert await shop.visits(mia) == [known]


@MEDIA
async def test_k1_what_comes_before_the_person_is_ignored_and_the_person_is_first(shop: Shop, medium: str) -> None:
    mia, scout = phone(), shop.device()
    sent = await shop.writes(medium, mia, f"New: {page()}")
    previews = [("GET", {"User-Agent": agent}) for agent in CARRIERS[medium]]
    for method, headers in [*NOT_PEOPLE, *previews]:
        answer = await scout.request(method, f"/{sent.token}", headers)
        assert (answer.status, answer.cookies) == (302, ()), (method, headers)
    for headers in PREFETCHES:
        answer = await scout.taps(sent.link, **headers)
        assert (answer.status, answer.cookies) == (503, ()), headers
        assert answer.headers["cache-control"] == "no-store"
    await scout.views(page("scout"))
    device = shop.device(agent=IN_WHATSAPP)
    target = await device.opens(sent.link)
    assert await shop.visits(mia) == [target]
    await shop.hears_of("link.clicked", mia)
    assert len(await shop.told("link.clicked", mia)) == 1
    counted = await shop.clicks(sent)
    assert counted.pop("person") == 1
    assert sum(counted.values()) == len(NOT_PEOPLE) + len(previews) + len(PREFETCHES)


@MEDIA
async def test_k4_a_preview_made_elsewhere_makes_the_link_suspect(shop: Shop, medium: str) -> None:
    for agent in STRANGERS[medium]:
        mia, device = phone(), shop.device()
        sent = await shop.writes(medium, mia, f"One: {page()}")
        fetched = await shop.device().taps(sent.link, **{"User-Agent": agent})
        assert fetched.cookies == ()
        suspected = await device.opens(sent.link)
        assert await shop.visits(mia) == [], agent
        confirmed = await device.opens((await shop.writes(medium, mia, f"Two: {page()}")).link)
        assert await shop.visits(mia) == [suspected, confirmed], agent


async def test_k4_who_was_forwarded_a_link_is_nobody(shop: Shop) -> None:
    mia, owner, friend = phone(), shop.device(), shop.device()
    sent = await shop.whatsapp(mia, f"One {page('one')} and two {page('two')}")
    mine = await owner.opens(sent.links[0])
    await friend.opens(sent.links[0])
    await friend.views(page("friend"))
    await friend.opens(sent.links[1])  # a link that nobody opened, but of the same message
    assert await shop.visits(mia) == [mine]
    also_mine = await owner.opens(sent.links[1])
    assert await shop.visits(mia) == [mine, also_mine]


async def test_i6_a_friend_who_came_first_leaves_with_their_own_email(shop: Shop) -> None:
    mia, mail, friends = phone(), email("mia"), email("friend")
    await shop.knows(mia, mail)
    mine = await shop.visits(mia)
    sent = await shop.sms(mia, f"New: {page()}")
    friend = shop.device()
    history = [await friend.views(page("before")), await friend.opens(sent.link), await friend.views(page("after"))]
    assert await shop.visits(mia) == [*mine, *history]
    assert (await friend.identify(email=friends)).status == 204
    assert await shop.visits(mia) == mine
    assert await shop.visits(friends, operator=True) == history
    assert set(await shop.addresses(mia)) == {mia, mail}
    owner = shop.device()
    target = await owner.opens((await shop.sms(mia, f"Two: {page()}")).link)
    assert await shop.visits(mia) == [*mine, target]
    more = await friend.views(page("more"))
    assert await shop.visits(friends, operator=True) == [*history, more]


@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
async def test_i6_another_phone_than_the_link_went_to_is_another_person(shop: Shop, is_signed: bool) -> None:
    mia, other, device = phone(), phone(), shop.device()
    await shop.agrees(mia, "granted", "sms")
    target = await device.opens((await shop.sms(mia, f"New: {page()}")).link)
    assert await shop.visits(mia) == [target]
    said = await shop.signed(device, phone=other) if is_signed else {"phone": other}
    assert (await device.identify(**said)).status == 204
    assert await shop.addresses(mia) == [mia]
    assert await shop.consent("sms", mia) == "granted"
    assert await shop.visits(mia) == []
    assert await shop.visits(other, operator=True) == [target]


async def test_k5_two_contacts_on_one_browser_each_keep_their_time(shop: Shop) -> None:
    mia, ben, device = phone(), phone(), shop.device()
    before = await device.views(page("before"))
    mias = [before, await device.opens((await shop.sms(mia, f"New: {page()}")).link), await device.views(page("mia"))]
    bens = [await device.opens((await shop.whatsapp(ben, f"New: {page()}")).link), await device.views(page("ben"))]
    assert await shop.visits(mia) == mias
    assert await shop.visits(ben) == bens
    mias.append(await device.opens((await shop.sms(mia, f"Again: {page()}")).link))
    assert await shop.visits(mia) == mias
    assert await shop.visits(ben) == bens


async def test_k6_who_said_who_they_are_stays_so_whatever_they_click(shop: Shop) -> None:
    mia, mail, ben, device = phone(), email(), phone(), shop.device()
    mias = [await device.views(page("before"))]
    await shop.declares(phone=mia, email=mail, handle=await device.handle())
    mias.append(await device.views(page("mia")))
    mias.append(await device.opens((await shop.sms(ben, f"For Ben: {page()}")).link))
    assert await shop.visits(mia) == mias
    assert await shop.visits(ben) == []


async def test_k3_of_forty_first_clicks_at_once_one_claims_the_link(shop: Shop) -> None:
    mia, devices = phone(), [shop.device() for _ in range(40)]
    sent = await shop.sms(mia, f"New: {page()}")
    answers = await asyncio.gather(*(device.taps(sent.link) for device in devices))
    assert {answer.status for answer in answers} == {302}
    walks = [page(f"walker {n}") for n in range(40)]
    await asyncio.gather(*(d.views(a.location) for d, a in zip(devices, answers, strict=True)))
    await asyncio.gather(*(d.views(url) for d, url in zip(devices, walks, strict=True)))
    seen = [url for url in await shop.visits(mia) if url in walks]
    assert len(seen) == 1, seen
    assert len(await shop.visits(mia)) == 2
    assert await shop.clicks(sent) == {"person": 40}
    assert len(await shop.told("visitor.identified", mia)) == 1


async def test_what_no_person_does_binds_no_more(shop: Shop) -> None:
    mia = phone()
    shared_link = await shop.sms(mia, f"Shared: {page()}")
    for _ in range(6):
        await shop.device().opens(shared_link.link)
    assert len(await shop.done_to(mia)) == 2  # bound, and flagged once, however many there are
    report = await shop.crm.call("GET", f"/v1/messages/{shared_link.id}/links")
    assert report.json["items"][0]["suspect"] is True
    ben = phone()
    targets = [await shop.device().opens((await shop.sms(ben, f"{n}: {page()}")).link) for n in range(6)]
    assert await shop.visits(ben) == targets[:5]
    device, people = shop.device(), [phone() for _ in range(4)]
    opened = [await device.opens((await shop.sms(one, f"New: {page()}")).link) for one in people]
    assert [await shop.visits(one) for one in people[:2]] == [[url] for url in opened[:2]]
    assert await shop.visits(people[3]) == []


async def test_where_the_link_host_is_foreign_a_key_stands_in_for_the_cookies(server: Server, tmp_path: Path) -> None:
    settings = SETTINGS | {"link_base_url": f"https://{FOREIGN}", "collector_base_url": f"https://{GO}"}
    async with server.fresh() as url, world(url, tmp_path, **settings) as made:
        shop, mia = await open_shop(made, url), phone()
        target, anchored = page(), f"{page()}#top"
        first = await shop.sms(mia, f"New: {target}")
        answer = await shop.device(host=FOREIGN).taps(first.link)
        page_url, _, key = answer.location.partition("#_hk=")
        assert (page_url, bool(key)) == (target, True)
        device, thief = shop.device(), shop.device()
        await device.views(answer.location, key=key)
        walked = await device.views(page("walked"))  # its cookie has come back
        await thief.views(answer.location, key=key)
        await thief.views(page("thief"))
        assert await shop.visits(mia) == [target, walked]
        second = await shop.sms(mia, f"New: {anchored}")
        answer = await shop.device(host=FOREIGN).taps(second.link)
        page_url, _, key = answer.location.partition("&_hk=")
        assert (page_url, bool(key)) == (anchored, True)
        await shop.age_click(second, 6)
        late = await shop.visitor()
        await late.views(anchored, key=key)
        assert await shop.visits(mia) == [target, walked]


# Declarations ---------------------------------------------------------------------------------------------------------


async def test_i2_an_email_subscriber_gives_only_a_phone_and_stays_one_profile(shop: Shop) -> None:
    mail, number, device = email(), phone(), shop.device()
    contact = await shop.declares(email=mail)
    target = await device.opens((await shop.email_link(mail))["url"])
    assert await shop.visits(mail) == [target]
    assert (await device.identify(phone=number, consents=["sms"])).status == 204
    assert (await shop.contact(mail))["id"] == contact["id"]
    assert number in await shop.addresses(mail)
    assert await shop.consent("sms", number) == "pending"  # a browser's word is not enough
    said = await shop.signed(device, phone=number, consents=["sms"])
    assert (await device.identify(**said)).status == 204
    assert (await shop.contact(number))["id"] == contact["id"]
    assert await shop.consent("sms", number) == "granted"
    assert await shop.visits(mail) == [target]


async def test_profile_merge_suggested_is_told_to_who_may_know_of_both(shop: Shop) -> None:
    number, mail = phone(), email()
    known = {(await shop.declares(phone=number))["id"], (await shop.declares(email=mail))["id"]}
    await shop.declares(email=mail, phone=number)
    told = [set(data["candidate"]["contact_ids"]) for data in await shop.feed("profile.merge_suggested")]
    assert told.count(known) == 1
    answer = await shop.helpdesk.call("GET", "/v1/merge-candidates?limit=200")
    assert known not in [{side["id"] for side in one["contacts"]} for one in answer.json["items"]]


async def test_a_browsers_word_replaces_nothing_and_a_stop_outlives_every_declaration(shop: Shop) -> None:
    mia, mail, other = phone(), email(), phone()
    device = await shop.knows(mia, mail)
    await shop.agrees(mia, "granted", "sms")
    seen = await shop.visits(mia)
    for said in ({"phone": other}, {"email": mail, "phone": other}, {"phone": mia, "consents": ["sms"]}):
        assert (await device.identify(**said)).status == 204
        assert set(await shop.addresses(mia)) == {mia, mail}
        assert await shop.consent("sms", mia) == "granted"
        assert await shop.visits(mia) == seen
        assert await shop.contacts(other, operator=True) == []
    await shop.hears(shop.customer(mia, "sms"), "STOP")
    assert await shop.consent("sms", mia) == "revoked"
    await shop.declares(phone=mia, consents=["sms"])
    assert (await device.identify(phone=mia, consents=["sms"])).status == 204
    assert (await device.identify(**await shop.signed(device, phone=mia, consents=["sms"]))).status == 204
    assert await shop.consent("sms", mia) == "revoked"


async def test_i4_ones_own_number_in_whatever_spelling_is_no_other_person(shop: Shop) -> None:
    mia, device = phone(), shop.device()
    target = await device.opens((await shop.sms(mia, f"New: {page()}")).link)
    assert (await device.identify(phone=f"0{mia[3:6]} / {mia[6:]}")).status == 204
    assert await shop.visits(mia) == [target]
    assert [one["trust"] for one in (await shop.contact(mia))["bindings"]] == ["declared"]
    assert (await device.collect({"type": "reset", "age": 0})).status == 204
    await device.views(page("somebody else"))
    assert await shop.visits(mia) == [target]


async def test_i8_links_to_a_merged_contact_are_the_others_until_that_is_undone(shop: Shop) -> None:
    mia, ben, device = phone(), phone(), shop.device()
    await shop.sms(mia, "Hello")
    sent = await shop.sms(ben, f"New: {page()}")
    kept, absorbed = [(await shop.contact(one))["id"] for one in (mia, ben)]
    merged = await shop.crm.call("POST", f"/v1/contacts/{kept}/merge", {"contact_id": absorbed})
    assert merged.status == 200, merged  # by the parent of the one channel concerned
    target = await device.opens(sent.link)
    assert await shop.visits(mia) == [target]
    assert (await shop.contact(ben))["id"] == kept
    again = await shop.crm.call("POST", f"/v1/contacts/{kept}/merge", {"contact_id": absorbed})
    assert (again.status, again.json["code"]) == (409, "already_merged")
    refused = await shop.helpdesk.call("POST", f"/v1/contacts/{kept}/merge", {"contact_id": absorbed})
    assert (refused.status, refused.json["code"]) == (403, "merge_not_allowed")
    assert (await shop.undo(merged.json["operation_id"])).status == 200
    assert await shop.visits(mia) == []
    assert await shop.visits(ben) == [target]
    for kind in ("profile.merged", "profile.unmerged"):
        told = [data["merge"] for data in await shop.feed(kind)]
        assert [(one["contact_id"], one["merged_id"]) for one in told].count((kept, absorbed)) == 1, kind


@pytest.mark.parametrize("where", ["elsewhere", "in the same browser"])
async def test_i1_i5_an_opt_in_by_number_then_a_checkout_with_a_known_email(shop: Shop, where: str) -> None:
    number, mail, device = phone(), email(), await shop.visitor()
    subscriber = await shop.declares(email=mail)
    if where == "elsewhere":
        await shop.declares(phone=number, consents=["sms"])
    else:
        said = await shop.signed(device, phone=number, consents=["sms"])
        assert (await device.identify(**said)).status == 204
    fresh = await shop.contact(number, operator=True)
    assert await shop.addresses(number, operator=True) == [number]
    assert await shop.consent("sms", number) == "granted"
    await device.views(page())
    bought = await shop.declares(email=mail, phone=number, handle=await device.handle())
    assert bought["id"] == subscriber["id"]
    assert (await shop.contact(number, operator=True))["id"] == fresh["id"]
    assert (await shop.contact(mail))["id"] == subscriber["id"]
    assert await shop.addresses(mail) == [mail]
    assert await shop.consent("sms", number) == "granted"
    later = await device.views(page())
    assert (await shop.visits(mail))[-1] == later  # the browser is the email's from now on
    assert later not in await shop.visits(number, operator=True)
    assert await shop.candidates(subscriber["id"]) == [{subscriber["id"], fresh["id"]}]


@pytest.mark.parametrize("is_proved", [False, True], ids=["declared before", "proved before"])
@pytest.mark.parametrize("consents", [[], ["sms"]], ids=["without consent", "with consent"])
async def test_i3_a_purchase_with_another_number_replaces_it(shop: Shop, consents: list[str], is_proved: bool) -> None:
    mail, old, new = email(), phone(), phone()
    if is_proved:
        await shop.knows(old, mail)
        await shop.agrees(old, "granted", "sms")
    else:
        await shop.declares(email=mail, phone=old, consents=["sms"])
    contact = await shop.contact(mail)
    assert await shop.consent("sms", old) == "granted"
    bought = await shop.declares(email=mail, phone=new, consents=consents)
    assert bought["id"] == contact["id"]
    assert set(await shop.addresses(mail)) == {mail, new}
    assert await shop.consent("sms", old) == "revoked"
    assert await shop.consent("sms", new) == ("granted" if consents else "unknown")
    assert await shop.contacts(old) == []
    told = [data["consent"] for data in await shop.feed("consent.changed")]
    changes = [(one["address"], one["status"]) for one in told if one["medium"] == "sms"]
    expected = [(old, "granted"), (old, "revoked")] + [(new, "granted")] * len(consents)
    assert [one for one in changes if one[0] in {old, new}] == expected
    campaign = await shop.campaign(new)
    assert campaign.status == (202 if consents else 409), campaign
    assert (await shop.campaign(old)).json["code"] == "no_consent"


async def test_i3_a_number_that_was_given_up_can_be_agreed_to_again(shop: Shop) -> None:
    mail, old, new = email(), phone(), phone()
    for number in (old, new, old):
        await shop.declares(email=mail, phone=number, consents=["sms"])
    assert (await shop.consent("sms", old), await shop.consent("sms", new)) == ("granted", "revoked")
    await shop.agrees(new, "granted", "sms")  # whoever has it now
    assert await shop.consent("sms", new) == "granted"


async def test_i3_whoever_has_a_given_up_number_now_can_be_answered(shop: Shop) -> None:
    mail, old = email(), phone()
    await shop.declares(email=mail, phone=old, consents=["sms"])
    await shop.declares(email=mail, phone=phone())
    assert (await shop.campaign(old)).json["code"] == "no_consent"
    assert await shop.consent("sms", old) == "revoked"
    customer = shop.customer(old, "sms")
    conversation = await writes(customer, shop.crm, text=f"Hello from {old}")
    assert (await shop.crm.reply(conversation, "Hello")).status == 202
    assert await shop.consent("sms", old) == "unknown"


@pytest.mark.parametrize("number", ["12", "+49 15", "not a number", "+999123456789", "+491511234567890123"])
async def test_a_number_that_cannot_be_parsed_is_refused_and_makes_nothing(shop: Shop, number: str) -> None:
    mail, device = email(), await shop.visitor()
    handle = await device.handle()
    answer = await shop.crm.call("POST", "/v1/identify", {"email": mail, "phone": number, "handle": handle})
    assert answer.status == 422, answer
    assert answer.json["code"]
    assert answer.json["detail"]
    assert await shop.contacts(mail, operator=True) == []
    said = await device.identify(email=mail, phone=number)
    assert said.status == 422, said
    assert said.json["code"] == answer.json["code"]
    assert await shop.contacts(mail, operator=True) == []
    used = await shop.declares(email=mail, handle=handle)  # it was not used up
    assert (await shop.contact(mail))["id"] == used["id"]


async def test_the_same_number_in_another_spelling_is_the_same_number(shop: Shop) -> None:
    number = phone()
    contact = await shop.declares(phone=number)
    for spelling in (f"0{number[3:]}", f"0049 {number[3:7]} {number[7:]}", f"+49 ({number[3:7]}) {number[7:]}"):
        assert (await shop.declares(phone=spelling))["id"] == contact["id"], spelling
    assert await shop.addresses(number) == [number]


@pytest.mark.parametrize("by", ["browser", "backend"])
async def test_three_people_who_register_in_one_browser_are_three(shop: Shop, by: str) -> None:
    device, people = shop.device(), [(email(), phone()) for _ in range(3)]
    seen = [[await device.views(page("before"))], [], []]
    for (mail, number), visits in zip(people, seen, strict=True):
        if by == "browser":
            assert (await device.identify(email=mail, phone=number)).status == 204
        else:
            await shop.declares(email=mail, phone=number, handle=await device.handle())
        visits += [await device.views(page(mail)), await device.views(page(mail))]
    ids = set()
    for (mail, number), visits in zip(people, seen, strict=True):
        assert await shop.visits(mail, operator=True) == visits
        found = await shop.contact(mail, operator=True)
        assert set(await shop.addresses(mail, operator=True)) == {mail, number}
        ids.add(found["id"])
    assert len(ids) == 3


async def test_of_twenty_declarations_of_one_number_at_once_one_owns_it(shop: Shop) -> None:
    number, mails = phone(), [email() for _ in range(20)]
    made = await asyncio.gather(*(shop.declares(email=mail, phone=number) for mail in mails))
    owner = (await shop.contact(number))["id"]
    assert len({one["id"] for one in made}) == 20
    assert owner in {one["id"] for one in made}
    having = [mail for mail in mails if number in await shop.addresses(mail)]
    assert len(having) == 1
    pairs = await shop.candidates(owner)
    assert len(pairs) == 19
    alone = phone()
    same = await asyncio.gather(*(shop.declares(phone=alone) for _ in range(20)))
    assert len({one["id"] for one in same}) == 1


async def test_an_address_that_a_browser_declared_is_never_written_to_or_matched(shop: Shop) -> None:
    mail, number, device = email(), phone(), await shop.visitor()
    assert (await device.identify(email=mail, phone=number, consents=["sms", "whatsapp"])).status == 204
    declared = await shop.contact(mail, operator=True)
    assert await shop.consent("sms", number) == "pending"
    assert await shop.consent("whatsapp", number) == "pending"
    refused = await shop.campaign(number)
    assert (refused.status, refused.json["code"]) == (409, "no_consent")
    conversation = await shop.hears(shop.customer(number, "sms"), f"It is me {number}")
    view = await shop.crm.call("GET", f"/v1/conversations/{conversation}")
    assert view.json["contact"]["id"] != declared["id"]
    assert await shop.candidates(declared["id"]) == [{declared["id"], view.json["contact"]["id"]}]
    sent = await shop.sms(number, f"New: {page()}")
    assert sent.conversation == conversation


# Who they may be ------------------------------------------------------------------------------------------------------


async def test_contacts_known_by_anything_and_nobody_at_all(shop: Shop) -> None:
    by_phone, by_mail, user_id = phone(), email(), f"DE.{phone()[1:]}"
    await shop.sms(by_phone, "Hello")
    assert await shop.addresses(by_phone) == [by_phone]
    await shop.declares(email=by_mail)
    devices = {key: shop.device() for key in (by_mail, user_id)}
    targets = {by_mail: await devices[by_mail].opens((await shop.email_link(by_mail))["url"])}
    hidden = await shop.whatsapp(Person(user_id=user_id, name="Bo"), f"New: {page()}")
    targets[user_id] = await devices[user_id].opens(hidden.link)
    for address, target in targets.items():
        assert await shop.visits(address) == [target]
    assert await shop.addresses(user_id) == [user_id]
    nobody = shop.device()
    link = await shop.email_link(None)
    assert len(link["url"].rsplit("/", 1)[1]) == 8
    await nobody.opens(link["url"])
    unknown = email()
    assert await shop.contacts(unknown, operator=True) == []
    assert (await nobody.identify(email=unknown)).status == 204
    assert len(await shop.visits(unknown, operator=True)) == 1  # what nobody did becomes theirs


async def test_c1_other_services_see_that_a_link_was_sent_and_clicked_and_never_where_it_leads(shop: Shop) -> None:
    mia, device, target = phone(), shop.device(), page("very-secret-offer")
    since = quote(datetime.now(UTC).isoformat())
    sent = await shop.sms(mia, f"New: {target}")
    assert (await device.taps(sent.link)).status == 302
    landed = await device.views(page("landed"))  # the site led on
    mine, theirs = [await shop.hears_of("link.clicked", mia, one) for one in (shop.crm, shop.helpdesk)]
    assert target in json.dumps(mine)
    assert theirs["link"]["id"] == mine["link"]["id"]
    contact = (await shop.contact(mia))["id"]
    paths = [
        f"/v1/messages/{sent.id}",
        f"/v1/messages/{sent.id}/links",
        f"/v1/links/{mine['link']['id']}",
        f"/v1/contacts/{contact}/timeline",
        f"/v1/contacts/{contact}",
        f"/v1/conversations/{sent.conversation}/messages",
    ]
    for path in paths:
        answer = await shop.helpdesk.call("GET", path)
        assert answer.status == 200, (path, answer)
        assert "very-secret-offer" not in json.dumps(answer.json), path
    assert await shop.clicks(sent, by=shop.helpdesk) == {"person": 1}
    assert "very-secret-offer" in json.dumps((await shop.crm.call("GET", paths[1])).json)
    assert landed in json.dumps((await shop.helpdesk.call("GET", paths[3])).json)
    for delivery in shop.helpdesk.endpoint.deliveries + shop.books.endpoint.deliveries:
        assert "very-secret-offer" not in json.dumps(delivery.data), delivery.type
    for service in (shop.helpdesk, shop.books):
        assert "very-secret-offer" not in json.dumps(
            (await service.call("GET", "/v1/events?limit=200&since=" + since)).json
        )
    assert not [one for one in shop.books.endpoint.deliveries if one.type.startswith(("link.", "visitor.", "profile."))]
    alone = await shop.world.service("alone", plan="standalone", scopes=PROFILES)
    await alone.connect()
    assert (await alone.call("GET", f"/v1/contacts?address={quote(mia)}")).json["items"] == []
    for path in paths:
        assert (await alone.call("GET", path)).status == 404, path
    for path in (f"/v1/messages/{sent.id}/links", f"/v1/contacts/{contact}", f"/v1/contacts?address={quote(mia)}"):
        refused = await shop.books.call("GET", path)
        assert (refused.status, refused.json["code"]) == (403, "missing_scope"), path
    secrets = [sent.token, device.ip, *(cookie.value for cookie in device.jar.values())]
    assert await shop.found(*secrets) == {}  # hashes and networks are all that is kept


# Refusals -------------------------------------------------------------------------------------------------------------


async def test_f4_global_privacy_control_is_a_refusal(shop: Shop) -> None:
    mia, device = phone(), shop.device(has_gpc=True)
    sent = await shop.sms(mia, f"New: {page()}")
    answer = await device.taps(sent.link)
    assert (answer.status, answer.cookies) == (302, ())
    landed = await device.collect({"type": "page", "kind": "load", "url": answer.location, "age": 0})
    assert (landed.status, landed.cookies) == (204, ())
    assert await shop.visits(mia) == []
    changed = shop.device()
    assert (await changed.taps(sent.link)).cookies
    changed.has_gpc = True
    await changed.views(answer.location)
    assert await shop.visits(mia) == []
    changed.has_gpc = False
    changed.consent = "denied"
    await changed.views(answer.location)
    assert await shop.visits(mia) == []


@pytest.mark.parametrize("mode", ["required", "implied", "off"])
async def test_f4_consent_gates_the_token_the_cookie_and_the_binding(server: Server, tmp_path: Path, mode: str) -> None:
    async with server.fresh() as url, world(url, tmp_path, **SETTINGS | {"tracking_consent": mode}) as made:
        await _passes_the_gates(await open_shop(made, url), mode)


async def _passes_the_gates(shop: Shop, mode: str) -> None:
    expected = {
        "required": {"unknown": (8, False, False), "granted": (11, True, True), "revoked": (8, False, False)},
        "implied": {"unknown": (11, True, True), "granted": (11, True, True), "revoked": (8, True, False)},
        "off": {"unknown": (11, True, True), "granted": (11, True, True), "revoked": (11, True, True)},
    }[mode]
    for status, (length, has_cookie, is_bound) in expected.items():
        mia, device = phone(), shop.device(consent="granted")
        if status != "unknown":
            await shop.agrees(mia, status)
        sent = await shop.sms(mia, f"New: {page()}")
        assert len(sent.token) == length, status
        answer = await device.taps(sent.link)
        assert (answer.status, bool(answer.cookies)) == (302, has_cookie), status
        await device.views(answer.location)
        assert bool(await shop.visits(mia)) is is_bound, status
    await _changes_their_mind(shop, is_asked=mode != "off")
    if mode == "required":
        await _did_not_agree_on_the_site(shop)


async def test_f4_who_takes_consent_back_is_tracked_no_more(shop: Shop) -> None:
    mia, device = phone(), shop.device()
    target = await device.opens((await shop.sms(mia, f"New: {page()}")).link)
    await shop.agrees(mia, "revoked")
    assert (await shop.contact(mia))["tracked"] is False
    await device.views(page("after"))
    assert await shop.visits(mia) == [target]


async def _changes_their_mind(shop: Shop, is_asked: bool) -> None:
    """Consent is taken back between the click and the landing, or the browser refuses."""
    mia, device = phone(), shop.device(consent="granted")
    await shop.agrees(mia, "granted")
    sent = await shop.sms(mia, f"New: {page()}")
    answer = await device.taps(sent.link)
    await shop.agrees(mia, "revoked")
    await device.views(answer.location)
    assert bool(await shop.visits(mia)) is not is_asked
    ben, refusing = phone(), shop.device(consent="granted")
    await shop.agrees(ben, "granted")
    answer = await refusing.taps((await shop.sms(ben, f"New: {page()}")).link)
    refusing.consent = "denied"
    await refusing.views(answer.location)
    assert await shop.visits(ben) == []


async def _did_not_agree_on_the_site(shop: Shop) -> None:
    mia, device = phone(), shop.device(consent="unset")
    await shop.agrees(mia, "granted")
    answer = await device.taps((await shop.sms(mia, f"New: {page()}")).link)
    landed = await device.collect({"type": "page", "kind": "load", "url": answer.location, "age": 0})
    assert (landed.status, landed.cookies) == (204, ())
    assert await shop.visits(mia) == []


# Taken back -----------------------------------------------------------------------------------------------------------


async def test_i8_undoing_everything_in_reverse_order_brings_back_what_was(shop: Shop) -> None:
    mia, new_phone, mail, other_mail, alone = phone(), phone(), email("mia"), email("friend"), phone()
    mobile, laptop, friend = shop.device(), shop.device(), shop.device()
    first, second, third = [await shop.sms(mia, f"{n}: {page()}") for n in "123"]
    await shop.agrees(mia, "granted", "sms")
    hello = await shop.device().opens((await shop.sms(alone, f"Hello: {page('hello')}")).link)
    people = [mia, new_phone, mail, other_mail, alone]

    async def registers() -> None:
        await shop.declares(email=mail, handle=await mobile.handle())

    async def is_confirmed() -> None:
        await laptop.opens(first.link)
        await laptop.opens(third.link)

    async def leaves() -> None:
        assert (await friend.identify(email=other_mail)).status == 204

    async def merges() -> None:
        kept, absorbed = [(await shop.contact(one, operator=True))["id"] for one in (mail, alone)]
        answer = await shop.world.call("POST", f"/v1/admin/contacts/{kept}/merge", {"contact_id": absorbed})
        assert answer.status == 200, answer
        assert hello in await shop.visits(mail)

    steps: list[Callable[[], Awaitable[Any]]] = [
        lambda: mobile.opens(first.link),
        registers,
        is_confirmed,
        lambda: friend.opens(second.link),
        leaves,
        lambda: shop.declares(email=mail, phone=new_phone, consents=["sms"]),
        lambda: shop.declares(email=mail, phone=alone),
        merges,
    ]
    states, operations = [await shop.state(*people)], list[str]()
    known = set(await shop.done_to(*people))
    for step in steps:
        await step()
        (new,) = set(await shop.done_to(*people)) - known
        known.add(new)
        operations.append(new)
        states.append(await shop.state(*people))
    assert all(before != after for before, after in pairwise(states))
    refused = await shop.undo(operations[0])
    assert (refused.status, refused.json["code"]) == (409, "undo_order")
    for operation, before in zip(reversed(operations), reversed(states[:-1]), strict=True):
        answer = await shop.undo(operation)
        assert answer.status == 200, answer
        assert comparable(await shop.state(*people)) == comparable(before)
    again = await shop.undo(operations[0])
    assert (again.status, again.json["code"]) == (409, "already_undone")


def comparable(state: Any) -> Any:
    """A state as text, so that a difference shows."""
    return json.dumps(state, indent=1, sort_keys=True)


async def test_erasure_leaves_nothing_to_read_and_nothing_to_bind(shop: Shop) -> None:
    mia, mail, name, device = phone(), email("erika"), f"Erika{phone()[-6:]}", shop.device(ip="203.0.113.7")
    secret, url = f"Geheimtext{phone()[-6:]}", page("geheime-seite")
    person = Person(mia, name=name, username=f"u{name.lower()}")
    await shop.hears(shop.world.customer(person), f"Hello, {secret}")
    sent = await shop.sms(mia, f"{secret} {page('first')}")
    unopened = await shop.sms(mia, f"{secret} {page('second')}")
    contact = (await shop.contact(mia))["id"]
    await device.opens(sent.link)
    await device.views(url)
    assert (await device.identify(**await shop.signed(device, email=mail))).status == 204
    await shop.agrees(mia, "granted", "sms")
    other_mail = email("maria")
    absorbed = await shop.declares(email=other_mail)
    merged = await shop.world.call("POST", f"/v1/admin/contacts/{contact}/merge", {"contact_id": absorbed["id"]})
    assert merged.status == 200, merged
    words = [mia, mia[1:], mail, other_mail, name, name.lower(), secret, "geheime-seite", "203.0.113"]
    before = set(await shop.found(*words))
    assert before >= {"click_origin", "contact", "contact_address", "consent_event", "event", "message", "web_event"}
    operations = await shop.operations(contact)
    assert len(operations) >= 3
    erased = await shop.world.call("DELETE", f"/v1/admin/contacts/{contact}")
    assert erased.status in {200, 204}, erased
    assert await shop.found(*words) == {}
    assert await shop.contacts(mia, operator=True) == []
    view = await shop.world.call("GET", f"/v1/admin/contacts/{contact}")
    assert (view.json["erased"], view.json["addresses"], view.json["bindings"]) == (True, [], [])
    late = shop.device()
    answer = await late.taps(unopened.link)
    if answer.status == 302:
        await late.views(answer.location)
    await device.views(page("after"))
    assert await shop.contacts(mia, operator=True) == []
    for operation in operations:
        refused = await shop.undo(operation)
        assert (refused.status, refused.json["code"]) == (409, "not_undoable")
    await shop.hears(shop.customer(mia), "It is me again")
    assert (await shop.contact(mia))["id"] != contact


async def test_what_an_erased_customer_refused_stays_refused(shop: Shop) -> None:
    mia = phone()
    await shop.hears(shop.customer(mia, "sms"))
    await shop.hears(shop.customer(mia, "sms"), "STOP")
    contact = (await shop.contact(mia))["id"]
    assert (await shop.world.call("DELETE", f"/v1/admin/contacts/{contact}")).status in {200, 204}
    assert await shop.found(mia, mia[1:]) == {}
    refused = await shop.crm.call("POST", "/v1/messages", sms_to(mia))
    assert (refused.status, refused.json["code"]) == (409, "no_consent")
    await shop.declares(phone=mia, consents=["sms"])
    refused = await shop.crm.call("POST", "/v1/messages", sms_to(mia))
    assert (refused.status, refused.json["code"]) == (409, "no_consent")


def sms_to(number: str) -> dict[str, Any]:
    """An agent's SMS."""
    agent = {"id": "agent-7", "name": "Ana"}
    return {"to": number, "medium": "sms", "from": NUMBER, "origin": "agent", "agent": agent, "text": "Hello"}


# What concerns others, and what nobody agreed to ----------------------------------------------------------------------


async def friends_device(shop: Shop, anna: str) -> tuple[str, str, str]:
    """Anna's friend opens a link of hers, and says who they are: her contact, and the friend's email and phone."""
    mail, friend, device = email("friend"), phone(), shop.device()
    await device.opens((await shop.sms(anna, f"New: {page()}")).link)
    said = await shop.signed(device, email=mail, phone=friend, consents=["sms"])
    assert (await device.identify(**said)).status == 204
    return (await shop.contact(anna))["id"], mail, friend


async def test_h5_operations_tell_of_their_own_contact_only(shop: Shop) -> None:
    contact, mail, friend = await friends_device(shop, phone())
    answer = await shop.helpdesk.call("GET", f"/v1/contacts/{contact}/operations")
    assert [one["rule"] for one in answer.json["items"]] == ["I6", "K3"]
    assert [change["type"] for change in answer.json["items"][0]["changes"]] == ["binding_retracted"]
    assert [change["type"] for change in answer.json["items"][1]["changes"]] == ["link_claimed", "visitor_bound"]
    exported = await shop.world.call("GET", f"/v1/admin/contacts/{contact}/export")
    for told in (answer, exported):
        assert not [one for one in (mail, friend) if one in json.dumps(told.json)]


async def test_h5_an_export_has_the_consents_of_all_ones_own_addresses_and_of_no_others(shop: Shop) -> None:
    mail, old, victim, device = email(), phone(), phone(), shop.device()
    contact = (await shop.declares(email=mail, phone=old, consents=["sms"]))["id"]
    await shop.declares(email=mail, phone=phone())
    typist = await shop.declares(email=email("typist"))
    await device.opens((await shop.email_link(typist["addresses"][0]["value"]))["url"])
    assert (await device.identify(phone=victim)).status == 204
    await shop.hears(shop.customer(victim, "sms"))
    await shop.agrees(victim, "granted", "sms")
    exported = await shop.world.call("GET", f"/v1/admin/contacts/{contact}/export")
    said = {(one["address"], one["kind"]) for one in exported.json["consent_history"] if one["medium"] == "sms"}
    assert said == {(old, "granted"), (old, "replaced")}
    exported = await shop.world.call("GET", f"/v1/admin/contacts/{typist['id']}/export")
    assert (exported.json["consent_history"], exported.json["contact"]["consents"]) == ([], [])


async def test_h5_who_may_be_the_same_is_shown_to_those_who_may_know_both(shop: Shop) -> None:
    number, mail = phone(), email()
    await shop.hears(shop.customer(number))
    known, other = (await shop.contact(number))["id"], (await shop.declares(email=mail))["id"]
    await shop.declares(email=mail, phone=number)
    for service, shown in ((shop.crm, [other]), (shop.helpdesk, [])):
        view = await service.call("GET", f"/v1/contacts/{known}")
        assert [one["contact_id"] for one in view.json["candidates"]] == shown


async def test_h5_visits_at_one_moment_are_on_one_page_each(shop: Shop) -> None:
    mail, device = email(), await shop.visitor()
    await shop.declares(email=mail, handle=await device.handle())
    urls = [page("moment") for _ in range(5)]
    assert (await device.collect(*(page_event(url, kind="route") for url in urls))).status == 204
    visitor = (await shop.contact(mail))["bindings"][0]["visitor_id"]
    seen: list[str] = []
    path: str | None = f"/v1/visitors/{visitor}?limit=2"
    while path:
        answer = await shop.crm.call("GET", path)
        seen += [visit["url"] for visit in answer.json["visits"]]
        following = answer.json["next"]
        path = f"/v1/visitors/{visitor}?limit=2&before={quote(following)}" if following else None
    assert (len(seen), sorted(set(urls) & set(seen))) == (6, sorted(urls))


async def test_i2_what_somebody_typed_is_in_no_event_of_consent(shop: Shop) -> None:
    mail, number, device = email(), phone(), shop.device()
    await shop.declares(email=mail)
    await device.opens((await shop.email_link(mail))["url"])
    assert (await device.identify(phone=number, consents=["sms"])).status == 204
    assert (await device.identify(email=mail, consents=["email"])).status == 204
    told = await shop.told("consent.changed", mail)
    assert [(one["consent"]["address"], one["consent"]["status"]) for one in told] == [(mail, "pending")]
    await shop.declares(email=mail, phone=number, consents=["sms"])  # confirms it
    told = await shop.told("consent.changed", mail)
    assert [(one["consent"]["address"], one["consent"]["status"]) for one in told[1:]] == [(number, "granted")]


async def test_i3_what_was_agreed_to_for_the_new_number_is_not_said_of_the_old(shop: Shop) -> None:
    mail, old, new = email(), phone(), phone()
    conversation = await shop.hears(shop.customer(old, "sms"))
    await shop.declares(email=mail, contact_id=(await shop.contact(old))["id"])
    await shop.declares(email=mail, phone=new, consents=["sms"])
    again = await shop.hears(shop.customer(old, "sms"))
    assert again != conversation
    body = {"origin": "campaign", "campaign": "x", "type": "text", "text": "Buy!"}
    for to in (conversation, again):
        refused = await shop.crm.call("POST", f"/v1/conversations/{to}/messages", body)
        assert (refused.status, refused.json["code"]) == (409, "no_consent"), to
        assert (await shop.crm.reply(to, "Hello")).status == 202
    assert (await shop.campaign(new)).status == 202


async def test_i3_whoever_has_a_given_up_number_now_has_refused_nothing(shop: Shop) -> None:
    mail, old = email(), phone()
    await shop.declares(email=mail, phone=old)
    await shop.declares(email=mail, phone=phone())
    await shop.hears(shop.customer(old, "sms"))
    contact = await shop.contact(old)
    assert (contact["tracked"], {one["status"] for one in contact["consents"]}) == (True, {"unknown"})


@pytest.mark.parametrize("how", ["new", "known"])
async def test_f4_who_refused_under_an_address_is_bound_by_it_to_no_browser(shop: Shop, how: str) -> None:
    mail, number, device = email(), phone(), await shop.visitor()
    await shop.agrees(mail, "revoked")
    named = {"contact_id": (await shop.declares(phone=number))["id"]} if how == "known" else {}
    said = {"email": mail, "handle": await device.handle()} | named
    answer = await shop.crm.call("POST", "/v1/identify", said)
    assert answer.json["notes"] == ["refused"]
    contact = await shop.contact(mail)
    assert (contact["tracked"], contact["bindings"]) == (False, [])


async def test_erasure_forgets_numbers_that_were_given_up(shop: Shop) -> None:
    mail, old, new = email(), phone(), phone()
    contact = (await shop.declares(email=mail, phone=old, consents=["sms"]))["id"]
    await shop.declares(email=mail, phone=new)
    hashes = [thing_key(("address", one))[8:] for one in (("email", mail), ("phone", old), ("phone", new))]
    assert "identity_op_thing" in await shop.found(*hashes)
    assert (await shop.world.call("DELETE", f"/v1/admin/contacts/{contact}")).status == 200
    assert await shop.found(mail, old[1:], new[1:], *hashes) == {}
    assert await shop.consent("sms", old) == "revoked"
    assert (await shop.campaign(old)).json["code"] == "no_consent"
    customer = shop.customer(old, "sms")
    assert (await shop.crm.reply(await shop.hears(customer), "Hello")).status == 202
    assert await shop.consent("sms", old) == "unknown"
