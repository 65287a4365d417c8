"""What services hear of clicks on tracked links, and what reports say of them (rules C1, H5, K2)."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from hub.domain.ids import new_id, parse_id, public_id
from tests.support.clicks import Clicks
from tests.support.talk import MIA, audit, ends, operator_events, pages, revealed_events, writes
from tests.support.web import WEB, WWW, Browser
from tests.support.wire import ask, connected, until
from tests.support.world import Open, Service, World

SCOPES = ["read", "reply", "automate", "profiles"]
SECRETS = ("§sale", "§body", "§spring")


@dataclass
class Stage:
    """helpdesk writes, crm may know of profiles, desk may not; all are on one channel."""

    world: World
    clicks: Clicks
    url: str
    helpdesk: Service
    crm: Service
    desk: Service
    conversation: str

    async def message(self, text: str = "Look") -> str:
        """helpdesk writes to the customer; gives the message's id."""
        sent = await self.helpdesk.reply(self.conversation, text)
        assert sent.status == 202, sent
        return str(sent.json["message"]["id"])

    async def settled(self) -> None:
        """Nothing is left to be told."""
        await until(lambda: ask(self.url, "select not exists (select from click_untold)"))

    async def heard(self, service: Service, count: int) -> list[dict[str, Any]]:
        """What a service hears of clicks, once it is so many; and no more."""
        if count:
            await service.endpoint.wait(lambda me: len(me.of("link.clicked")) >= count)
        found = [delivery.data for delivery in service.endpoint.of("link.clicked")]
        assert len(found) == count
        return found

    async def report(self, path: str, service: Service | None = None, status: int = 200) -> Any:
        """What a path says to helpdesk, or another."""
        answer = await (service or self.helpdesk).call("GET", f"/v1/{path}")
        assert answer.status == status, answer
        return answer.json


@pytest.fixture
async def stage(open_world: Open, database_url: str) -> AsyncIterator[Stage]:
    world = await open_world(tracking_consent="implied")
    helpdesk = await world.service("helpdesk", scopes=SCOPES)
    crm = await world.service("crm", scopes=SCOPES)
    desk = await world.service("desk")
    for service in (helpdesk, crm, desk):
        await service.connect()
    conversation = await writes(world.customer(MIA), helpdesk, crm, desk)
    async with connected(database_url) as conn:
        yield Stage(world, Clicks(conn), database_url, helpdesk, crm, desk, conversation)


# Events -------------------------------------------------------------------------------------------------------------


async def test_c1_a_click_is_an_event_of_its_conversation_and_says_where_to_its_author_alone(stage: Stage) -> None:
    message = await stage.message()
    link = await stage.clicks.link(stage.helpdesk, message, campaign="§spring")
    before = datetime.now(UTC)
    click = await stage.clicks.click(link)
    (own,) = await stage.heard(stage.helpdesk, 1)
    (masked,) = await stage.heard(stage.crm, 1)
    assert (datetime.now(UTC) - before).total_seconds() < 5
    assert own["link"] == {
        "id": link, "message_id": message, "target": "https://shop.example/§sale", "place": "§body",
        "campaign": "§spring",
    }  # fmt: skip
    assert masked["link"] == {"id": link, "message_id": message}
    for view in (own, masked):
        assert view["click"].items() >= {"id": click, "verdict": "person"}.items()
        assert datetime.fromisoformat(view["click"]["at"]) <= datetime.now(UTC)
        assert view["conversation"]["id"] == stage.conversation
        assert view["conversation"]["sequence"] is None
        assert view["contact"]["name"] == "Mia"
        assert "automation" in view
    await stage.helpdesk.connect(share="all")
    await stage.crm.connect(display="full")
    await stage.clicks.click(await stage.clicks.link(stage.helpdesk, await stage.message("again")))
    seen = await stage.heard(stage.crm, 2)  # what is loosened holds from then on
    assert [view["link"].get("target") for view in seen] == [None, "https://shop.example/§sale"]
    due = await stage.clicks.link(stage.helpdesk, message, created_at=datetime.now(UTC))  # written before, for later
    await stage.clicks.click(due)
    seen = await stage.heard(stage.crm, 3)
    assert seen[2]["link"] == {"id": due, "message_id": message}
    assert "target" not in await stage.report(f"links/{due}", stage.crm)
    await stage.settled()
    await stage.heard(stage.desk, 0)

    # The other ways out.
    feed = (await stage.crm.call("GET", "/v1/events?limit=200&since=2020-01-01T00:00:00Z")).json["items"]
    assert [item["data"]["link"] for item in feed if item["type"] == "link.clicked"] == [v["link"] for v in seen]
    shown = await operator_events(stage.world, "link.clicked")
    assert not [word for word in SECRETS if word in json.dumps(shown, ensure_ascii=False)]
    assert shown[0]["data"]["link"] == {"id": link, "message_id": message}
    revealed = await revealed_events(stage.world, "link.clicked")
    assert revealed[0]["data"]["link"]["target"] == "https://shop.example/§sale"


async def test_k2_nobody_is_named_where_a_link_does_not_identify(stage: Stage) -> None:
    message, now = await stage.message(), datetime.now(UTC)
    link = stage.clicks.link
    stranger = await link(stage.helpdesk, message, contact_id=None)
    late = await link(stage.helpdesk, message, created_at=now - timedelta(days=30, seconds=1))
    personal = await link(stage.helpdesk, message)
    clicks = [
        await stage.clicks.click(stranger),
        await stage.clicks.click(late),
        await stage.clicks.click(personal, opted_out=True),
    ]
    views = await stage.heard(stage.helpdesk, 3)
    assert [view["click"]["id"] for view in views] == clicks
    for view, name in zip(views, (stranger, late, personal), strict=True):
        assert not {"contact", "conversation"} & view.keys()
        assert view["link"] == {
            "id": name, "target": "https://shop.example/§sale", "place": "§body", "campaign": None
        }  # fmt: skip
    assert [view["link"] for view in await stage.heard(stage.crm, 3)] == [
        {"id": stranger}, {"id": late}, {"id": personal}
    ]  # fmt: skip

    # Nor who does not want it any more, and of who was erased nothing is told.
    await stage.clicks.conn.execute(
        "insert into consent_event (medium, address_type, address_key, address_value, kind, source, at) "
        "select 'tracking', type, match_key, value, 'revoked', 'customer', now() from contact_address"
    )
    await stage.clicks.click(personal)
    assert "contact" not in (await stage.heard(stage.helpdesk, 4))[-1]
    await stage.clicks.conn.execute("update contact set erased_at = now()")
    await stage.clicks.click(personal)
    await stage.settled()
    await stage.clicks.conn.execute("update tracked_link set contact_id = null")
    await stage.clicks.click(personal)
    await stage.settled()
    await stage.heard(stage.helpdesk, 4)


async def test_h5_clicks_on_links_by_themselves_are_told_to_who_made_them(stage: Stage) -> None:
    contact = await stage.clicks.contact_of(parse_id("cnv", stage.conversation))
    away = await stage.world.service("away", scopes=SCOPES)
    apart = await stage.world.service("apart", plan="standalone", scopes=SCOPES)
    await apart.connect("+15550002222")
    made = [
        await stage.clicks.link(stage.crm, contact_id=contact, medium="email"),
        await stage.clicks.link(stage.crm),
        await stage.clicks.link(away),
        await stage.clicks.link(stage.desk),
        await stage.clicks.link(None),
    ]
    for link in made:
        await stage.clicks.click(link)
    await stage.clicks.insert("click_untold", click_id=new_id(), at=datetime.now(UTC), link_id=new_id())
    first, second = await stage.heard(stage.crm, 2)
    assert [view["link"]["id"] for view in (first, second)] == made[:2]
    assert first["contact"]["id"] == public_id("con", contact)
    assert not {"contact", "conversation"} & second.keys()
    assert first["channel_id"] == second["channel_id"] == stage.crm.connection["channel_id"]
    await stage.settled()
    for service in (stage.helpdesk, stage.desk):
        await stage.heard(service, 0)

    # A stranger to the contact hears that it was clicked, and of whom once it knows of them.
    theirs = await stage.clicks.link(apart, contact_id=contact)
    await stage.clicks.click(theirs)
    (view,) = await stage.heard(apart, 1)
    assert view["link"]["id"] == theirs
    assert not {"contact", "conversation"} & view.keys()
    await stage.clicks.insert("contact_knower", contact_id=contact, service_id=parse_id("svc", apart.id))
    await stage.clicks.click(theirs)
    assert (await stage.heard(apart, 2))[1]["contact"]["id"] == public_id("con", contact)


async def test_g2_every_click_is_told_once_in_order(stage: Stage) -> None:
    link = await stage.clicks.link(stage.helpdesk, await stage.message())
    ids = [new_id() for _ in range(450)]
    async with stage.clicks.conn.transaction():
        for each in reversed(ids):
            await stage.clicks.click(link, id=each)
    told = await stage.heard(stage.helpdesk, 450)
    assert [view["click"]["id"] for view in told] == [public_id("clk", each) for each in ids]
    await stage.settled()
    await stage.heard(stage.crm, 450)


# Reports ------------------------------------------------------------------------------------------------------------

ANA, BEN = uuid4(), uuid4()


async def test_reports_count_clicks_by_verdict_visitors_and_visits(stage: Stage) -> None:
    message = await stage.message()
    link = await stage.clicks.link(stage.helpdesk, message, campaign="§spring")
    empty = await stage.clicks.link(stage.helpdesk, message, campaign="§spring", contact_id=None)
    clicks = [await stage.clicks.click(link, who, is_told=True) for who in (ANA, ANA, BEN, None, None)]
    for kind, reason in (("preview", "preview_telegram"), ("head", "method_head"), ("preview", "preview_telegram")):
        await stage.clicks.click(link, kind=kind, reason=reason)
    await stage.clicks.land(link, clicks[0], ANA, "one")
    await stage.clicks.land(link, clicks[2], BEN, "two", "session_only")

    report = await stage.report(f"links/{link}")
    first, last = report["clicks"].pop("first_at"), report["clicks"].pop("last_at")
    assert first < last <= datetime.now(UTC).isoformat()
    assert report["clicks"] == {
        "people": 5,
        "unique": 3,
        "verdicts": [
            {"kind": "person", "reason": "person", "clicks": 5},
            {"kind": "preview", "reason": "preview_telegram", "clicks": 2},
            {"kind": "head", "reason": "method_head", "clicks": 1},
        ],
    }
    named = {name: report[name] for name in report if name not in {"clicks", "created_at"}}
    assert named == {
        "id": link, "message_id": message, "medium": "whatsapp", "target": "https://shop.example/§sale",
        "place": "§body", "campaign": "§spring", "state": "identifies", "disabled_at": None, "is_personal": True,
        "suspect": False, "visits": 2, "bound": 1,
    }  # fmt: skip

    # A message, all its links, and their sum.
    await stage.clicks.click(empty, ANA, is_told=True)
    of_message = await stage.report(f"messages/{message}/links")
    assert [item["id"] for item in of_message["items"]] == [link, empty]
    assert of_message["items"][1]["state"] == "redirects"
    assert (of_message["message_id"], of_message["total"]["links"]) == (message, 2)
    total = of_message["total"]["clicks"]
    assert (total["people"], total["unique"], of_message["total"]["visits"]) == (6, 3, 2)

    # What was retracted is nobody's.
    await stage.clicks.conn.execute("update visitor_binding set retracted_at = now()")
    assert (await stage.report(f"links/{link}"))["bound"] == 0

    # What retention dropped is counted with what is there.
    await stage.clicks.insert(
        "click_total", link_id=parse_id("lnk", link), kind="person", reason="person", clicks=10, visitors=4,
        first_at=datetime(2026, 1, 1, tzinfo=UTC), last_at=datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    clicks = (await stage.report(f"links/{link}"))["clicks"]
    assert (clicks["people"], clicks["unique"], clicks["first_at"]) == (15, 7, "2026-01-01T00:00:00Z")
    assert clicks["last_at"] == last
    total = (await stage.report(f"messages/{message}/links"))["total"]["clicks"]
    assert (total["people"], total["unique"], total["verdicts"][0]["clicks"]) == (16, 7, 16)


async def test_c1_reports_are_masked_as_events_are(stage: Stage) -> None:
    message = await stage.message()
    link = await stage.clicks.link(stage.helpdesk, message, campaign="§spring")
    await stage.clicks.click(link, ANA, is_told=True)
    own = await stage.report(f"links/{link}")
    masked = {name: own[name] for name in own if name not in {"target", "place", "campaign"}} | {"masked": True}
    call = stage.world.call
    for found in (
        await stage.report(f"links/{link}", stage.crm),
        (await stage.report(f"messages/{message}/links", stage.crm))["items"][0],
        (await call("GET", f"/v1/admin/links/{link}")).json,
        (await call("GET", f"/v1/admin/messages/{message}/links")).json["items"][0],
    ):
        assert found == masked
    await stage.helpdesk.connect(share="all")
    await stage.crm.connect(display="full")
    assert (await stage.report(f"links/{link}", stage.crm)) == masked  # what was written before stays masked
    later = await stage.clicks.link(stage.helpdesk, await stage.message("later"))
    assert (await stage.report(f"links/{later}", stage.crm))["target"] == "https://shop.example/§sale"

    # Whom it does not concern.
    outside = await stage.world.service("outside", scopes=SCOPES)
    loose = await stage.clicks.link(outside)
    assert (await stage.report(f"links/{loose}", outside))["message_id"] is None
    for path, service in (
        (f"links/{link}", outside), (f"messages/{message}/links", outside), ("campaigns/§spring/links", outside),
        ("campaigns/§spring/links", stage.crm), (f"links/{loose}", stage.helpdesk),
        (f"links/{public_id('lnk', new_id())}", stage.helpdesk), ("links/msg_1", stage.helpdesk),
        (f"messages/{public_id('msg', new_id())}/links", stage.helpdesk),
    ):  # fmt: skip
        refused = await stage.report(path, service, 404)
        assert refused["code"] == "not_found"
    for path in (f"links/{link}", f"messages/{message}/links", "campaigns/§spring/links"):
        assert (await stage.report(path, stage.desk, 403))["code"] == "missing_scope"
        refused = (await stage.helpdesk.call("GET", f"/v1/admin/{path}")).json
        assert refused["code"] == "operator_only"


async def test_c1_only_who_made_a_link_ends_it(stage: Stage) -> None:
    message = await stage.message()
    first, second = [await stage.clicks.link(stage.helpdesk, message) for _ in range(2)]
    old = await stage.clicks.link(stage.helpdesk, message, created_at=datetime.now(UTC) - timedelta(days=91))
    late = await stage.clicks.link(stage.helpdesk, message, created_at=datetime.now(UTC) - timedelta(days=31))
    refused = await stage.crm.call("DELETE", f"/v1/links/{first}")
    assert (refused.status, refused.json["code"]) == (403, "not_author")
    refused = await (await stage.world.service("outside", scopes=SCOPES)).call("DELETE", f"/v1/links/{first}")
    assert (refused.status, refused.json["code"]) == (404, "not_found")
    assert (await stage.desk.call("DELETE", f"/v1/links/{first}")).json["code"] == "missing_scope"
    assert (await stage.helpdesk.call("DELETE", f"/v1/links/{first}")).status == 204
    since = (await stage.report(f"links/{first}"))["disabled_at"]
    assert (await stage.helpdesk.call("DELETE", f"/v1/links/{first}")).status == 204
    assert (await stage.report(f"links/{first}"))["disabled_at"] == since
    assert (await stage.world.call("DELETE", f"/v1/admin/links/{second}")).status == 204
    assert (await stage.world.call("DELETE", f"/v1/admin/links/{public_id('lnk', new_id())}")).status == 404
    states = [(await stage.report(f"links/{link}"))["state"] for link in (first, second, old, late)]
    assert states == ["disabled", "disabled", "expired", "redirects"]
    rows = [row for row in await audit(stage.world) if row["action"] == "link.disabled"]
    assert [(row["actor"], row["subject"]) for row in rows] == [("operator", second)]
    await stage.clicks.conn.execute("update tracked_link set suspect_at = now() where id = $1", parse_id("lnk", late))
    assert (await stage.report(f"links/{late}"))["suspect"] is True


async def test_the_funnel_of_a_campaign_by_message_and_in_total(stage: Stage) -> None:
    messages = [await stage.message(str(number)) for number in range(3)]
    links = [await stage.clicks.link(stage.helpdesk, message, campaign="§spring") for message in messages]
    links.append(await stage.clicks.link(stage.helpdesk, messages[0], campaign="§spring"))
    alone = await stage.clicks.link(stage.helpdesk, campaign="§spring")
    await stage.clicks.link(stage.crm, campaign="§spring")
    await stage.clicks.link(stage.helpdesk, messages[0], campaign="another")
    clicks = [await stage.clicks.click(link, ANA, is_told=True) for link in links]
    await stage.clicks.click(links[0], BEN, is_told=True)
    await stage.clicks.click(links[1], kind="crawler", reason="agent_listed")
    await stage.clicks.click(alone, is_told=True)
    await stage.clicks.land(links[0], clicks[0], ANA, "one")
    await stage.clicks.land(links[1], clicks[1], ANA, "two", "already_bound")
    await stage.clicks.land(links[2], clicks[2], ANA, "two", "already_bound")

    path = "campaigns/%C2%A7spring/links"
    report = await stage.report(path)
    assert (report["campaign"], report["next"]) == ("§spring", None)
    total = report["total"]
    assert {name: total[name] for name in ("messages", "links", "visits", "identified")} == {
        "messages": 3, "links": 5, "visits": 2, "identified": 1,
    }  # fmt: skip
    assert (total["clicks"]["people"], total["clicks"]["unique"]) == (6, 3)
    assert total["clicks"]["verdicts"][1] == {"kind": "crawler", "reason": "agent_listed", "clicks": 1}
    shown = [
        (item["message_id"], item["links"], item["clicks"]["people"], item["clicks"]["unique"], item["identified"])
        for item in report["items"]
    ]
    assert shown == [
        (messages[0], 2, 3, 2, 1),
        (messages[1], 1, 1, 1, 1),
        (messages[2], 1, 1, 1, 1),
        (None, 1, 1, 1, 0),
    ]
    assert report["items"][3]["link_id"] == alone
    for limit in (1, 2, 3, 4):
        paged = await pages(lambda at: stage.helpdesk.call("GET", at), f"/v1/{path}?limit={limit}")
        assert paged == report["items"]
    assert (await stage.report(f"{path}?after={messages[0]}"))["total"] is None
    assert (await stage.report(f"{path}?after=x", status=404))["code"] == "not_found"
    assert (await stage.report("campaigns/none/links", status=404))["code"] == "not_found"

    # What lies on a channel that was left is out of reach, not of the operator's.
    assert (await stage.helpdesk.call("DELETE", "/v1/numbers/+15550001111/connection")).status == 204
    left = await stage.report(path)
    assert [item["message_id"] for item in left["items"]] == [None]
    assert (left["total"]["messages"], left["total"]["links"], left["total"]["visits"]) == (0, 1, 0)
    await stage.report(f"links/{links[0]}", status=404)
    whole = await stage.world.call("GET", f"/v1/admin/{path}?service_id={stage.helpdesk.id}")
    assert whole.json == report
    assert (await stage.world.call("GET", f"/v1/admin/{path}")).status == 422


# From the message to the report -------------------------------------------------------------------------------------


async def test_a_tapped_link_is_told_of_counted_and_ended(open_world: Open) -> None:
    world = await open_world(**WEB)
    helpdesk = await world.service("helpdesk", scopes=SCOPES)
    await helpdesk.connect()
    mia = world.customer(MIA)
    conversation = await writes(mia, helpdesk)
    message = (await helpdesk.reply(conversation, f"New: {WWW}/sale")).json["message"]["id"]
    sent = await mia.hears()
    token = str(sent.text).rpartition("/")[2]
    await ends(helpdesk, message, "sent", "delivered", "read")
    phone, laptop, preview = Browser(world), Browser(world), Browser(world, agent="TelegramBot (like TwitterBot)")
    for browser in (phone, phone, laptop, preview):
        assert (await browser.click(token)).status == 302
    await helpdesk.endpoint.wait(lambda me: len(me.of("link.clicked")) == 3)
    told = [delivery.data for delivery in helpdesk.endpoint.of("link.clicked")]
    assert {data["conversation"]["id"] for data in told} == {conversation}
    await phone.load("/sale")
    report = (await helpdesk.call("GET", f"/v1/messages/{message}/links")).json
    (item,) = report["items"]
    assert {data["link"]["id"] for data in told} == {item["id"]}
    assert (item["target"], item["suspect"], item["visits"]) == (f"{WWW}/sale", True, 1)
    assert (item["clicks"]["people"], item["clicks"]["unique"]) == (3, 2)
    assert {verdict["kind"]: verdict["clicks"] for verdict in item["clicks"]["verdicts"]} == {
        "person": 3, "preview": 1,
    }  # fmt: skip
    assert (await helpdesk.call("DELETE", f"/v1/links/{item['id']}")).status == 204

    async def is_gone() -> bool:
        return (await phone.click(token)).status == 410

    await until(is_gone)
