"""Tracked links in what goes out: what the provider gets, what the thread keeps, what others see (rules F, E6, E8)."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from hub.actions import track_links
from hub.domain import throttling
from hub.store import outbox
from hub.store.sent_forms import prune_sent_forms
from hub.workers import asker
from providers.simulator import Customer, Fault, StatusPlan
from tests.support.talk import MIA, automates, ends, heard, leaves, revealed_events, timeline, writes
from tests.support.wire import ask, connected, until
from tests.support.world import NUMBER, Answer, Open, Service, World

BASE = "https://go.shop.example"
SETTINGS: dict[str, Any] = {"link_base_url": BASE, "site_domains": ("shop.example",)}
X, Y = "https://shop.example/sale", "https://shop.example/shoes?size=42"
TOKEN = re.compile(re.escape(BASE) + "/([0-9A-Za-z]+)")
LATER = datetime.now(UTC) + timedelta(days=60)
SCOPES = ["read", "reply", "automate", "profiles"]


@dataclass
class Shop:
    """A hub that tracks links, two services on a number, and a customer with a conversation on both media."""

    world: World
    url: str
    crm: Service
    helpdesk: Service
    customer: Customer
    by_sms: Customer
    whatsapp: str
    sms: str

    async def agrees(self) -> None:
        """The customer may be tracked."""
        answer = await self.crm.call("PUT", f"/v1/consents/tracking/{MIA.phone}", {"status": "granted"})
        assert answer.status == 200, answer

    async def sends(self, conversation: str, kind: str = "text", **fields: Any) -> Answer:
        """An agent of the crm writes this."""
        body = {"origin": "agent", "agent": {"id": "7", "name": "Ana"}, "type": kind, **fields}
        return await self.crm.call("POST", f"/v1/conversations/{conversation}/messages", body)

    async def sent(self, conversation: str, kind: str = "text", **fields: Any) -> tuple[dict[str, Any], Any]:
        """The same; gives the answer's message, and what the provider was asked."""
        view = view_of(await self.sends(conversation, kind, **fields))
        sent = await (self.by_sms if conversation == self.sms else self.customer).hears()
        assert sent.hub_id == view["id"]
        return view, sent

    async def rows(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        """Rows of the database."""
        async with connected(self.url) as conn:
            return [dict(row) for row in await conn.fetch(sql, *args)]

    async def links(self, message: str) -> list[dict[str, Any]]:
        """What is kept of the links of a message."""
        return await self.rows("select * from tracked_link where message_id = $1 order by id", uuid_of(message))

    async def forms(self) -> list[str]:
        """The messages that will be handed over in another form than they were written."""
        return [f"msg_{row['message_id'].hex}" for row in await self.rows("select message_id from sent_form")]

    async def forgets(self) -> None:
        """Wait until nothing waits to be handed over."""
        await until(lambda: ask(self.url, "select not exists (select from sent_form)"))

    async def holding(self, secret: str) -> set[str]:
        """The tables in which this stands, as text or as bytes."""
        found = set()
        async with connected(self.url) as conn:
            names = await conn.fetch("select tablename as name from pg_tables where schemaname = 'public'")
            for name in (row["name"] for row in names):
                sql = f"select exists (select from {name} t where t::text like $1 or t::text like $2)"
                if await conn.fetchval(sql, f"%{secret}%", f"%{secret.encode().hex()}%"):
                    found.add(name)
        return found


@pytest.fixture
async def shop(open_world: Open, database_url: str) -> Shop:
    made = await open_world(**SETTINGS)
    return await shop_in(made, database_url)


async def shop_in(made: World, url: str) -> Shop:
    made.simulator.templates = []  # any will do
    crm, helpdesk = [await made.service(name, scopes=SCOPES) for name in ("crm", "helpdesk")]
    for service in (crm, helpdesk):
        await service.connect()
    customer, by_sms = made.customer(MIA), made.customer(MIA, provider="twilio", medium="sms")
    whatsapp = await writes(customer, crm, helpdesk)
    return Shop(
        made, url, crm, helpdesk, customer, by_sms, whatsapp, await writes(by_sms, crm, helpdesk, text="by SMS")
    )


def uuid_of(name: str) -> UUID:
    return UUID(name.partition("_")[2])


def view_of(answer: Answer) -> dict[str, Any]:
    assert answer.status == 202, answer
    return dict(answer.json["message"])


def tokens_in(value: object) -> list[str]:
    return TOKEN.findall(str(value))


def places(view: dict[str, Any]) -> list[tuple[str, str]]:
    return [(link["place"], link["target"]) for link in view["links"]]


# What is sent, kept and seen ----------------------------------------------------------------------------------------


async def test_f1_an_sms_with_tracked_links(shop: Shop) -> None:
    """Without the customer's consent they identify nobody, with it they do; the thread keeps what was written."""
    text = f"Sale: *{X}*, and {Y}. Again: {X}"
    seen: list[str] = []
    for length in (8, 11):
        view, sent = await shop.sent(shop.sms, text=text)
        first, second, third = tokens_in(sent.text)
        assert (len(first), len(second), third) == (length, length, first)
        assert sent.text == f"Sale: *{BASE}/{first}*, and {BASE}/{second}. Again: {BASE}/{first}"
        assert (view["text"], view["segments"], view["untracked_segments"]) == (text, 1, 1)
        assert places(view) == [("/text", X), ("/text", Y)]
        mine = (await shop.crm.call("GET", f"/v1/messages/{view['id']}")).json
        assert (mine["text"], mine["links"]) == (text, view["links"])
        kept = await shop.links(view["id"])
        assert [(f"lnk_{row['id'].hex}", row["target"]) for row in kept] == [
            (link["id"], link["target"]) for link in view["links"]
        ]
        for row, token in zip(kept, (first, second), strict=True):
            is_personal = length == 11
            assert row["token_hash"] == sha256(token.encode()).digest()
            assert (row["medium"], row["place"], row["campaign"]) == ("sms", "/text", None)
            assert f"svc_{row['service_id'].hex}" == shop.crm.id
            assert (row["conversation_id"] == uuid_of(shop.sms)) is is_personal
            assert (row["contact_id"] is not None) is is_personal
            destination = ("phone", MIA.phone) if is_personal else (None, None)
            assert (row["destination_type"], row["destination_value"]) == destination
            assert None not in (row["number_id"], row["channel_id"])
        seen += [view["id"], first, second]
        await shop.agrees()

    await shop.forgets()
    for secret in (seen[1], seen[2], seen[4], seen[5]):
        assert await shop.holding(secret) == set()
    assert "message" in await shop.holding(text)  # that this would find something

    await ends(shop.helpdesk, seen[3], "delivered")
    told = [d.data["message"] for kind in ("message.queued", "message.status") for d in shop.helpdesk.endpoint.of(kind)]
    told += [(await shop.helpdesk.call("GET", f"/v1/messages/{seen[0]}")).json]
    told += [item for item in await timeline(shop.helpdesk, shop.sms) if item["direction"] == "outbound"]
    for masked in told:
        assert masked["masked"] is True
        assert not {"links", "text", "segments", "untracked_segments"} & masked.keys()
        assert "shop.example" not in str(masked)
    events = [d.data["message"] for kind in ("message.queued", "message.status") for d in shop.crm.endpoint.of(kind)]
    assert {(event["text"], "links" in event) for event in events} == {(text, False)}
    assert {item["text"] for item in await timeline(shop.crm, shop.sms) if item["direction"] == "outbound"} == {text}
    assert BASE not in str(await revealed_events(shop.world))

    share = await shop.crm.connect(share="all")
    assert share["effective_share"] == "all"
    await shop.helpdesk.connect(display="full")
    view, _ = await shop.sent(shop.sms, text=X)
    shared = (await shop.helpdesk.call("GET", f"/v1/messages/{view['id']}")).json
    assert (shared["text"], "links" in shared, BASE in str(shared)) == (X, False, False)


async def test_what_has_more_parts_than_a_text(shop: Shop) -> None:
    """Nothing that only the hub understands reaches Meta, and the thread has what was asked for."""
    view, sent = await shop.sent(shop.whatsapp, text=f"_{X}_", preview_url=True)
    (token,) = tokens_in(sent.body)
    assert (sent.body["text"], view["text"]) == ({"body": f"_{BASE}/{token}_", "preview_url": True}, f"_{X}_")
    assert not {"segments", "untracked_segments"} & view.keys()

    file = {"url": "https://shop.example/a.jpg"}
    view, sent = await shop.sent(shop.whatsapp, "image", media=file, text=f"Look: {X}")
    assert sent.body["image"]["link"] == file["url"]
    assert sent.body["image"]["caption"] == f"Look: {BASE}/{tokens_in(sent.body)[0]}"
    assert (view["text"], places(view)) == (f"Look: {X}", [("/text", X)])

    button = {"type": "cta_url", "text": f"See {Y}", "footer": X, "title": "Go", "url": X}
    view, sent = await shop.sent(shop.whatsapp, "interactive", interactive=button)
    to_y, to_x = tokens_in(sent.body)[:2]
    assert sent.body["interactive"] == {
        "type": "cta_url",
        "body": {"text": f"See {BASE}/{to_y}"},
        "footer": {"text": f"{BASE}/{to_x}"},
        "action": {"name": "cta_url", "parameters": {"display_text": "Go", "url": f"{BASE}/{to_x}"}},
    }
    assert view["interactive"] == button
    assert places(view) == [("/interactive/text", Y), ("/interactive/footer", X)]
    view, sent = await shop.sent(shop.whatsapp, "interactive", interactive={**button, "track": False, "footer": "-"})
    assert sent.body["interactive"]["action"]["parameters"]["url"] == X
    assert view["interactive"] == {**button, "footer": "-"}

    def components(track: dict[str, Any], body: str, suffix: str) -> list[dict[str, Any]]:
        return [
            {"type": "body", "parameters": [{"type": "text", "text": body, **track}, {"type": "text", "text": Y}]},
            {
                "type": "button",
                "sub_type": "url",
                "index": "0",
                "parameters": [{"type": "text", "text": suffix, **track}],
            },
        ]

    template = {"name": "sale", "language": "en", "components": components({"track": True}, X, X)}
    view, sent = await shop.sent(shop.whatsapp, "template", template=template)
    (token,) = tokens_in(sent.body)
    assert sent.body["template"]["components"] == components({}, f"{BASE}/{token}", token)
    assert view["template"] == {**template, "components": components({}, X, X)}
    assert places(view) == [("/template/components/0/parameters/0/text", X)]

    filled = {"content_sid": "HX" + "0" * 32, "variables": {"1": f"see {X}", "2": Y, "3": X}}
    marks = {"track_variables": ["1"], "track_suffixes": ["2"]}
    view, sent = await shop.sent(shop.sms, "template", template=filled | marks)
    got = json.loads(sent.body["ContentVariables"])
    assert got == {"1": f"see {BASE}/{tokens_in(got)[0]}", "2": got["2"], "3": X}
    assert view["template"] == filled
    assert [row["token_hash"] for row in await shop.links(view["id"])] == [
        sha256(token.encode()).digest() for token in (tokens_in(got)[0], got["2"])
    ]
    await shop.forgets()


async def test_what_the_author_decides(shop: Shop) -> None:
    for wishes in ({"track": False}, {"skip": [X]}):
        view, sent = await shop.sent(shop.sms, text=X, links=wishes)
        assert (sent.text, "links" in view, "untracked_segments" in view) == (X, False, False)
    view, sent = await shop.sent(shop.sms, text=f"{X} {Y}", links={"skip": [X]})
    assert sent.text == f"{X} {BASE}/{tokens_in(sent.text)[0]}"

    utm = {"source": "sms", "term": "a b"}
    view, _ = await shop.sent(shop.sms, text=f"{X}?utm_source=own#top", campaign="spring", links={"utm": utm})
    assert places(view) == [("/text", f"{X}?utm_source=own&utm_campaign=spring&utm_term=a%20b#top")]
    assert [row["campaign"] for row in await shop.links(view["id"])] == ["spring"]
    view, _ = await shop.sent(shop.sms, text=X, campaign="spring", links={"utm": {**utm, "campaign": "other"}})
    assert places(view) == [("/text", f"{X}?utm_source=sms&utm_campaign=other&utm_term=a%20b")]

    just = "a" * (160 - len(X) - 1) + " " + X
    view, sent = await shop.sent(shop.sms, text=just)
    assert (view["segments"], view["untracked_segments"], len(tokens_in(sent.text))) == (2, 1, 1)
    view, sent = await shop.sent(shop.sms, text=just, links={"never_more_segments": True})
    assert (view["segments"], "untracked_segments" in view, sent.text) == (1, False, just)
    full = "a" * (1600 - len(X) - 1) + " " + X
    view, sent = await shop.sent(shop.sms, text=full)
    assert (view["segments"], sent.text) == (11, full)  # no room for a longer link


BODY = {"type": "body", "parameters": [{"type": "text", "text": X, "track": True}]}
BUTTON = {"type": "button", "sub_type": "url", "index": "0"}


def template(*components: dict[str, Any]) -> dict[str, Any]:
    return {"type": "template", "template": {"name": "sale", "language": "en", "components": list(components)}}


def variables(**fields: Any) -> dict[str, Any]:
    return {"type": "template", "template": {"content_sid": "HX" + "0" * 32, "variables": {"1": X}, **fields}}


SUFFIX = template({**BUTTON, "parameters": [{"type": "text", "text": X, "track": True}]})


async def test_what_is_asked_of_links_is_checked(shop: Shop) -> None:
    """Every fault has its place, and of a refused message nothing is left."""
    button = {"type": "cta_url", "text": "Hi", "title": "Go", "url": X}
    for fields, code, pointer in (
        ({"links": {"track": "yes"}}, "invalid_request", "/links/track"),
        ({"links": {"skip": "https://x.example"}}, "invalid_request", "/links/skip"),
        ({"links": {"skip": ["x.example"]}}, "invalid_request", "/links/skip/0"),
        ({"links": {"skip": [X] * 101}}, "invalid_request", "/links/skip"),
        ({"links": {"utm": {"id": "x"}}}, "invalid_request", "/links/utm/id"),
        ({"links": {"utm": {"source": ""}}}, "invalid_request", "/links/utm/source"),
        ({"links": {"never_more_segments": 1}}, "invalid_request", "/links/never_more_segments"),
        ({"links": {"more": 1}}, "invalid_request", "/links/more"),
        ({"type": "interactive", "interactive": {**button, "track": 0}}, "invalid_request", "/interactive/track"),
        (template({**BODY, "type": "footer"}), "invalid_request", "/template/components/0"),
        (template(BODY, {**BODY, "parameters": [{"type": "text", "text": X, "track": "x"}]}), "invalid_request",
         "/template/components/1"),
        (template({**BUTTON, "parameters": [{"type": "text", "text": "sale", "track": True}]}), "invalid_request",
         "/template/components/0"),
        ({**SUFFIX, "links": {"track": False}}, "invalid_request", "/links"),
        (variables(track_variables=["2"]), "invalid_request", "/template/track_variables"),
        (variables(track_suffixes=["2"]), "invalid_request", "/template/track_suffixes"),
        (variables(track_suffixes=["1"], track_variables=["1"]), "invalid_request", "/template/track_suffixes"),
        (variables(variables={"1": "sale"}, track_suffixes=["1"]), "invalid_request", "/template/track_suffixes"),
        ({**SUFFIX, "links": {"skip": [X]}}, "link_not_trackable", "/template/components/0/parameters/0/text"),
        (template({**BUTTON, "parameters": [{"type": "text", "text": "https://wa.me/49", "track": True}]}),
         "link_not_trackable", "/template/components/0/parameters/0/text"),
        (template({**BUTTON, "parameters": [{"type": "text", "text": "http://10.0.0.1", "track": True}]}),
         "link_not_trackable", "/template/components/0/parameters/0/text"),
    ):  # fmt: skip
        answer = await shop.sends(shop.whatsapp, **{"kind": "text", "text": "Hi"} | renamed(fields))
        assert (answer.status, answer.json["code"]) == (422, code), (fields, answer)
        assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer], (fields, answer)
    campaign = await automates(shop.crm, shop.sms, X, "campaign", campaign="spring")
    assert (campaign.status, campaign.json["code"]) == (409, "no_consent")
    late = await automates(shop.helpdesk, shop.sms, X)
    assert (late.status, late.json["code"]) == (409, "not_parent")
    new = await shop.crm.call(
        "POST", "/v1/messages", {**SUFFIX, "to": "+4915100000000", "medium": "whatsapp", "from": NUMBER,
                                 "origin": "agent", "agent": {"id": "7"}, "links": {"skip": [X]}},
    )  # fmt: skip
    assert (new.status, new.json["code"]) == (422, "link_not_trackable")
    assert await ask(shop.url, "select count(*) from tracked_link") == 0
    assert await ask(shop.url, "select count(*) from message where direction = 'outbound'") == 0
    assert await ask(shop.url, "select count(*) from contact") == 1


def renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """`type` is what `sends` calls `kind`; without a text where none belongs."""
    more = dict(fields)
    if "type" in more:
        more |= {"kind": more.pop("type"), "text": None}
    return more


async def test_repeated_scheduled_and_cancelled(shop: Shop) -> None:
    """A repeated request gets the first answer and makes no more links; what waits keeps its form until it is gone."""
    await shop.agrees()
    key = {"Idempotency-Key": "once"}
    answers = [await shop.crm.reply(shop.sms, X, headers=key) for _ in range(2)]
    assert answers[0].json == answers[1].json
    first = view_of(answers[0])
    assert len(await shop.links(first["id"])) == 1
    await shop.by_sms.hears()

    due = LATER.isoformat()
    kept, dropped, handed = [
        view_of(await automates(shop.crm, shop.sms, f"{text} {X}", "workflow", send_at=due)) for text in "abc"
    ]
    (link,) = await shop.links(kept["id"])
    assert link["created_at"] == LATER  # its days begin when it goes out
    await until(lambda: ask(shop.url, "select count(*) = 3 from sent_form"))
    waiting = await ask(shop.url, "select content from sent_form where message_id = $1", uuid_of(kept["id"]))
    assert await shop.holding(tokens_in(waiting)[0]) == {"sent_form"}
    assert (await shop.crm.call("DELETE", f"/v1/messages/{dropped['id']}")).status == 200
    assert set(await shop.forms()) == {kept["id"], handed["id"]}
    async with connected(shop.url) as conn:
        assert await prune_sent_forms(conn, timedelta(0)) == 0  # they wait for their time
        await conn.execute("update sent_form set created_at = now() - interval '400 days'")
        assert await prune_sent_forms(conn) == 0
        await conn.execute(
            "update schedule set due_at = now() - interval '1 second' where message_id = $1", uuid_of(kept["id"])
        )
    sent = await shop.by_sms.hears()
    (token,) = tokens_in(sent.text)
    assert (sent.text, len(token), sent.hub_id) == (f"a {BASE}/{token}", 11, kept["id"])
    await until(lambda: ask(shop.url, "select count(*) = 1 from sent_form"))
    await shop.helpdesk.endpoint.wait(lambda me: any(heard(d.data, "by SMS") for d in me.of("message.received")))
    await leaves(shop.crm)  # what the old parent had scheduled is cancelled
    await ends(shop.helpdesk, handed["id"], "cancelled")
    await shop.forgets()


async def test_without_a_link_host_nothing_is_tracked(hub_world: World, database_url: str) -> None:
    shop = await shop_in(hub_world, database_url)
    view, sent = await shop.sent(shop.sms, text=X, links={"utm": {"source": "sms"}})
    assert (sent.text, "links" in view, "untracked_segments" in view) == (X, False, False)
    view, sent = await shop.sent(shop.whatsapp, "template", template=template(BODY)["template"])
    assert sent.body["template"]["components"] == [{"type": "body", "parameters": [{"type": "text", "text": X}]}]
    for answer in (
        await shop.sends(shop.whatsapp, "template", template=SUFFIX["template"]),
        await shop.crm.call("POST", "/v1/links", {"url": X}),
    ):
        assert (answer.status, answer.json["code"]) == (409, "links_off")
    assert await ask(database_url, "select count(*) from tracked_link") == 0


# Failing and unknown ------------------------------------------------------------------------------------------------


async def test_e8_what_was_not_taken_goes_again_in_the_same_form(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "FIRST_PAUSE", 0.05)
    shop.world.simulator.fail_next(Fault.throttled())
    view, sent = await shop.sent(shop.sms, text=X)
    assert [row["token_hash"] for row in await shop.links(view["id"])] == [
        sha256(token.encode()).digest() for token in tokens_in(sent.text)
    ]
    await shop.forgets()
    shop.world.simulator.fail_next(Fault.refused(21211))
    await ends(shop.crm, view_of(await shop.sends(shop.sms, text=X))["id"], "failed")
    await shop.forgets()


async def test_e8_twilio_is_asked_by_what_was_sent(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that say the same are told apart by their tokens; what Twilio never had keeps its form for two days."""
    monkeypatch.setattr(asker, "ASK_AFTER", tuple(step / 5 for step in range(100)))
    monkeypatch.setattr(asker, "_LOOK", 0.05)
    simulator, list_unknown, names = shop.world.simulator, outbox.list_unknown, list[str]()

    async def when_both_are(*arguments: Any) -> Any:
        return await list_unknown(*arguments) if len(names) == 2 else []

    monkeypatch.setattr(outbox, "list_unknown", when_both_are)
    simulator.status_plan = StatusPlan.none()
    for _ in range(2):
        simulator.fail_next(Fault.dropped(taken=True))
        name = view_of(await shop.sends(shop.sms, text=X))["id"]
        await ends(shop.crm, name, "unknown")
        await ask(shop.url, "delete from outbox")  # its conversation need not wait any longer
        names.append(name)
    named = "select count(*) = 2 from message where provider_id is not null and direction = 'outbound'"
    await until(lambda: ask(shop.url, named))
    for send in simulator.sent:
        assert send.provider_id == (await shop.crm.call("GET", f"/v1/messages/{send.hub_id}")).json["provider_id"]
    await shop.forgets()

    simulator.fail_next(Fault.dropped(taken=False))
    lost = view_of(await shop.sends(shop.sms, text=X))["id"]
    await ends(shop.crm, lost, "unknown")
    async with connected(shop.url) as conn:
        await conn.execute("delete from outbox")
        assert await prune_sent_forms(conn) == 0
        await conn.execute("update sent_form set created_at = now() - interval '3 days'")
        assert await prune_sent_forms(conn) == 1
    assert await shop.forms() == []


# Links for others' messages -----------------------------------------------------------------------------------------


async def test_links_for_messages_that_the_hub_does_not_send(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def makes(body: dict[str, Any], key: str | None = None) -> Answer:
        headers = {"Idempotency-Key": key} if key else {}
        return await shop.crm.call("POST", "/v1/links", body, **headers)

    plain = await makes({"url": f"{X}#top", "campaign": "spring", "utm": {"source": "mail"}})
    assert plain.status == 201, plain
    (token,) = tokens_in(plain.json["url"])
    target = f"{X}?utm_source=mail&utm_campaign=spring#top"
    assert (len(token), plain.json["target"], plain.json["personal"]) == (8, target, False)
    assert plain.json["identifies_until"] is None
    until_ = datetime.fromisoformat(plain.json["redirects_until"]) - timedelta(days=90)
    assert abs(until_ - datetime.now(UTC)) < timedelta(minutes=1)
    (row,) = await shop.rows("select * from tracked_link")
    assert (f"lnk_{row['id'].hex}", row["token_hash"]) == (plain.json["id"], sha256(token.encode()).digest())
    assert (row["campaign"], row["medium"], row["message_id"], row["contact_id"]) == ("spring", None, None, None)

    to_mia = {"url": X, "address": MIA.phone}
    assert (await makes(to_mia)).json["personal"] is False  # who has not agreed
    await shop.agrees()
    personal = await makes(to_mia | {"medium": "sms"})
    assert (personal.json["personal"], len(tokens_in(personal.json)[0])) == (True, 11)
    seconds = datetime.fromisoformat(personal.json["redirects_until"]) - datetime.fromisoformat(
        personal.json["identifies_until"]
    )
    assert seconds == timedelta(days=60)
    assert (await makes({"url": X, "address": "+4915199999999"})).json["personal"] is False  # nobody's
    assert (await makes({"url": X, "address": "mia@example.com"})).json["personal"] is False
    await ask(
        shop.url,
        """insert into contact_address (contact_id, type, value, match_key, is_proved, is_declared)
           select id, 'email', 'mia@example.com', 'mia@example.com', false, true from contact""",
    )
    mail = await makes({"url": X, "address": " Mia@Example.com "})
    (row,) = await shop.rows("select * from tracked_link where id = $1", uuid_of(mail.json["id"]))
    assert (row["medium"], row["destination_type"], row["destination_value"]) == ("email", "email", "mia@example.com")
    assert (mail.json["personal"], row["contact_id"] is not None) == (True, True)

    batch = {"links": [{"url": X}, {"url": Y, "address": "mia@example.com"}, {"url": X}]}
    first, again = [await makes(batch, "batch") for _ in range(2)]
    assert (first.status, again.status, first.json == again.json) == (201, 201, True)
    made = first.json["links"]
    assert [(link["target"], link["personal"]) for link in made] == [(X, False), (Y, True), (X, False)]
    assert len({link["url"] for link in made}) == 3
    other = await makes({"url": X}, "batch")
    assert (other.status, other.json["code"]) == (422, "idempotency_mismatch")
    for token in tokens_in([plain.json, personal.json, mail.json, first.json]):
        assert await shop.holding(token) == set()

    count = await ask(shop.url, "select count(*) from tracked_link")
    for body, faults in (
        ({}, ["/url"]),
        ({"url": X, "more": 1}, ["/more"]),
        ({"url": 7}, ["/url"]),
        ({"url": "shop.example"}, ["/url"]),
        ({"url": "https://u:p@shop.example"}, ["/url"]),
        ({"url": "http://10.0.0.1/"}, ["/url"]),
        ({"url": f"{BASE}/abc"}, ["/url"]),
        ({"url": "https://shop.example/unsubscribe"}, ["/url"]),
        ({"url": X, "address": "Mia"}, ["/address"]),
        ({"url": X, "address": "0151 123"}, ["/address"]),
        ({"url": X, "address": MIA.phone, "medium": "email"}, ["/medium"]),
        ({"url": X, "address": "mia@example.com", "medium": "sms"}, ["/medium"]),
        ({"url": X, "medium": "fax"}, ["/medium"]),
        ({"url": X, "utm": {"id": "x"}}, ["/utm/id"]),
        ({"links": []}, ["/links"]),
        ({"links": [{"url": X}] * 501}, ["/links"]),
        ({"links": [{"url": X}], "url": X}, ["/url"]),
        ({"links": [{"url": "x"}, {"url": X}, {"url": X, "address": "x"}]}, ["/links/0/url", "/links/2/address"]),
    ):
        answer = await makes(body)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request"), (body, answer)
        assert [fault["pointer"] for fault in answer.json["errors"]] == faults, (body, answer)
    told = await makes({"links": [{"url": "x"}, {"url": "http://10.0.0.1"}, {"url": "https://wa.me/49"}]})
    assert [fault["code"] for fault in told.json["errors"]] == [
        "link_target_invalid", "link_target_not_allowed", "link_not_trackable",
    ]  # fmt: skip
    assert await ask(shop.url, "select count(*) from tracked_link") == count
    many = await makes({"links": [{"url": X, "address": MIA.phone}] * 500})
    assert len({link["url"] for link in many.json["links"]}) == 500
    drawn = iter(["Aaaaaaa1", "Aaaaaaa1", "Aaaaaaa1", "Aaaaaaa2"])  # two alike: one is drawn again
    monkeypatch.setattr(track_links, "new_token", lambda **_: next(drawn))
    two = await makes({"links": [{"url": X}, {"url": Y}]})
    assert sorted(tokens_in(two.json)) == ["Aaaaaaa1", "Aaaaaaa2"]
    for link in two.json["links"]:
        secret = sha256(tokens_in(link)[0].encode()).digest()
        target = await ask(shop.url, "select target from tracked_link where token_hash = $1", secret)
        assert target == link["target"]
    poor = await shop.world.service("poor")
    missing = await poor.call("POST", "/v1/links", {"url": X})
    assert (missing.status, missing.json["code"], missing.json["scope"]) == (403, "missing_scope", "profiles")
