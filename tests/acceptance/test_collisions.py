"""Two agents at one conversation: both are told, nobody is kept from answering (rules D2, D3)."""

import json
from datetime import datetime
from typing import Any

from hub.domain.ids import parse_id
from tests.acceptance.test_handling import assert_no_gap, picks_up, side
from tests.support.talk import MIA, automates, writes
from tests.support.wire import ask
from tests.support.world import Answer, Service, World

AGE = "update message set created_at = created_at - interval '15 minutes' where id = $1"


def warned(answer: Answer) -> list[tuple[Any, ...]]:
    """What an accepted message's answer warns of: code, service, agent's name and id."""
    assert answer.status in {200, 202}, answer
    return [
        (w["code"], w["service"] and w["service"]["name"], *(w["agent"] or {}).values())
        for w in answer.json["warnings"]
    ]


async def collisions(service: Service, count: int) -> list[dict[str, Any]]:
    """The collisions that a service heard of, at least so many."""
    return [d.data for d in await service.endpoint.hears("conversation.collision", count)]


async def test_d2_both_replies_are_sent_and_both_services_hear_of_it(hub_world: World, database_url: str) -> None:
    helpdesk, crm, books = await hub_world.connected("helpdesk", "crm", "books")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm, books)
    first = await crm.reply(conversation, "§ We call you", agent="Cem")
    assert first.json["warnings"] == []
    second = await helpdesk.reply(conversation, "§ We write you")
    (warning,) = second.json["warnings"]
    assert warning == {
        "code": "replied_recently",
        "agent": {"name": "Cem"},
        "service": side(crm),
        "since": first.json["message"]["created_at"],
    }
    assert {(await customer.hears()).text, (await customer.hears()).text} == {"§ We call you", "§ We write you"}
    heard = [await collisions(service, 1) for service in (helpdesk, crm)]
    for service, (told,) in zip((helpdesk, crm), heard, strict=True):
        assert told["conversation"]["id"] == conversation
        assert told["conversation"]["sequence"] is None
        assert told["contact"]["name"] == "Mia"
        assert told["number"]
        assert told["channel_id"] == service.connection["channel_id"]
        assert told["collision"] == {
            "code": "replied_recently",
            "agents": [
                {"service": side(helpdesk), "agent": {"name": "Ana"}, "since": told["collision"]["agents"][0]["since"]},
                {"service": side(crm), "agent": {"name": "Cem"}, "since": first.json["message"]["created_at"]},
            ],
        }
        assert "agent-" not in json.dumps(told)
        assert "§" not in json.dumps(told, ensure_ascii=False)
    assert heard[0][0]["event_id"] == heard[1][0]["event_id"]
    await customer.says("Thanks")
    await books.endpoint.hears("message.received", 2)
    assert books.endpoint.of("conversation.collision") == []
    for service in (helpdesk, crm, books):
        await service.endpoint.wait(
            lambda me: sum(d.data["message"]["status"] == "read" for d in me.of("message.status")) == 2
        )
        assert_no_gap(service)
    # Whoever replied 15 minutes ago is warned of no more, by the clock of the message.
    for answer in (first, second):
        await ask(database_url, AGE, parse_id("msg", answer.json["message"]["id"]))
    assert warned(await crm.reply(conversation, "Bye", agent="Cem")) == []


async def test_d2_one_warning_per_other_agent_and_a_holder_before_a_writer(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    await picks_up(crm, conversation, agent="Cem")
    assert warned(await crm.reply(conversation, "1", agent="Cem")) == []
    assert warned(await helpdesk.reply(conversation, "2", agent="Ana")) == [("picked_up", "crm", "Cem")]
    assert warned(await helpdesk.reply(conversation, "3", agent="Ben")) == [
        ("picked_up", "crm", "Cem"),
        ("replied_recently", "helpdesk", "agent-Ana", "Ana"),
    ]
    assert warned(await crm.reply(conversation, "4", agent="Cem")) == [
        ("replied_recently", "helpdesk", "Ben"),
        ("replied_recently", "helpdesk", "Ana"),
    ]
    picked = await picks_up(helpdesk, conversation, agent="Ana")
    assert warned(picked) == [
        ("picked_up", "crm", "Cem"),
        ("replied_recently", "helpdesk", "agent-Ben", "Ben"),
    ]
    assert warned(await picks_up(helpdesk, conversation, agent="Ana")) == warned(picked)  # a renewal
    told = await collisions(helpdesk, 7)
    assert await collisions(crm, 5)
    pairs = [[a["agent"]["name"] for a in event["collision"]["agents"]] for event in told]
    assert pairs == [
        ["Ana", "Cem"],
        ["Ben", "Cem"],
        ["Ben", "Ana"],
        ["Cem", "Ben"],
        ["Cem", "Ana"],
        ["Ana", "Cem"],
        ["Ana", "Ben"],
    ]
    codes = [event["collision"]["code"] for event in told]
    assert [code == "picked_up" for code in codes] == [True, True, False, False, False, True, False]
    assert len(crm.endpoint.of("conversation.collision")) == 5  # not those within the helpdesk


async def test_d2_a_bot_is_warned_and_nobody_hears_of_it(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    await picks_up(crm, conversation, agent="Cem")
    await picks_up(helpdesk, conversation)
    (told,) = await collisions(crm, 1)
    bot = await automates(helpdesk, conversation, "beep")
    assert warned(bot) == [("picked_up", "crm", "Cem"), ("picked_up", "helpdesk", "agent-Ana", "Ana")]
    assert (await customer.hears()).text == "beep"
    # A bot's message is no reply of an agent.
    assert warned(await crm.reply(conversation, "Hi", agent="Cem")) == [("picked_up", "helpdesk", "Ana")]
    first, second = (await collisions(crm, 2))[:2]
    assert first["event_id"] == told["event_id"]
    assert [a["agent"]["name"] for a in second["collision"]["agents"]] == ["Cem", "Ana"]


async def test_d3_an_answer_to_what_is_not_the_latest_is_sent_and_says_so(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    (seen,) = helpdesk.endpoint.of("message.received")
    mine = await helpdesk.reply(conversation, "My own", seen_sequence=seen.data["conversation"]["sequence"])
    assert mine.json["warnings"] == []
    # Statuses take numbers, too; they are no messages.
    await helpdesk.endpoint.wait(lambda me: any(d.data["message"]["status"] == "read" for d in me.of("message.status")))
    assert (await helpdesk.reply(conversation, "Again", seen_sequence=1)).json["warnings"] == []
    await customer.says("One more thing")
    await helpdesk.endpoint.hears("message.received", 2)
    (warning,) = (await helpdesk.reply(conversation, "Go on", seen_sequence=1)).json["warnings"]
    latest = helpdesk.endpoint.of("message.received")[1].data
    assert warning == {
        "code": "newer_messages",
        "agent": None,
        "service": None,
        "since": latest["message"]["created_at"],
        "sequence": latest["conversation"]["sequence"],
        "count": 1,
    }
    other = (await crm.reply(conversation, "Hi", agent="Cem")).json["message"]
    answer = await helpdesk.reply(conversation, "Right", seen_sequence=1)
    assert warned(answer) == [("replied_recently", "crm", "Cem"), ("newer_messages", "crm", "Cem")]
    newer = answer.json["warnings"][1]
    assert (newer["sequence"], newer["count"]) == (other["sequence"], 2)
    assert datetime.fromisoformat(newer["since"]) == datetime.fromisoformat(latest["message"]["created_at"])
    seen_all = answer.json["message"]["sequence"]
    assert warned(await helpdesk.reply(conversation, "Ok", seen_sequence=seen_all)) == [
        ("replied_recently", "crm", "Cem")
    ]
    last = [(await customer.hears()).text for _ in range(6)]
    assert last[-1] == "Ok"
    heard = await collisions(helpdesk, 3)
    assert {event["collision"]["code"] for event in heard} == {"replied_recently"}
