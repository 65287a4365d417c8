"""Messages for later: kept, judged when due, cancelled (rules E11, A5, E7)."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from hub.app import running
from providers.simulator import Customer, Fault, Person
from tests.support.talk import MIA, automates, ends, leaves, timeline, writes
from tests.support.wire import ask, until
from tests.support.world import ADMIN, Answer, Service, World, settings_for, world

LATER = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
DUE_SQL = "update schedule set due_at = now() - interval '1 second'"


def message_id(answer: Answer) -> str:
    assert answer.status == 202, answer
    return str(answer.json["message"]["id"])


def uuid_of(name: str) -> UUID:
    return UUID(name.removeprefix("msg_"))


async def talk(made: World, *names: str) -> tuple[str, Customer, list[Service]]:
    services = await made.connected(*names)
    customer = made.customer(MIA)
    return await writes(customer, *services), customer, services


async def moved(database_url: str, name: str) -> None:
    """Let a message's time come, and wait until it is in the queue."""
    await ask(database_url, DUE_SQL + " where message_id = $1", uuid_of(name))
    await until(lambda: ask(database_url, "select true from outbox where message_id = $1", uuid_of(name)))


async def cancels(service: Service, name: str) -> Answer:
    return await service.call("DELETE", f"/v1/messages/{name}")


async def test_e11_a_time_is_checked(hub_world: World) -> None:
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk")
    now = datetime.now(UTC)
    for at in ("tomorrow", "2030-01-01T00:00:00", now + timedelta(days=367), now - timedelta(minutes=6)):
        text = at.isoformat() if isinstance(at, datetime) else at
        answer = await automates(helpdesk, conversation, "robot", send_at=text)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request"), answer
        assert [fault["pointer"] for fault in answer.json["errors"]] == ["/send_at"]
    answer = await helpdesk.reply(conversation, "later", send_at=LATER)
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/send_at")
    assert "E1" in answer.json["errors"][0]["detail"]
    past = (now - timedelta(minutes=4)).isoformat()
    at_once = await automates(helpdesk, conversation, "at once", "workflow", send_at=past, links={"track": False})
    assert datetime.fromisoformat(at_once.json["message"]["send_at"]) == datetime.fromisoformat(past)
    assert (await customer.hears()).text == "at once"
    for origin in ("chatbot", "auto_reply", "notification", "scheduled"):
        message_id(await automates(helpdesk, conversation, "later", origin, send_at=LATER))
    assert len(hub_world.simulator.attempts) == 1


async def test_e11_it_waits_for_its_time_and_goes_behind_what_was_accepted(hub_world: World, database_url: str) -> None:
    conversation, customer, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    refused = await automates(crm, conversation, "not mine", send_at=LATER)
    assert (refused.status, refused.json["code"]) == (409, "not_parent")
    first = await automates(helpdesk, conversation, "scheduled 1", "scheduled", send_at=LATER)
    view = first.json["message"]
    assert (view["status"], datetime.fromisoformat(view["send_at"])) == ("queued", datetime.fromisoformat(LATER))
    late = message_id(await automates(helpdesk, conversation, "scheduled 2", "scheduled", send_at=LATER))
    (event,) = [d.data["message"] for d in (await heard(crm, 2)) if d.data["message"]["id"] == view["id"]]
    assert event["send_at"] == view["send_at"]
    assert "scheduled 1" not in str(event)
    assert [m.get("status") for m in await timeline(helpdesk, conversation)] == ["queued", "queued", None]

    hub_world.simulator.hold()
    message_id(await helpdesk.reply(conversation, "with the provider"))
    await hub_world.simulator.wait_for(lambda: hub_world.simulator.in_flight == 1)
    message_id(await helpdesk.reply(conversation, "before"))
    await moved(database_url, view["id"])
    message_id(await helpdesk.reply(conversation, "after"))
    hub_world.simulator.release()
    heard_texts = [(await customer.hears()).text for _ in range(4)]
    assert heard_texts == ["with the provider", "before", "scheduled 1", "after"]
    await ends(crm, view["id"], "read")
    assert (await helpdesk.call("GET", f"/v1/messages/{late}")).json["status"] == "queued"
    await ask(database_url, DUE_SQL)
    assert (await customer.hears()).text == "scheduled 2"


async def heard(service: Service, count: int) -> list[Any]:
    await service.endpoint.wait(lambda me: len(me.of("message.queued")) >= count)
    return list(service.endpoint.of("message.queued"))


async def test_e11_nobody_waits_for_a_message_of_later(hub_world: World) -> None:
    """`?wait=` does not, and neither does its conversation."""
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk")
    body = {"origin": "scheduled", "type": "text", "text": "later", "send_at": LATER}
    path = f"/v1/conversations/{conversation}/messages?wait=30"
    async with asyncio.timeout(10):
        answer = await helpdesk.call("POST", path, body, **{"Idempotency-Key": "one"})
        again = await helpdesk.call("POST", path, body, **{"Idempotency-Key": "one"})
    assert message_id(again) == message_id(answer)
    message_id(await helpdesk.reply(conversation, "now"))
    assert (await customer.hears()).text == "now"


async def test_e11_it_is_judged_again_when_its_time_has_come(hub_world: World, database_url: str) -> None:
    conversation, _, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    late = message_id(await automates(helpdesk, conversation, "late", send_at=LATER))
    await ask(database_url, "update conversation set last_customer_at = now() - interval '25 hours'")
    await ask(database_url, DUE_SQL)
    assert (await ends(helpdesk, late, "cancelled"))["error"]["code"] == "reply_window_closed"
    assert (await ends(crm, late, "cancelled"))["masked"] is True
    assert hub_world.simulator.attempts == []


async def test_a5_another_parent_cancels_what_the_old_one_scheduled(hub_world: World, database_url: str) -> None:
    conversation, _, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    other = await writes(hub_world.customer(Person("+4915100000001")), helpdesk, text="2")
    names = [message_id(await automates(helpdesk, c, "later", send_at=LATER)) for c in (conversation, other)]
    await leaves(helpdesk)
    for name in names:
        await ends(crm, name, "cancelled")
    assert await ask(database_url, "select count(*) from schedule") == 0
    message_id(await automates(crm, conversation, "mine", send_at=LATER))
    assert await ask(database_url, "select count(*) from schedule") == 1


async def test_e11_a_schedule_outlives_the_process(database_url: str, tmp_path: Path) -> None:
    async with world(database_url, tmp_path, roles=("gateway", "fanout")) as made:
        conversation, customer, (helpdesk,) = await talk(made, "helpdesk")
        message_id(await automates(helpdesk, conversation, "later", send_at=LATER))
        message_id(await automates(helpdesk, conversation, "much later", send_at=LATER))
        await ask(database_url, DUE_SQL)
        async with running(settings_for(made.simulator, database_url, tmp_path, roles=("sender",))):
            assert [(await customer.hears()).text for _ in range(2)] == ["later", "much later"]


# Cancelling ---------------------------------------------------------------------------------------------------------


async def test_e11_its_author_cancels_what_waits(hub_world: World, database_url: str) -> None:
    conversation, customer, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    scheduled = message_id(await automates(helpdesk, conversation, "later", send_at=LATER))
    hub_world.simulator.hold()
    flying = message_id(await helpdesk.reply(conversation, "with the provider"))
    await hub_world.simulator.wait_for(lambda: hub_world.simulator.in_flight == 1)
    waiting = message_id(await crm.reply(conversation, "waiting"))
    bot = message_id(await automates(helpdesk, conversation, "bot"))
    for service, name in ((helpdesk, waiting), (crm, scheduled), (crm, bot), (crm, flying)):
        refused = await cancels(service, name)
        assert (refused.status, refused.json["code"]) == (403, "not_author"), refused
    for service, name, text in ((helpdesk, scheduled, "later"), (crm, waiting, "waiting"), (helpdesk, bot, "bot")):
        answer = await cancels(service, name)
        assert answer.status == 200, answer
        view = answer.json
        assert (view["id"], view["status"], view["text"], view["error"]) == (name, "cancelled", text, None)
        assert view["conversation_id"] == conversation
        assert set(view["status_times"]) == {"queued", "cancelled"}
        for hearer in (helpdesk, crm):
            await ends(hearer, name, "cancelled")
        again = await cancels(service, name)
        assert (again.status, again.json["code"], again.json["message_status"]) == (409, "not_cancellable", "cancelled")
    too_late = await cancels(helpdesk, flying)
    assert (too_late.status, too_late.json["message_status"]) == (409, "sending")
    assert "(rule E11)" in too_late.json["detail"]
    hub_world.simulator.release()
    await ends(helpdesk, flying, "read")
    assert (await cancels(helpdesk, flying)).json["message_status"] == "read"
    assert [send.text for send in customer.received] == ["with the provider"]
    assert await ask(database_url, "select (select count(*) from outbox) + (select count(*) from schedule)") == 0


async def test_e11_who_may_not_cancel(hub_world: World, database_url: str) -> None:
    conversation, _, (helpdesk,) = await talk(hub_world, "helpdesk")
    name = message_id(await automates(helpdesk, conversation, "later", send_at=LATER))
    (inbound,) = [m["id"] for m in await timeline(helpdesk, conversation) if m["direction"] == "inbound"]
    stranger = await hub_world.service("stranger")
    for service, which in ((stranger, name), (helpdesk, "msg_" + "0" * 32), (helpdesk, "cnv_x")):
        assert (await cancels(service, which)).status == 404
    assert (await cancels(helpdesk, inbound)).json["code"] == "not_author"
    assert (await hub_world.call("DELETE", f"/v1/admin/messages/{name}", key=helpdesk.key)).status == 403
    hub_world.simulator.hold()
    await helpdesk.reply(conversation, "with the provider")
    await hub_world.simulator.wait_for(lambda: hub_world.simulator.in_flight == 1)
    reply = message_id(await helpdesk.reply(conversation, "waiting"))
    for scopes, which, missing in (
        (["read", "reply"], name, "automate"),
        (["read", "automate"], reply, "reply"),
    ):
        await ask(database_url, "update service set scopes = $1 where name = 'helpdesk'", scopes)
        refused = await cancels(helpdesk, which)
        assert (refused.status, refused.json["scope"]) == (403, missing), refused
    hub_world.simulator.release()


async def test_e11_the_operator_cancels_anybody_s(hub_world: World) -> None:
    conversation, _, (helpdesk,) = await talk(hub_world, "helpdesk")
    name = message_id(await automates(helpdesk, conversation, "later", send_at=LATER))
    answer = await hub_world.call("DELETE", f"/v1/admin/messages/{name}", key=ADMIN)
    assert (answer.status, answer.json["status"]) == (200, "cancelled"), answer
    await ends(helpdesk, name, "cancelled")
    again = await hub_world.call("DELETE", f"/v1/admin/messages/{name}")
    assert (again.status, again.json["code"]) == (409, "not_cancellable")
    assert (await hub_world.call("DELETE", "/v1/admin/messages/msg_" + "0" * 32)).status == 404
    audit = (await hub_world.call("GET", "/v1/admin/audit?limit=200")).json["items"]
    assert [(row["actor"], row["subject"]) for row in audit if row["action"] == "message.cancelled"] == [
        ("operator", name)
    ]


async def test_e11_a_message_is_cancelled_or_sent_never_both(hub_world: World, database_url: str) -> None:
    """Its time comes, it is claimed and it is cancelled, all at the same moment."""
    (helpdesk,) = await hub_world.connected("helpdesk")
    people = [hub_world.customer(Person(f"+4915100000{n:03d}")) for n in range(12)]
    places = [await writes(one, helpdesk, text=f"I am {n}") for n, one in enumerate(people)]
    names = [message_id(await automates(helpdesk, place, "later", send_at=LATER)) for place in places]
    *answers, _ = await asyncio.gather(*(cancels(helpdesk, name) for name in names[:6]), ask(database_url, DUE_SQL))
    answers += await asyncio.gather(*(cancels(helpdesk, name) for name in names[6:]))
    assert {answer.status for answer in answers} <= {200, 409}
    ended = [await ends(helpdesk, name, "cancelled", "read") for name in names]
    for answer, view in zip(answers, ended, strict=True):
        assert view["status"] == ("cancelled" if answer.status == 200 else "read")
    sent = {send.hub_id for send in hub_world.simulator.sent}
    assert sent == {name for name, answer in zip(names, answers, strict=True) if answer.status == 409}


async def test_the_segments_of_an_sms_are_told(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    sms = await writes(hub_world.customer(MIA, provider="twilio", medium="sms"), helpdesk, text="by sms")
    whatsapp = await writes(hub_world.customer(MIA), helpdesk, text="by whatsapp")
    for text, segments in (("Hi", 1), ("a" * 161, 2), ("ы" * 71, 2)):
        assert (await helpdesk.reply(sms, text)).json["message"]["segments"] == segments
    assert "segments" not in (await helpdesk.reply(whatsapp, "Hi")).json["message"]


async def test_e7_what_was_tried_already_is_not_cancelled_with_its_service(hub_world: World, database_url: str) -> None:
    """The provider did not take it, and its service leaves before the next attempt: it has failed, being no longer
    queued."""
    conversation, customer, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    hub_world.simulator.fail_next(Fault.throttled(retry_after=60))
    tried = message_id(await automates(helpdesk, conversation, "tried"))
    await until(lambda: ask(database_url, "select true from outbox where attempts = 1 and claimed_by is null"))
    waiting = message_id(await automates(helpdesk, conversation, "waiting"))
    refused = await cancels(helpdesk, tried)
    assert (refused.status, refused.json["message_status"]) == (409, "sending")
    await leaves(helpdesk)
    assert set((await ends(crm, tried, "failed", "cancelled"))["status_times"]) == {"queued", "sending", "failed"}
    assert set((await ends(crm, waiting, "failed", "cancelled"))["status_times"]) == {"queued", "cancelled"}
    assert len(hub_world.simulator.attempts) == 1
    assert not customer.received
