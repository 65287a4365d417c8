"""Meta's own agent holds a conversation: automation waits, a person takes over, and it is given back."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from providers.simulator import Fault, Number, meta_fields
from tests.support.talk import MIA, automates, ends, heard, leaves, pages, timeline, writes
from tests.support.wire import Wire, ask, envelope, text, unique, until, value
from tests.support.world import NUMBER, PHONE_NUMBER_ID, Answer, Service, World

SENDER = Number(NUMBER, PHONE_NUMBER_ID)


class Meta:
    """What Meta posts of one customer: of just now, unless said otherwise."""

    def __init__(self, world: World) -> None:
        self.wire = Wire(world)

    async def posts(self, body: dict[str, Any]) -> None:
        """It is taken."""
        assert (await self.wire.meta(body)).status == 200

    async def passes(self, to: meta_fields.Holder, at: float | None = None) -> None:
        """Hand the conversation over."""
        await self.posts(meta_fields.handover(SENDER, MIA, to, at=at or now(), note=unique("note")))

    async def standby(self, words: str) -> None:
        """The customer writes to Meta's agent."""
        await self.posts(meta_fields.standby(SENDER, MIA, text(words, timestamp=str(int(now())))))

    async def says(self, words: str, at: float | None = None) -> None:
        """The customer writes to us."""
        await self.posts(envelope(value([text(words, timestamp=str(int(at or now())))])))


def now() -> float:
    """Not before what the hub did last: providers count in whole seconds, and what is ahead is taken to be now."""
    return time.time() + 1


def handovers(service: Service) -> list[dict[str, Any]]:
    """What a service heard of changes of hands."""
    return [d.data for d in service.endpoint.of("conversation.handover")]


async def hears(service: Service, count: int) -> dict[str, Any]:
    """Wait until a service has heard of so many; gives the last."""
    await service.endpoint.wait(lambda _: len(handovers(service)) >= count)
    assert len(handovers(service)) == count
    return handovers(service)[-1]


async def message(service: Service, words: str) -> dict[str, Any]:
    """Wait until a service has heard this."""

    def found() -> list[dict[str, Any]]:
        return [d.data for d in service.endpoint.of("message.received") if heard(d.data, words)]

    await service.endpoint.wait(lambda _: bool(found()))
    return found()[0]


def accepted(answer: Answer) -> str:
    """The message's id."""
    assert answer.status == 202, answer
    return str(answer.json["message"]["id"])


async def waiting(database_url: str) -> int:
    """How much waits for a conversation to be given back."""
    return int(await ask(database_url, "select count(*) from schedule where due_at = 'infinity'"))


async def held_by(service: Service, conversation: str) -> str | None:
    """Who a service is told holds it."""
    shown: str | None = (await service.call("GET", f"/v1/conversations/{conversation}")).json["held_by"]
    return shown


async def test_automation_waits_while_metas_agent_holds_a_conversation(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer, meta, simulator = hub_world.customer(MIA), Meta(hub_world), hub_world.simulator
    began = time.time() - 60
    conversation = await writes(customer, helpdesk, crm)

    # Handed over by Meta's word: what was queued waits, and what comes; what is with Meta already goes out.
    simulator.hold()
    accepted(await automates(helpdesk, conversation, "with Meta"))
    await simulator.wait_for(lambda: simulator.in_flight == 1)
    queued = accepted(await automates(helpdesk, conversation, "bot 1"))
    await meta.passes("agent")
    told = await hears(crm, 1)
    assert (told["handover"]["holder"], told["conversation"]["held_by"]) == ("external", "external")
    assert (told["message"]["type"], told["message"]["handover"]["holder"]) == ("handover", "external")
    assert handovers(helpdesk)[0]["automation"]["allowed"] is False
    simulator.release()
    assert (await customer.hears()).text == "with Meta"
    await until(lambda: waiting(database_url))
    body = {"origin": "chatbot", "type": "text", "text": "bot 2"}
    answer = await helpdesk.call("POST", f"/v1/conversations/{conversation}/messages?wait=30", body)
    assert accepted(answer)
    assert answer.json["warnings"] == [
        {"code": "conversation_held", "agent": None, "service": None, "since": told["handover"]["since"]}
    ]
    unwanted = accepted(await automates(helpdesk, conversation, "never mind"))
    assert (await helpdesk.call("DELETE", f"/v1/messages/{unwanted}")).json["status"] == "cancelled"
    assert (await helpdesk.call("GET", f"/v1/messages/{queued}")).json["status"] == "queued"
    await meta.says("sent before that", at=began)  # older news change nothing
    await meta.passes("business", at=began)
    assert await held_by(crm, conversation) == "external"

    # A person of another service replies: it goes out at once and takes control; what waited follows, in its order.
    reply = await crm.reply(conversation, "I take over")
    assert reply.json["warnings"] == []
    assert [(await customer.hears()).text for _ in range(3)] == ["I take over", "bot 1", "bot 2"]
    told = await hears(helpdesk, 2)
    assert (told["handover"]["holder"], told["conversation"]["held_by"]) == ("hub", None)
    assert told["message"]["handover"] == {
        "holder": "hub", "reason": "reply", "message_id": accepted(reply), "by": {"service_id": crm.id, "name": "crm"}
    }  # fmt: skip
    assert "I take over" not in str([d.data for d in helpdesk.endpoint.deliveries])

    # By a mere message to Meta's agent, and back by Meta's word.
    await meta.standby("To the robot")
    assert (await hears(crm, 3))["message"]["handover"] == {"holder": "external", "reason": "standby"}
    said = await message(crm, "To the robot")
    assert (said["message"]["origin"], said["conversation"]["held_by"]) == ("external", "external")
    accepted(await automates(helpdesk, conversation, "bot 3"))
    await meta.passes("business")
    accepted(await automates(helpdesk, conversation, "accepted since"))
    assert [(await customer.hears()).text for _ in range(2)] == ["bot 3", "accepted since"]
    await hears(crm, 4)
    assert [d["automation"]["allowed"] for d in handovers(helpdesk)] == [False, True, False, True]
    assert [d["automation"]["allowed"] for d in handovers(crm)] == [False] * 4

    # Back by an ordinary message: told before it.
    await meta.passes("agent")
    await meta.says("To you again")
    told = await hears(crm, 6)
    said = await message(crm, "To you again")
    assert told["message"]["handover"] == {"holder": "hub", "reason": "message"}
    assert told["conversation"]["sequence"] + 1 == said["conversation"]["sequence"]
    assert said["conversation"]["held_by"] is None

    # A reply of which only a callback tells that Meta took it takes control, too.
    await meta.passes("agent")
    await hears(crm, 7)
    simulator.fail_next(Fault.bare(502))
    lost = accepted(await crm.reply(conversation, "Lost?"))
    await ends(crm, lost, "unknown")
    assert await held_by(crm, conversation) == "external"
    callback = {"id": unique(), "status": "sent", "timestamp": str(int(now())), "biz_opaque_callback_data": lost}
    await meta.posts(envelope(value([callback], name="statuses")))
    assert (await hears(crm, 8))["message"]["handover"]["message_id"] == lost

    # What comes due meanwhile waits, too; another parent cancels all of it.
    await meta.passes("agent")
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    later = await automates(helpdesk, conversation, "scheduled", "scheduled", send_at=soon)
    last = accepted(await automates(helpdesk, conversation, "bot 4"))
    assert "conversation_held" not in str(later.json["warnings"])
    await ask(database_url, "update schedule set due_at = now() where due_at < 'infinity'")
    await until(lambda: two(database_url))
    await leaves(helpdesk)
    for name in (accepted(later), last):
        assert (await ends(crm, name, "cancelled"))["masked"] is True
    shown = [entry["handover"]["holder"] for entry in await timeline(crm, conversation) if entry["type"] == "handover"]
    assert shown == ["external", "hub"] * 4 + ["external"]
    assert await waiting(database_url) == 0

    # A conversation that is new here may be held, too: another channel of the number knows.
    (alone,) = await hub_world.connected("alone", plan="standalone")
    simulator.hold()
    body = {"from": NUMBER, "medium": "whatsapp", "to": MIA.phone, "origin": "agent", "agent": {"id": "a"}}
    opened = accepted(await alone.call("POST", "/v1/messages", body | {"type": "text", "text": "Hello"}))
    await alone.endpoint.wait(lambda _: bool(alone.endpoint.of("message.queued")))
    (queued_first,) = alone.endpoint.of("message.queued")
    assert queued_first.data["message"]["id"] == opened
    assert queued_first.data["conversation"]["held_by"] == "external"
    simulator.release()
    await check_history(meta, crm, conversation)


async def check_history(meta: Meta, crm: Service, conversation: str) -> None:
    """What is from before the number was connected stands below number 1, and is reached from both ends (C3)."""
    said = await timeline(crm, conversation, "?limit=200")
    past = [
        meta_fields.Past({"type": "text", "text": {"body": f"old {n}"}}, unique(), time.time() - 9000 + n)
        for n in range(3)
    ]
    await meta.posts(meta_fields.history(SENDER, {MIA: past}))
    path = f"/v1/conversations/{conversation}/messages?limit=2"
    contact = crm.endpoint.of("message.received")[0].data["contact"]["id"]
    by_contact = f"/v1/contacts/{contact}/timeline?limit=2"
    whole = [m["id"] for m in await timeline(crm, conversation, "?after=-9&limit=200")]
    assert [m["id"] for m in said] == whole[:2:-1]
    for query, cursor, begin, is_forward in (
        (path, "after", "&after=-9", True),
        (path, "before", "", False),
        (path + "&sort=provider_time", "after", "&after=0", True),
        (by_contact, "after", "&after=0", True),
        (by_contact, "before", "", False),
    ):
        found = await pages(lambda step: crm.call("GET", step), query, cursor, begin)
        ids = [item["id"] for item in found]
        old = [item.get("text") for item in (found[:3] if is_forward else found[:-4:-1])]
        assert old == ["old 0", "old 1", "old 2"]
        assert sorted(ids) == sorted(whole), query
    assert len(whole) == len(said) + 3


async def two(database_url: str) -> bool:
    """Whether two messages wait for their conversation."""
    return await waiting(database_url) == 2
