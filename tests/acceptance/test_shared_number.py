"""The shared number, told row by row as its users would tell it: what happens, and what each side sees.

helpdesk connected first and is parent; CRM and marketing are subscribers; books is not eligible for sharing and has a
channel of its own. One story per medium, over HTTP, with real signatures, on the simulated providers.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from providers.simulator import Customer, Person
from tests.support.talk import automates, conversation_of, ends, heard, leaves, revealed_events, roster, timeline
from tests.support.wire import until
from tests.support.world import NUMBER, Answer, Service, World, world

MIA = Person("+4915112345678", name="Mia")
AUTOMATION = ("chatbot", "auto_reply", "workflow", "notification", "scheduled", "campaign")


@dataclass
class Story:
    """Who plays, and where they are."""

    made: World
    mia: Customer
    helpdesk: Service
    crm: Service
    marketing: Service
    books: Service
    conversation: str = ""
    books_conversation: str = ""

    @property
    def sharers(self) -> list[Service]:
        return [self.helpdesk, self.crm, self.marketing]

    async def writes(self, text: str, *listeners: Service) -> None:
        await self.mia.says(text)
        for service in listeners:
            await service.endpoint.wait(lambda me: any(heard(d.data, text) for d in me.of("message.received")))

    async def gets(self, text: str) -> None:
        """The customer gets exactly this next."""
        assert (await self.mia.hears(10)).text == text

    async def bot(self, service: Service, text: str, origin: str = "chatbot") -> Answer:
        more: dict[str, Any] = {"campaign": "spring"} if origin == "campaign" else {}
        if origin == "scheduled":
            more["send_at"] = (datetime.now(UTC) + timedelta(seconds=0.2)).isoformat()
        return await automates(service, self.conversation, text, origin, **more)


@pytest.mark.parametrize("medium", ["whatsapp", "sms"])
async def test_the_tables_row_by_row(medium: str, database_url: str, tmp_path: Path) -> None:
    async with world(database_url, tmp_path) as made:
        provider = {"provider": "twilio", "medium": "sms"} if medium == "sms" else {}
        helpdesk, crm, marketing = await made.connected("helpdesk", "CRM", "marketing")
        (books,) = await made.connected("books", plan="standalone")
        story = Story(made, made.customer(MIA, **provider), helpdesk, crm, marketing, books)
        for row in ROWS:
            await row(story)


async def a_customer_writes(story: Story) -> None:
    """In full in all connected services, books in its own channel; one conversation in the shared channel."""
    await story.writes("Hello, is it open?", *story.sharers, story.books)
    seen = {service.name: service.endpoint.of("message.received")[0].data for service in [*story.sharers, story.books]}
    assert all(data["message"]["text"] == "Hello, is it open?" for data in seen.values())
    assert not any("masked" in data["message"] for data in seen.values())
    shared = {seen[service.name]["conversation"]["id"] for service in story.sharers}
    (story.conversation,) = shared
    story.books_conversation = seen["books"]["conversation"]["id"]
    assert story.books_conversation != story.conversation
    assert seen["books"]["channel_id"] != seen["helpdesk"]["channel_id"]
    for service in story.sharers:
        listed = await service.call("GET", "/v1/conversations")
        assert [item["id"] for item in listed.json["items"]] == [story.conversation]


async def an_agent_of_the_crm_replies(story: Story) -> None:
    """The customer gets it once; helpdesk and marketing see a masked entry with status; books sees nothing."""
    answer = await story.crm.reply(story.conversation, "Yes, until six", agent="Ben")
    assert (answer.status, answer.json["warnings"]) == (202, [])
    name = answer.json["message"]["id"]
    await story.gets("Yes, until six")
    for service in story.sharers:
        await ends(service, name, "delivered")
        for kind in ("message.queued", "message.status"):
            views = [d.data["message"] for d in service.endpoint.of(kind) if d.data["message"]["id"] == name]
            assert views
            for view in views:
                assert view["author"]["name"] == "CRM"
                assert view["agent"]["name"] == "Ben"
                assert view.get("masked", False) is (service is not story.crm)
                assert ("until six" in json.dumps(view)) is (service is story.crm)
    assert len(story.mia.received) == 1
    events = await story.books.call("GET", "/v1/events?limit=200")
    assert {e["type"] for e in events.json["items"]} <= {"service.connected", "message.received"}
    assert await timeline(story.books, story.books_conversation, "?limit=10") == [
        item for item in await timeline(story.books, story.books_conversation) if item["direction"] == "inbound"
    ]
    for path in (f"/v1/conversations/{story.conversation}", f"/v1/messages/{name}"):
        assert (await story.books.call("GET", path)).status == 404


async def another_agent_opens_the_conversation(story: Story) -> None:
    """The timeline is there, content of others masked."""
    for service in (story.helpdesk, story.marketing):
        newest, oldest = await timeline(service, story.conversation)
        assert (oldest["direction"], oldest["text"]) == ("inbound", "Hello, is it open?")
        assert newest["masked"] is True
        assert newest["status"] in {"delivered", "read"}
        assert "until six" not in json.dumps(newest)
    mine = await timeline(story.crm, story.conversation)
    assert mine[0]["text"] == "Yes, until six"


async def two_agents_of_different_services_reply(story: Story) -> None:
    """Both are sent; the second got a warning naming the first; both services heard of the collision."""
    quiet = len(story.marketing.endpoint.of("conversation.collision"))
    answer = await story.helpdesk.reply(story.conversation, "And on Sundays, too", agent="Ana")
    assert answer.status == 202
    (warning,) = answer.json["warnings"]
    assert warning["code"] == "replied_recently"
    assert warning["agent"]["name"] == "Ben"
    assert warning["service"]["name"] == "CRM"
    assert datetime.fromisoformat(warning["since"]) <= datetime.now(UTC)
    await story.gets("And on Sundays, too")
    for service in (story.helpdesk, story.crm):
        (told,) = await service.endpoint.hears("conversation.collision")
        assert told.data["conversation"]["id"] == story.conversation
        words = json.dumps(told.data)
        assert "Ana" in words
        assert "Ben" in words
        assert "Sundays" not in words
    assert len(story.marketing.endpoint.of("conversation.collision")) == quiet == 0


async def the_parent_s_automation(story: Story) -> None:
    """Chatbot, auto-reply, workflow, notification, scheduled message and campaign of the parent are sent."""
    address = MIA.phone
    granted = await story.helpdesk.call(
        "PUT", f"/v1/consents/{story.mia.medium}/{address}?number=%2B{NUMBER[1:]}", {"status": "granted"}
    )
    assert granted.status == 200, granted
    for origin in AUTOMATION:
        answer = await story.bot(story.helpdesk, f"robot: {origin}", origin)
        assert answer.status == 202, (origin, answer)
        await story.gets(f"robot: {origin}")


async def the_same_from_others(story: Story) -> None:
    """Refused `not_parent`, naming the helpdesk; seen by nobody's customer."""
    attempts = len(story.made.simulator.attempts)
    for service in (story.crm, story.marketing):
        for origin in AUTOMATION:
            refused = await story.bot(service, "never seen", origin)
            assert (refused.status, refused.json["code"]) == (409, "not_parent")
            assert refused.json["parent"]["name"] == "helpdesk"
            assert refused.json["parent"]["service_id"] == story.helpdesk.id
            assert "helpdesk" in refused.json["detail"]
    refused = await automates(story.books, story.books_conversation, "never seen")
    assert (refused.status, refused.json["code"]) == (409, "number_shared")
    assert len(story.made.simulator.attempts) == attempts
    assert not any("never seen" in json.dumps(e) for e in await revealed_events(story.made))


async def a_message_arrives(story: Story) -> None:
    """Only the parent's event says `automation.allowed: true`."""
    await story.writes("And tomorrow?", *story.sharers, story.books)
    allowed = {
        service.name: service.endpoint.of("message.received")[-1].data["automation"]["allowed"]
        for service in [*story.sharers, story.books]
    }
    assert allowed == {"helpdesk": True, "CRM": False, "marketing": False, "books": False}


async def each_asks_who_the_parent_is(story: Story) -> None:
    """Service, since, epoch."""
    for service in story.sharers:
        parent = (await roster(service))["parent"]
        assert parent["service_id"] == story.helpdesk.id
        assert (parent["name"], parent["epoch"]) == ("helpdesk", 1)
        assert datetime.fromisoformat(parent["since"]) <= datetime.now(UTC)


async def the_crm_disconnects(story: Story) -> None:
    """Only it stops receiving; the conversation goes on."""
    known = len(story.crm.endpoint.deliveries)
    await leaves(story.crm)
    await story.writes("Still there?", story.helpdesk, story.marketing)
    answer = await story.marketing.reply(story.conversation, "We are", agent="Cem")
    assert answer.status == 202
    await story.gets("We are")
    assert all(not heard(d.data, "Still there?") for d in story.crm.endpoint.of("message.received"))
    assert not any(d.type.startswith("message.") for d in story.crm.endpoint.deliveries[known:])
    assert (await story.crm.call("GET", f"/v1/conversations/{story.conversation}")).status == 404
    assert (await roster(story.marketing))["parent"]["epoch"] == 1


async def the_parent_disconnects(story: Story) -> None:
    """Marketing is parent in the same instant; history, numbers and queued agent replies are untouched; the old bot's
    queued message is cancelled with an event; the new parent's bot may speak.
    """
    before = await timeline(story.marketing, story.conversation, "?limit=200")
    last = before[0]["sequence"]
    simulator = story.made.simulator
    attempts = len(simulator.attempts)
    simulator.hold()
    first = await story.marketing.reply(story.conversation, "One moment", agent="Cem")
    await simulator.wait_for(lambda: len(simulator.attempts) > attempts, 10)
    robot = await story.bot(story.helpdesk, "old robot")
    waiting = await story.marketing.reply(story.conversation, "Here it is", agent="Cem")
    assert [a.status for a in (first, robot, waiting)] == [202] * 3
    await leaves(story.helpdesk)
    parent = (await roster(story.marketing))["parent"]
    assert (parent["name"], parent["epoch"]) == ("marketing", 2)
    cancelled = await ends(story.marketing, robot.json["message"]["id"], "cancelled")
    assert cancelled["masked"] is True
    simulator.release()
    await story.gets("One moment")
    await story.gets("Here it is")
    assert (await story.bot(story.marketing, "new robot")).status == 202
    await story.gets("new robot")
    after = await timeline(story.marketing, story.conversation, "?limit=200")
    assert [m["id"] for m in after[-len(before) :]] == [m["id"] for m in before]
    assert [m["sequence"] for m in after[-len(before) :]] == [m["sequence"] for m in before]
    assert after[-len(before) - 1]["sequence"] > last
    changed = story.marketing.endpoint.of("channel.parent_changed")[-1].data
    assert (changed["parent"]["name"], changed["previous"]["name"]) == ("marketing", "helpdesk")
    await story.writes("Who is there now?", story.marketing)
    assert story.marketing.endpoint.of("message.received")[-1].data["automation"] == {
        "allowed": True,
        "parent_epoch": 2,
    }


async def the_last_one_leaves_and_a_service_returns(story: Story) -> None:
    """Nothing is lost: stored unrouted, history there, replay brings it."""
    since = datetime.now(UTC)
    await leaves(story.marketing)
    await leaves(story.books)
    await story.mia.says("Is nobody there?")
    await until(lambda: _is_stored(story, "Is nobody there?"))
    connection = await story.crm.connect()
    assert (connection["role"], connection["parent"]["epoch"]) == ("parent", 3)
    history = await timeline(story.crm, story.conversation)
    assert history[0]["text"] == "Is nobody there?"
    assert history[0]["unrouted"] is True
    assert {m["text"] for m in await timeline(story.crm, story.conversation, "?limit=200") if "text" in m} >= {
        "Hello, is it open?",
        "Yes, until six",
    }
    replayed = await story.crm.call("POST", "/v1/replays", {"since": since.isoformat(), "number": NUMBER})
    assert replayed.status in {200, 201, 202}, replayed
    await story.crm.endpoint.wait(lambda me: any(heard(d.data, "Is nobody there?") for d in me.of("message.received")))
    again = next(d for d in story.crm.endpoint.of("message.received") if heard(d.data, "Is nobody there?"))
    assert again.headers["webhook-replay"] == "true"
    assert conversation_of(story.crm, "Is nobody there?") == story.conversation
    for service in (story.crm,):
        parent = (await roster(service))["parent"]
        assert (parent["name"], parent["epoch"]) == ("CRM", 3)


async def _is_stored(story: Story, text: str) -> bool:
    return any(e["data"].get("message", {}).get("text") == text for e in await revealed_events(story.made))


ROWS: Sequence[Any] = (
    a_customer_writes,
    an_agent_of_the_crm_replies,
    another_agent_opens_the_conversation,
    two_agents_of_different_services_reply,
    the_parent_s_automation,
    the_same_from_others,
    a_message_arrives,
    each_asks_who_the_parent_is,
    the_crm_disconnects,
    the_parent_disconnects,
    the_last_one_leaves_and_a_service_returns,
)
