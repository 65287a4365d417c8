"""A contact's timeline with what it did on the web: whose a visit was is found when it is read (rules C1, C3, H5)."""

import random
from datetime import timedelta
from typing import Any

from hub.domain.timeline import CLICKS, VISITS, decode, encode
from tests.support.people import SCOPES, People, ago, get
from tests.support.talk import MIA, pages, writes
from tests.support.wire import connected
from tests.support.world import Service, World

SHOP = "https://shop.example"


async def cast(world: World) -> tuple[Service, Service]:
    """CRM may know of profiles, helpdesk may not; Mia has written to both."""
    helpdesk, crm = await world.service("helpdesk"), await world.service("crm", scopes=SCOPES)
    for service in (helpdesk, crm):
        await service.connect()
    return helpdesk, crm


def label(item: dict[str, Any]) -> str:
    """What a timeline's item is, in one word."""
    return str(item.get("text") or item.get("url") or item["link"]["id"])


async def labels(service: Service, contact: str, query: str = "?after=0") -> list[str]:
    return [label(item) for item in (await get(service, f"/v1/contacts/{contact}/timeline{query}"))["items"]]


async def test_c3_messages_visits_and_clicks_in_one_order(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await cast(hub_world)
    chat, sms = hub_world.customer(MIA), hub_world.customer(MIA, provider="twilio", medium="sms")
    conversation = await writes(chat, helpdesk, crm, text="on WhatsApp")
    await writes(sms, helpdesk, crm, text="by SMS")
    sent = await crm.reply(conversation, "See this")
    message = sent.json["message"]["id"]
    contact = (await get(crm, f"/v1/conversations/{conversation}"))["contact"]["id"]
    async with connected(database_url) as conn:
        people = People(conn)
        browser, other = await people.visitor(), await people.visitor()
        channel = crm.connection["channel_id"]
        mine = await people.link(contact, f"{SHOP}/offer", crm, message=message, channel=channel)
        theirs = await people.link(contact, f"{SHOP}/help", helpdesk, message=message, channel=channel)
        await people.bind(browser, contact, ago(hours=10), ago(hours=2), link=mine)
        at = {name: ago(hours=hours) for name, hours in (("0", 11), ("1", 10), ("2", 5), ("3", 4), ("4", 2), ("5", 1))}
        for name, moment in at.items():
            await people.visit(browser, moment, f"{SHOP}/{name}", "engaged" if name == "3" else "page")
        await people.visit(browser, at["2"], f"{SHOP}/2b")  # at the very same moment
        await people.visit(other, at["2"], f"{SHOP}/of-somebody-else")
        await people.visit(None, at["2"], f"{SHOP}/without-consent")
        await people.click(mine, browser, at["2"] - timedelta(minutes=1), message)
        await people.click(theirs, browser, at["3"] - timedelta(minutes=1), message)
        await people.click(mine, other, at["3"], message)  # forwarded: not hers

        whole = await get(crm, f"/v1/contacts/{contact}/timeline?after=0")
        seen = [label(item) for item in whole["items"]]
        assert seen[0] == f"{SHOP}/1"
        assert seen[1] == f"lnk_{mine.hex}"
        assert sorted(seen[2:4]) == [f"{SHOP}/2", f"{SHOP}/2b"]
        assert seen[4:] == [f"lnk_{theirs.hex}", f"{SHOP}/3", "on WhatsApp", "by SMS", "See this"]
        visit, click = whole["items"][0], whole["items"][1]
        assert visit == {
            "type": "web.page", "at": visit["at"], "url": f"{SHOP}/1", "title": "A page", "referrer": None,
            "session": "session-1", "visitor_id": browser,
        }  # fmt: skip
        assert whole["items"][5]["type"] == "web.engaged"
        assert click["type"] == "link.click"
        assert (click["message_id"], click["visitor_id"]) == (message, browser)
        assert click["link"] == {"id": f"lnk_{mine.hex}", "target": f"{SHOP}/offer"}
        assert whole["items"][4]["link"] == {"id": f"lnk_{theirs.hex}"}  # whose target helpdesk does not share

        # A link of a message that was scheduled begins later than that was written, and is masked as it is.
        await crm.connect(share="all")
        bot = await hub_world.service("bot", scopes=["read", "profiles"])
        await bot.connect(display="full")
        await conn.execute("update tracked_link set created_at = now() where id = $1", mine)
        seen_by_bot = (await get(bot, f"/v1/contacts/{contact}/timeline?after=0"))["items"]
        assert next(item["link"] for item in seen_by_bot if item["type"] == "link.click") == {"id": f"lnk_{mine.hex}"}

        # The scope decides: others read what was said, and no more.
        told = (await get(helpdesk, f"/v1/contacts/{contact}/timeline?after=0"))["items"]
        assert [(item.get("text"), item["type"], "masked" in item) for item in told] == [
            ("on WhatsApp", "text", False),
            ("by SMS", "text", False),
            (None, "text", True),
        ]

        # Page by page, both ways, and from any page on.
        async def read(page: str) -> Any:
            return await crm.call("GET", page)

        path = f"/v1/contacts/{contact}/timeline"
        for limit in (1, 2, 3, 5, 9, 200):
            assert [label(i) for i in await pages(read, f"{path}?limit={limit}", "after", "&after=0")] == seen, limit
            assert [label(i) for i in await pages(read, f"{path}?limit={limit}", "before")] == seen[::-1], limit
        for limit in (1, 2, 4):
            page = await get(crm, f"{path}?limit=4")
            older = await get(crm, f"{path}?limit={limit}&before={page['before']}")
            assert [label(i) for i in older["items"]] == seen[::-1][4 : 4 + limit]
            newer = await get(crm, f"{path}?limit=200&after={older['after']}")
            assert [label(i) for i in newer["items"]] == seen[5:]
            back = await get(crm, f"{path}?limit=200&before={newer['before']}")
            assert [label(i) for i in back["items"]] == seen[:5][::-1]
        # What follows a page is read on, be it a visit.
        end = await get(crm, f"{path}?limit=1")
        assert (await get(crm, f"{path}?after={end['after']}"))["items"] == []
        await people.bind(browser, contact, ago(hours=1), None)
        assert f"{SHOP}/5" not in await labels(crm, contact, f"?after={end['after']}")  # that was before
        assert (await labels(crm, contact))[6] == f"{SHOP}/5"

        # A retracted binding never held; nor does a visit count twice where it is another's.
        await conn.execute("update visitor_binding set retracted_at = now()")
        assert await labels(crm, contact) == ["on WhatsApp", "by SMS", "See this"]


async def test_c3_a_place_given_out_before_there_were_visits_is_still_read(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await cast(hub_world)
    mia = hub_world.customer(MIA)
    conversation = await writes(mia, helpdesk, crm, text="one")
    await writes(mia, helpdesk, crm, text="two")
    contact = (await get(crm, f"/v1/conversations/{conversation}"))["contact"]["id"]
    async with connected(database_url) as conn:
        people = People(conn)
        browser = await people.visitor()
        await people.bind(browser, contact, ago(hours=3))
        await people.visit(browser, ago(hours=2), f"{SHOP}/a")
    path = f"/v1/contacts/{contact}/timeline"
    of_messages = await get(helpdesk, f"{path}?limit=1")
    assert not decode(of_messages["before"]).keys() & {VISITS, CLICKS}
    whole = await get(crm, f"{path}?limit=1")
    assert decode(whole["before"]).keys() >= {VISITS, CLICKS}
    assert await labels(crm, contact, f"?before={of_messages['before']}") == ["one"]
    assert await labels(crm, contact, f"?after={of_messages['after']}") == [f"{SHOP}/a"]  # nothing of it was read yet
    assert await labels(helpdesk, contact, f"?before={whole['before']}") == ["one"]
    bent = encode(decode(whole["after"]) | {VISITS: 2**192 - 2, CLICKS: 0})
    assert await labels(crm, contact, f"?after={bent}") == []
    assert await labels(crm, contact, f"?before={bent}") == ["one", f"{SHOP}/a"]


async def test_c3_the_timeline_of_a_merged_profile_has_all_its_parts(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await cast(hub_world)
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm, text="from Mia")
    part = (await get(crm, f"/v1/conversations/{conversation}"))["contact"]["id"]
    async with connected(database_url) as conn:
        people = People(conn)
        kept = await people.contact()
        await people.known_to(kept, crm)
        first, second = await people.visitor(), await people.visitor()
        await people.bind(first, part, ago(hours=9))
        await people.bind(second, kept, ago(hours=9))
        await people.visit(first, ago(hours=8), f"{SHOP}/part")
        await people.visit(second, ago(hours=7), f"{SHOP}/kept")
        assert await labels(crm, kept) == [f"{SHOP}/kept"]
        assert (await helpdesk.call("GET", f"/v1/contacts/{kept}/timeline")).status == 404
        await people.merge(part, kept)
        both = [f"{SHOP}/part", f"{SHOP}/kept", "from Mia"]
        assert await labels(crm, kept) == await labels(crm, part) == both
        assert await labels(helpdesk, kept) == ["from Mia"]
        await people.merge(part, None)
        assert await labels(crm, part) == [f"{SHOP}/part", "from Mia"]
        assert await labels(crm, kept) == [f"{SHOP}/kept"]


async def test_c3_many_browsers_and_one_page_after_the_other(hub_world: World, database_url: str) -> None:
    """Whatever the intervals: every visit in one of them is read once, in order, both ways."""
    helpdesk, crm = await cast(hub_world)
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    contact = (await get(crm, f"/v1/conversations/{conversation}"))["contact"]["id"]
    chance = random.Random(7)
    wanted = []
    async with connected(database_url) as conn:
        people = People(conn)
        stranger = await people.contact()
        for browser in range(4):
            visitor = await people.visitor()
            cuts = sorted(chance.sample(range(1, 60), 4))
            await people.bind(visitor, contact, ago(minutes=cuts[3]), ago(minutes=cuts[2]))
            await people.bind(visitor, stranger, ago(minutes=cuts[2]), ago(minutes=cuts[1]))
            await people.bind(visitor, contact, ago(minutes=cuts[1]), ago(minutes=cuts[0]))
            for minute in range(1, 61, 4):
                url = f"{SHOP}/{browser}/{minute}"
                await people.visit(visitor, ago(minutes=minute), url)
                if cuts[0] < minute <= cuts[1] or cuts[2] < minute <= cuts[3]:
                    wanted.append((-minute, url))

    async def read(page: str) -> Any:
        return await crm.call("GET", page)

    path = f"/v1/contacts/{contact}/timeline"
    forward = [label(i) for i in await pages(read, f"{path}?limit=7", "after", "&after=0")]
    assert forward[-1] == "Hello"
    assert sorted(forward[:-1]) == sorted(url for _, url in wanted)
    places = {url: at for at, url in wanted}
    assert [places[url] for url in forward[:-1]] == sorted(places.values())
    assert [label(i) for i in await pages(read, f"{path}?limit=3", "before")] == forward[::-1]
