"""What happened to one message, over the API: to its author, another service, the operator (rules A to G)."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hub.actions.look import View
from hub.actions.search import Hit, search
from hub.domain.media_links import MediaLinks
from hub.store import lives
from providers.simulator import Fault, Person, StatusPlan
from tests.support.scenes import PROFILES
from tests.support.talk import MIA, automates, ends, leaves, writes
from tests.support.wire import Wire, ask, connected, envelope, text, until, value
from tests.support.world import NUMBER, Open, Service, World

SHOP: dict[str, Any] = {"link_base_url": "https://go.shop.example", "site_domains": ("shop.example",)}
BOB = Person("+4915187654321", name="Bob Iger")


async def traced(caller: Any, what: str) -> dict[str, Any]:
    """What a service, or the operator (the world), is told of it."""
    admin = "admin/" if isinstance(caller, World) else ""
    answer = await caller.call("GET", f"/v1/{admin}trace?id={what.replace('+', '%2B')}")
    assert answer.status == 200, answer
    times = [datetime.fromisoformat(step["at"]) for step in answer.json["steps"]]
    assert times == sorted(times)
    return dict(answer.json)


async def is_nothing(caller: Any, what: str) -> bool:
    """Whether it is not there for the caller."""
    admin = "admin/" if isinstance(caller, World) else ""
    answer = await caller.call("GET", f"/v1/{admin}trace?id={what}")
    return (answer.status, answer.json["code"]) == (404, "not_found")


def rules(life: dict[str, Any]) -> dict[str, str]:
    """How each rule came out."""
    return {ruling["rule"]: ruling["outcome"] for ruling in life["rules"]}


def outcomes(life: dict[str, Any]) -> set[tuple[str, str, str]]:
    """What became of which events for whom."""
    return {(e["type"], d["service"]["name"], d["outcome"]) for e in life["events"] for d in e["deliveries"]}


async def all_told(world: World, what: str, events: int = 1) -> dict[str, Any]:
    """The operator's trace once so many events are delivered to everybody."""

    async def found() -> dict[str, Any] | None:
        life = await traced(world, what)
        is_over = all(outcome in {"delivered", "filtered"} for _, _, outcome in outcomes(life))
        return life if is_over and len(life["events"]) >= events else None

    told = await until(found)
    return dict(told)


def message_id(answer: Any) -> str:
    assert answer.status == 202, answer
    return str(answer.json["message"]["id"])


async def test_a_message_s_life_is_told_to_each_as_far_as_it_may_see(open_world: Open, database_url: str) -> None:
    world = await open_world(**SHOP)
    crm, helpdesk = [await world.service(name, scopes=PROFILES) for name in ("crm", "helpdesk")]
    for service in (crm, helpdesk):
        await service.connect()
    lonely = await world.service("lonely", "standalone")
    await lonely.connect()
    mia = world.customer(MIA)
    conversation = await writes(mia, crm, helpdesk, text="Hello")
    await lonely.endpoint.hears("message.received")

    # In: how it was taken in, and who heard it.
    received = crm.endpoint.of("message.received")[0].data["message"]
    life = await all_told(world, received["id"])
    assert life["kind"] == "message"
    assert life["ingress"]["provider_id"] == received["provider_id"]
    assert life["ingress"]["key"] == f"meta:message:{received['provider_id']}"
    assert life["ingress"]["key_seen_at"] is not None
    assert rules(life).items() >= {"B1": "verified", "B4": "first", "B7": "heard", "E4": "open"}.items()
    assert outcomes(life) == {("message.received", name, "delivered") for name in ("crm", "helpdesk")}
    (attempt,) = life["events"][0]["deliveries"][0]["attempts"]
    assert (attempt["outcome"], attempt["http_status"]) == ("delivered", 200)
    assert life["gone"] == []
    assert {service for _, service, _ in outcomes(await traced(crm, received["id"]))} == {"crm"}
    same = await traced(world, received["provider_id"])  # B7: one message for each channel
    assert [same["id"], *same["also"]] == [received["id"], lonely_message(lonely)]
    assert (await traced(lonely, received["provider_id"]))["id"] == lonely_message(lonely)
    assert await is_nothing(lonely, received["id"])

    # Out: what was judged, called and reported; masked to the other service.
    sent = await crm.reply(conversation, "See https://shop.example/sale", agent="Zoe", seen_sequence=0)
    name = message_id(sent)
    await ends(helpdesk, name, "read")
    whole = await all_told(world, name, 5)
    own, other = await traced(crm, name), await traced(helpdesk, name)
    assert rules(own).items() >= {"E3": "agent", "E4": "open", "E5": "unknown", "K1": "tracked"}.items()
    assert own["message"]["text"] == "See https://shop.example/sale"
    assert own["message"]["conversation_id"] == conversation
    assert [status["status"] for status in own["statuses"]] == ["queued", "sending", "sent", "delivered", "read"]
    (call,) = own["provider_calls"]
    assert (call["attempt"], call["outcome"], call["requests"]) == (1, "taken", 1)
    assert call["took_ms"] >= 0
    assert own["links"][0]["target"] == "https://shop.example/sale"
    assert (other["message"]["masked"], other["rules"]) == (True, [])
    assert "target" not in other["links"][0]
    assert [call["outcome"] for call in other["provider_calls"]] == ["taken"]
    for told in (other, whole):
        assert "shop.example/sale" not in str(told)
        assert "provider_id" not in told["message"]
    masked = {(d["service"]["name"], d["masked"]) for event in whole["events"] for d in event["deliveries"]}
    assert masked == {("crm", False), ("helpdesk", True)}
    assert rules(whole) == rules(own)
    assert (await traced(crm, own["message"]["provider_id"]))["id"] == name
    assert await is_nothing(helpdesk, own["message"]["provider_id"])  # what is masked is not found by

    # An event, with the message it is about; one of the channel's own; a conversation.
    event = await traced(helpdesk, own["events"][0]["event_id"])
    assert (event["kind"], event["message"]["id"], event["event"]["type"]) == ("event", name, "message.queued")
    assert event["event"]["data"]["message"]["masked"]
    row = await ask(database_url, "select id from event where type = 'service.connected' order by id limit 1")
    joined = await traced(world, f"evt_{row:016x}")
    assert (joined["event"]["type"], joined["message"]) == ("service.connected", None)
    assert await is_nothing(lonely, own["events"][0]["event_id"])
    talk = await traced(helpdesk, conversation)
    assert [item["id"] for item in talk["messages"]] == [name, received["id"]]
    assert talk["messages"][0]["masked"]

    # What retention has taken is said to be gone.
    async with connected(database_url) as conn:
        await conn.execute("update cursor set position = 1000000")
        await conn.execute("delete from delivered")
        assert await lives.prune_rulings(conn, timedelta(0)) == await lives.prune_calls(conn, timedelta(0)) == 1
    later = await traced(crm, name)
    assert {gone["part"] for gone in later["gone"]} >= {"rules", "provider_calls", "deliveries"}
    for nothing in ("msg_1", "evt_ffffffffffffffff", "evt_x", "cnv_" + "0" * 32, "SM123", "svc_1"):
        assert await is_nothing(world, nothing)
    assert (await crm.call("GET", "/v1/trace")).status == 422
    assert other["links"]
    await world.call("PATCH", f"/v1/admin/services/{helpdesk.id}", {"scopes": ["read"]})
    assert (await traced(helpdesk, name))["links"] == [], "who clicked is for those who may know profiles (H5)"
    await leaves(helpdesk)
    assert await is_nothing(helpdesk, name)


def lonely_message(lonely: Service) -> str:
    return str(lonely.endpoint.of("message.received")[0].data["message"]["id"])


async def test_what_went_wrong_is_told(open_world: Open, database_url: str) -> None:
    world = await open_world()
    crm, helpdesk = await world.connected("crm", "helpdesk")
    mia = world.customer(MIA)
    conversation = await writes(mia, crm, helpdesk, text="Hello")

    # Refused by the provider: the author and the operator learn the code, others that it failed.
    world.simulator.fail_next(Fault.refused(131026))
    failed = message_id(await crm.reply(conversation, "One"))
    await ends(crm, failed, "failed")
    for caller, code in ((crm, "131026"), (world, "131026"), (helpdesk, None)):
        told = await traced(caller, failed)
        assert (told["provider_calls"][-1]["outcome"], told["provider_calls"][-1]["provider_code"]) == ("refused", code)
        assert (told["statuses"][-1]["status"], told["statuses"][-1]["code"]) == ("failed", code)

    # Not taken, and tried again: two calls.
    world.simulator.fail_next(Fault.throttled())
    world.simulator.status_plan = StatusPlan.none()
    tried = message_id(await automates(crm, conversation, "Two"))

    async def calls() -> list[str]:
        return [call["outcome"] for call in (await traced(crm, tried))["provider_calls"]]

    await until(lambda: _is(calls, lambda found: len(found) >= 1))
    assert rules(await traced(crm, tried))["E2"] == "parent"

    # An endpoint that fails for this conversation: its lane is parked, with what failed.
    helpdesk.endpoint.answer = lambda _: 422
    await mia.says("STOP")
    await crm.endpoint.hears("message.received", 2)
    stop = crm.endpoint.of("message.received")[1].data["message"]["id"]

    async def is_parked() -> bool:
        return ("message.received", "helpdesk", "parked") in outcomes(await traced(world, stop))

    await until(is_parked)
    told = await traced(world, stop)
    assert rules(told)["E5"] == "stop"
    (delivery,) = [each for each in told["events"][0]["deliveries"] if each["service"]["name"] == "helpdesk"]
    assert delivery["attempts"][0]["http_status"] == 422
    assert delivery["parked"]["next_attempt_at"] is not None
    assert any("helpdesk, message.received: refused by the endpoint with 422" in s["text"] for s in told["steps"])

    # In quarantine, and taken in by a replay: known by the provider's id all along.
    wire, late = Wire(world), text("Late")
    assert (await wire.meta(envelope(value([late], number_id="100000000000009")))).status == 200
    waiting = await traced(world, late["id"])
    assert (waiting["kind"], waiting["quarantine"][0]["reason"]) == ("provider_id", "unknown_number")
    assert await is_nothing(crm, late["id"])
    senders = [{"medium": "whatsapp", "provider": "meta", "external_id": "100000000000009"}]
    await world.call("POST", "/v1/admin/numbers", {"e164": "+15550009999", "senders": senders})
    assert (await wire.replay((await wire.quarantine())[0])).status == 200
    taken = await traced(world, late["id"])
    assert rules(taken).items() >= {"B5": "quarantined", "A7": "unrouted"}.items()
    assert taken["ingress"]["quarantine"][0]["replayed_at"] is not None

    # The customer is erased: what is left is ids, order and times.
    erased = await world.call("DELETE", f"/v1/admin/contacts/{(await traced(crm, stop))['contact']['id']}")
    assert erased.status == 200
    left = await traced(world, stop)
    assert left["message"]["erased"]
    assert "content" in {gone["part"] for gone in left["gone"]}
    assert "STOP" not in str(left)
    assert await is_nothing(world, f"erased:{UUID(stop[4:])}")


async def test_what_the_business_sends_past_the_hub_came_in_by_a_webhook(open_world: Open) -> None:
    world = await open_world()
    (crm,) = await world.connected("crm")
    await writes(world.customer(MIA), crm, text="Hello")
    echo = text("From my phone") | {"from": NUMBER[1:], "to": "4915112345678"}
    body = envelope(value([echo], name="message_echoes"), field="smb_message_echoes")
    assert (await Wire(world).meta(body)).status == 200
    await crm.endpoint.hears("message.received", 2)
    life = await traced(crm, echo["id"])
    assert (life["ingress"]["key"], life["ingress"]["key_seen_at"] is None) == (f"meta:message:{echo['id']}", False)
    assert rules(life).items() >= {"B1": "verified", "E1": "echo", "B7": "heard"}.items()
    assert not {"E4", "E5"} & set(rules(life))
    assert (life["message"]["status"], life["statuses"], life["provider_calls"], life["gone"]) == ("sent", [], [], [])
    assert [step["what"] for step in life["steps"]].count("taken_in") == 1


async def test_a_service_that_hears_nothing_does_not_hide_what_others_heard_later(
    open_world: Open, database_url: str
) -> None:
    """Of accepted deliveries only so many are read through: one that will never come must not use them up."""
    world = await open_world()
    crm, *others = await world.connected("crm", "paused", "puller")
    await others[0].call("POST", "/v1/numbers/%2B15550001111/connection/pause")
    await others[1].connect(endpoint_url=None)
    world.simulator.status_plan = StatusPlan.none()
    name = message_id(await crm.reply(await writes(world.customer(MIA), crm, text="Hello"), "One"))

    async def taken() -> str | None:
        found: str | None = (await traced(crm, name))["message"].get("provider_id")
        return found

    provider_id = await until(taken)
    busy = """insert into delivered (owner, at, entries)
        select d.owner, clock_timestamp() + interval '1 microsecond' * g, d.entries
        from (select * from delivered order by id limit 1) d, generate_series(1, 2000) g"""
    await until(lambda: ask(database_url, "select exists (select from delivered)"))
    await ask(database_url, busy)
    read = {"id": provider_id, "status": "read", "timestamp": "1800000000", "recipient_id": "4915112345678"}
    assert (await Wire(world).meta(envelope(value([read], name="statuses")))).status == 200
    await ends(crm, name, "read")

    async def heard() -> bool:
        event = (await traced(world, name))["events"][-1]
        assert event["type"] == "message.status"
        told = {each["service"]["name"]: each["outcome"] for each in event["deliveries"]}
        return told == {"crm": "delivered", "paused": "paused", "puller": "pull"}

    await until(heard)


async def _is(found: Any, holds: Any) -> bool:
    return bool(holds(await found()))


async def test_everything_is_found_by_what_somebody_has_in_hand(open_world: Open, database_url: str) -> None:
    world = await open_world()
    crm, helpdesk = await world.connected("crm", "helpdesk")
    other = await world.service("Other shop")
    await other.connect("+15550002222")
    conversation = await writes(world.customer(MIA), crm, helpdesk, text="Hello")
    await writes(world.customer(BOB), crm, helpdesk, text="Hi")
    sent = (await crm.reply(conversation, "Hello back")).json["message"]["id"]
    wamid = (await ends(crm, sent, "sent", "delivered", "read"))["provider_id"]
    received = crm.endpoint.of("message.received")[0].data
    contact = received["contact"]["id"]
    me, them, stranger = (UUID(service.id[4:]) for service in (crm, helpdesk, other))

    async with connected(database_url) as conn:

        async def finds(service: UUID | None, text: str) -> set[tuple[str, str]]:
            view = View(service, MediaLinks("https://hub.example.com", ["secret"], 60))
            hits: list[Hit] = await search(conn, view, text, "DE")
            return {(hit.kind, hit.id) for hit in hits}

        talk, person = ("conversation", conversation), ("contact", contact)
        for spelling in ("+4915112345678", "0151 1234 5678", "0049 (151) 12345678", "49 151 12345678", "Mia", " mi ",
                         "\u202a+49\u00a0151\u200912345678\u202c", "+49 151\t12345678"):  # fmt: skip
            assert await finds(me, spelling) == {talk, person}, spelling
            assert await finds(None, spelling) == {talk, person}, spelling
            assert await finds(stranger, spelling) == set()
        assert {kind for kind, _ in await finds(None, "iger bob")} == {"contact", "conversation"}
        assert await finds(None, "other") == {("service", other.id)}
        assert await finds(me, "other") == set()
        assert await finds(None, other.id) == {("service", other.id)}
        assert await finds(me, NUMBER) == {("number", NUMBER)}
        assert await finds(stranger, NUMBER) == set()
        for text, found in ((sent, ("message", sent)), (wamid, ("message", sent)), (conversation, talk)):
            assert found in await finds(me, text)
            assert found in await finds(None, text)
            assert await finds(stranger, text) == set()
        assert await finds(them, wamid) == set()
        assert await finds(them, sent) == {("message", sent)}
        assert ("event", received["event_id"]) in await finds(me, received["event_id"])
        assert await finds(stranger, received["event_id"]) == set()
        for text in ("", "'); drop table contact; --", "a" * 300, "\x00", "evt_zz", "msg_12", "😀", "..."):
            assert await finds(None, text) == set()
        knows = "insert into contact_knower (contact_id, service_id) values ($1, $2)"
        await conn.execute(knows, UUID(contact[4:]), stranger)
        for text in ("Mia", "+4915112345678", contact):  # whom it has identified itself, though not what they say (H5)
            assert await finds(stranger, text) == {person}
