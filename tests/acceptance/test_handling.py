"""Picking up, releasing and passing on: who handles a conversation, told to all and in nobody's way (rules D1, D4)."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

from hub.domain.ids import parse_id
from hub.store.pool import Database
from hub.workers.janitor import Janitor
from tests.support.talk import MIA, leaves, pages, timeline, writes
from tests.support.wire import ask, until
from tests.support.world import Answer, Service, World

END_LEASES = "update pickup set expires_at = expires_at - interval '15 minutes 1 second'"


async def picks_up(service: Service, conversation: str, agent: str = "Ana", **more: Any) -> Answer:
    """An agent picks a conversation up."""
    body = {"agent": {"id": f"agent-{agent}", "name": agent}} | more
    answer = await service.call("POST", f"/v1/conversations/{conversation}/pickup", body)
    assert answer.status == 200, answer
    return answer


async def releases(service: Service, conversation: str, agent: str | None = None) -> Answer:
    """A service, or one agent of it, releases a conversation."""
    body = {"agent": {"id": f"agent-{agent}"}} if agent else None
    answer = await service.call("DELETE", f"/v1/conversations/{conversation}/pickup", body)
    assert answer.status == 200, answer
    return answer


async def passes(service: Service, conversation: str, to: str, **more: Any) -> Answer:
    """A service passes a conversation on."""
    return await service.call("POST", f"/v1/conversations/{conversation}/pass", {"to": to} | more)


async def view(service: Service, conversation: str) -> dict[str, Any]:
    """A conversation as a service sees it."""
    answer = await service.call("GET", f"/v1/conversations/{conversation}")
    assert answer.status == 200, answer
    return dict(answer.json)


def side(service: Service) -> dict[str, str]:
    return {"id": service.id, "name": service.name}


def assert_no_gap(service: Service) -> None:
    """Every event of the one conversation that a service heard has the next number; collisions have none."""
    numbers = [d.data["conversation"]["sequence"] for d in service.endpoint.deliveries if "conversation" in d.data]
    counted = [number for number in numbers if number is not None]
    assert counted == list(range(1, len(counted) + 1))


async def keeps_house(url: str) -> None:
    """The janitor's chores that concern this, once."""
    database = Database(lambda: {"dsn": url})
    janitor = Janitor(database, inbound_key_days=30, event_retention_days=30, attempt_retention_days=14)
    owner = await database.dedicated()
    try:
        await janitor._expire_pickups(owner)
        await janitor._prune_presence(owner)
    finally:
        await owner.close()


async def test_d1_a_pickup_is_told_renewed_relieved_and_released(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    answer = await picks_up(helpdesk, conversation)
    first = answer.json["picked_up_by"]
    assert first["service"] == side(helpdesk)
    assert first["agent"] == {"id": "agent-Ana", "name": "Ana"}
    lasts = datetime.fromisoformat(first["expires_at"]) - datetime.fromisoformat(first["since"])
    assert lasts == timedelta(minutes=15)
    assert answer.json["warnings"] == []
    for service in (helpdesk, crm):
        (told,) = await service.endpoint.hears("conversation.picked_up")
        agent = first["agent"] if service is helpdesk else {"name": "Ana"}
        assert told.data["pickup"] == {**first, "agent": agent}
        assert told.data["conversation"]["picked_up_by"] == {**first, "agent": agent}
        assert told.data["contact"]["name"] == "Mia"
        assert told.data["automation"]["allowed"] is (service is helpdesk)
        shown = await view(service, conversation)
        assert shown["picked_up_by"] == {**first, "agent": agent}
        assert shown["pickups"] == [shown["picked_up_by"]]
    await ask(database_url, "update pickup set expires_at = expires_at - interval '5 minutes'")
    again = (await picks_up(helpdesk, conversation)).json["picked_up_by"]
    assert again["since"] == first["since"]
    assert again["expires_at"] > first["expires_at"]
    await picks_up(helpdesk, conversation, agent="Ben")
    told = (await crm.endpoint.hears("conversation.picked_up", 2))[1]
    assert told.data["pickup"]["agent"] == {"name": "Ben"}
    assert told.data["pickup"]["previous"] == {"agent": {"name": "Ana"}, "since": first["since"]}
    own = (await helpdesk.endpoint.hears("conversation.picked_up", 2))[1]
    assert own.data["pickup"]["previous"]["agent"] == {"id": "agent-Ana", "name": "Ana"}
    assert (await releases(helpdesk, conversation, agent="Ana")).json["released"] is False
    assert (await releases(helpdesk, conversation, agent="Ben")).json == {"released": True, "picked_up_by": None}
    (told,) = await crm.endpoint.hears("conversation.released")
    assert told.data["reason"] == "released"
    assert told.data["pickup"]["agent"] == {"name": "Ben"}
    assert told.data["conversation"]["picked_up_by"] is None
    for service in (helpdesk, crm):
        assert (await releases(service, conversation)).json == {"released": False, "picked_up_by": None}
        assert (await view(service, conversation))["pickups"] == []
    await hub_world.customer(MIA).says("bye")
    last = (await crm.endpoint.hears("message.received", 2))[1]
    assert last.data["conversation"]["picked_up_by"] is None
    assert_no_gap(crm)
    assert len(crm.endpoint.deliveries) == len({d.id for d in crm.endpoint.deliveries})
    assert_no_gap(helpdesk)
    assert crm.endpoint.of("conversation.collision") == []


async def test_d1_each_service_has_its_holder_and_events_name_the_longest_standing(hub_world: World) -> None:
    helpdesk, crm, books = await hub_world.connected("helpdesk", "crm", "books")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm, books)
    await picks_up(crm, conversation, agent="Cem")
    second = await picks_up(helpdesk, conversation)
    (warning,) = second.json["warnings"]
    assert (warning["code"], warning["agent"], warning["service"]) == ("picked_up", {"name": "Cem"}, side(crm))
    for service in (helpdesk, crm, books):
        shown = await view(service, conversation)
        assert [holder["service"]["name"] for holder in shown["pickups"]] == ["crm", "helpdesk"]
        ids = [holder["agent"].get("id") for holder in shown["pickups"]]
        assert ids == ["agent-Cem" if service is crm else None, "agent-Ana" if service is helpdesk else None]
        assert shown["picked_up_by"] == shown["pickups"][0]
        assert (await service.call("GET", "/v1/conversations")).json["items"] == [shown]
        listed = await service.call("GET", f"/v1/conversations/{conversation}/messages")
        assert listed.json["conversation"] == shown
    await customer.says("anybody?")
    for service in (helpdesk, crm, books):
        holder = (await service.endpoint.hears("message.received", 2))[1].data["conversation"]["picked_up_by"]
        assert (holder["service"], holder["agent"].get("id")) == (side(crm), "agent-Cem" if service is crm else None)
    released = await releases(crm, conversation)
    assert released.json["picked_up_by"]["service"] == side(helpdesk)
    assert released.json["picked_up_by"]["agent"] == {"name": "Ana"}
    told = (await books.endpoint.hears("conversation.released"))[0].data
    assert told["conversation"]["picked_up_by"]["service"] == side(helpdesk)
    assert "agent-" not in json.dumps([d.data for d in books.endpoint.deliveries])
    sent = await crm.reply(conversation, "still there", agent="Cem")
    assert (sent.status, len(sent.json["warnings"])) == (202, 1)


async def test_d1_a_lease_ends_by_itself(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    await picks_up(helpdesk, conversation)
    await picks_up(crm, conversation, agent="Cem")
    await ask(database_url, END_LEASES + " where agent_id = 'agent-Ana'")
    shown = await view(crm, conversation)  # nobody has tidied up yet
    assert [holder["agent"]["name"] for holder in shown["pickups"]] == ["Cem"]
    assert (await crm.reply(conversation, "mine", agent="Cem")).json["warnings"] == []
    await keeps_house(database_url)
    (told,) = await crm.endpoint.hears("conversation.released")
    assert (told.data["reason"], told.data["pickup"]["agent"]) == ("expired", {"name": "Ana"})
    assert told.data["conversation"]["picked_up_by"]["agent"] == {"id": "agent-Cem", "name": "Cem"}
    await keeps_house(database_url)
    await ask(database_url, END_LEASES)
    # Whoever comes before the janitor finds the same, in order.
    await picks_up(crm, conversation, agent="Cem")
    await helpdesk.endpoint.hears("conversation.picked_up", 3)
    kinds = [d.type.removeprefix("conversation.") for d in helpdesk.endpoint.deliveries if "pickup" in d.data]
    assert kinds == ["picked_up", "picked_up", "released", "released", "picked_up"]
    assert_no_gap(helpdesk)


async def test_a4_a_service_that_leaves_holds_nothing_more(hub_world: World) -> None:
    helpdesk, crm, books = await hub_world.connected("helpdesk", "crm", "books")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm, books)
    sms = hub_world.customer(MIA, provider="twilio", medium="sms")
    other = await writes(sms, helpdesk, crm, books, text="by sms")
    await picks_up(crm, conversation, agent="Cem")
    await picks_up(helpdesk, conversation)
    await picks_up(crm, other, agent="Cem")
    assert (await passes(helpdesk, other, crm.id)).status == 200
    typing = {"agent": {"id": "agent-Cem"}, "state": "typing"}
    assert (await crm.call("POST", f"/v1/conversations/{conversation}/presence", typing)).status == 200
    await leaves(crm)
    told = await books.endpoint.hears("conversation.released", 2)
    assert [d.data["reason"] for d in told] == ["disconnected"] * 2
    assert {d.data["conversation"]["id"] for d in told} == {conversation, other}
    assert (await view(books, conversation))["picked_up_by"]["service"] == side(helpdesk)
    shown = await view(books, other)
    assert (shown["pickups"], shown["waiting_for"]) == ([], None)
    looking = {"agent": {"id": "agent-Ana"}, "state": "viewing"}
    there = await helpdesk.call("POST", f"/v1/conversations/{conversation}/presence", looking)
    assert there.json["presence"] == []
    refused = await crm.call("POST", f"/v1/conversations/{conversation}/pickup", {"agent": {"id": "x"}})
    assert (refused.status, refused.json["code"]) == (404, "not_found")


async def test_a4_nothing_is_picked_up_while_its_service_leaves(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    path = f"/v1/conversations/{conversation}/pickup"
    for number in range(5):
        trying = [crm.call("POST", path, {"agent": {"id": f"agent {number} {n}"}}) for n in range(6)]
        *answers, _ = await asyncio.gather(*trying, leaves(crm))
        assert {answer.status for answer in answers} <= {200, 404}
        assert await ask(database_url, "select count(*) from pickup") == 0
        assert (await view(helpdesk, conversation))["picked_up_by"] is None
        assert await ask(database_url, "select count(*) from conversation where picked_up_by is not null") == 0
        await crm.connect()
    assert_no_gap(helpdesk)


async def test_d4_a_conversation_is_passed_with_a_note_for_the_two(hub_world: World) -> None:
    helpdesk, crm, books = await hub_world.connected("helpdesk", "crm", "books")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm, books)
    await picks_up(helpdesk, conversation)
    ana = {"id": "agent-Ana", "name": "Ana"}
    answer = await passes(helpdesk, conversation, crm.id, note="§ She wants a discount", agent=ana)
    assert answer.status == 200
    waiting = answer.json["waiting_for"]
    assert (waiting["service"], waiting["from"], waiting["agent"]) == (side(crm), side(helpdesk), {"name": "Ana"})
    for service in (helpdesk, crm, books):
        told = (await service.endpoint.hears("conversation.passed"))[0].data
        assert (told["from"], told["to"]) == (side(helpdesk), side(crm))
        assert told["agent"] == (ana if service is helpdesk else {"name": "Ana"})
        assert told.get("note") == (None if service is books else "§ She wants a discount")
        shown = await view(service, conversation)
        assert shown["waiting_for"] == {n: v for n, v in waiting.items() if n != "note" or service is not books}
        assert shown["picked_up_by"] is None
        listed = await service.call("GET", "/v1/conversations?waiting=true")
        assert listed.json["items"] == ([shown] if service is crm else [])
        (released,) = service.endpoint.of("conversation.released")
        assert released.data["reason"] == "passed"
        assert_no_gap(service)
    assert "§" not in json.dumps([d.data for d in books.endpoint.deliveries], ensure_ascii=False)
    assert "§" not in str((await books.call("GET", "/v1/events?limit=200")).json)
    # Another's reply leaves it waiting, the receiver's own does not; nor does a pick-up.
    await helpdesk.reply(conversation, "One moment")
    assert (await view(crm, conversation))["waiting_for"]
    await crm.reply(conversation, "Here we are", agent="Cem")
    assert (await view(crm, conversation))["waiting_for"] is None
    await passes(crm, conversation, books.id)
    await passes(books, conversation, helpdesk.id)
    assert (await view(crm, conversation))["waiting_for"]["service"] == side(helpdesk)
    await picks_up(helpdesk, conversation)
    assert (await view(crm, conversation))["waiting_for"] is None
    assert (await helpdesk.call("GET", "/v1/conversations?waiting=true")).json["items"] == []
    await passes(crm, conversation, books.id, note="§")
    await leaves(crm)
    assert (await view(books, conversation))["waiting_for"] is None


async def test_what_cannot_be_handled_is_refused(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    alone = await hub_world.service("books", plan="standalone")
    await alone.connect()
    stranger = await hub_world.service("stranger")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm, alone)
    (theirs,) = {d.data["conversation"]["id"] for d in alone.endpoint.of("message.received")}
    for path, body, wanted in (
        ("pickup", {}, (422, "invalid_request")),
        ("pickup", {"agent": {"name": "Ana"}}, (422, "invalid_request")),
        ("pickup", {"agent": {"id": " \t "}}, (422, "invalid_request")),
        ("pickup", {"agent": {"id": "a", "name": " "}}, (422, "invalid_request")),
        ("presence", {"agent": {"id": "a"}, "state": "asleep"}, (422, "invalid_request")),
        ("presence", {"state": "typing"}, (422, "invalid_request")),
        ("pass", {}, (422, "invalid_request")),
        ("pass", {"to": "crm"}, (422, "invalid_request")),
        ("pass", {"to": crm.id, "note": "x" * 4097}, (422, "invalid_request")),
        ("pass", {"to": helpdesk.id}, (422, "invalid_request")),
        ("pass", {"to": alone.id}, (409, "not_connected")),
        ("pass", {"to": stranger.id}, (409, "not_connected")),
    ):
        answer = await helpdesk.call("POST", f"/v1/conversations/{conversation}/{path}", body)
        assert (answer.status, answer.json["code"]) == wanted, (path, body)
    for service, name in ((helpdesk, theirs), (alone, conversation), (helpdesk, "cnv_" + "0" * 32), (helpdesk, "x")):
        for path, body in (
            ("pickup", {"agent": {"id": "a"}}),
            ("presence", {"agent": {"id": "a"}, "state": "typing"}),
            ("pass", {"to": crm.id}),
        ):
            answer = await service.call("POST", f"/v1/conversations/{name}/{path}", body)
            assert (answer.status, answer.json["code"]) == (404, "not_found")
            assert "(rule A4)" in answer.json["detail"] or name == "x"
        assert (await service.call("DELETE", f"/v1/conversations/{name}/pickup")).status == 404
    reader = await hub_world.service("reader", scopes=["read"])
    await reader.connect()
    for method, path in (("POST", "pickup"), ("DELETE", "pickup"), ("POST", "presence"), ("POST", "pass")):
        answer = await reader.call(method, f"/v1/conversations/{conversation}/{path}", {})
        assert (answer.status, answer.json["code"]) == (403, "missing_scope")
        assert "(rule E3)" in answer.json["detail"]
    assert (await helpdesk.call("GET", "/v1/conversations?waiting=maybe")).status == 422


async def test_d1_ten_agents_at_once_leave_one_holder_per_service(hub_world: World, database_url: str) -> None:
    services = helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    answers = await asyncio.gather(
        *(picks_up(services[number % 2], conversation, agent=f"agent {number}") for number in range(10))
    )
    assert sum(not answer.json["warnings"] for answer in answers) == 1  # the very first
    shown = await view(helpdesk, conversation)
    assert {holder["service"]["id"] for holder in shown["pickups"]} == {helpdesk.id, crm.id}
    assert len(shown["pickups"]) == 2
    assert shown["last_sequence"] == 11
    assert await ask(database_url, "select count(*) from pickup") == 2
    stored = "select (picked_up_by::json -> 'since')::text from conversation where id = $1"
    oldest = json.loads(await ask(database_url, stored, parse_id("cnv", conversation)))
    assert oldest == shown["picked_up_by"]["since"]
    for service in services:
        told = await service.endpoint.hears("conversation.picked_up", 10)
        await until(lambda service=service: len(service.endpoint.of("conversation.collision")) >= 9)
        assert [d.data["conversation"]["sequence"] for d in told] == list(range(2, 12))
        assert_no_gap(service)
        relieved: dict[str, str] = {}
        for data in (d.data["pickup"] for d in told):  # each relieves the one before of its service
            before = data.get("previous", {}).get("agent", {}).get("name")
            assert before == relieved.get(data["service"]["id"])
            relieved[data["service"]["id"]] = data["agent"]["name"]
        assert relieved == {holder["service"]["id"]: holder["agent"]["name"] for holder in shown["pickups"]}
    everything = await pages(lambda path: helpdesk.call("GET", path), "/v1/conversations?limit=1")
    assert [item["id"] for item in everything] == [conversation]
    assert len(await timeline(helpdesk, conversation)) == 1
