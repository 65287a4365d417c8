"""Sending: who may, once, in order, and what becomes of it (rules E1 to E9)."""

import asyncio
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from hub.actions import record_send
from hub.app import running
from hub.domain import throttling
from providers.simulator import Customer, Fault, Person, SimulatedSend, StatusPlan, meta_webhooks
from tests.support.talk import MIA, automates, ends, leaves, revealed_events, timeline, writes
from tests.support.wire import ask, connected, until
from tests.support.world import NUMBER, Answer, Open, Service, World, settings_for, world

OTHER_NUMBER = "+15550002222"


async def talk(made: World, *names: str, person: Person = MIA, **medium: Any) -> tuple[str, Customer, list[Service]]:
    """Connected services and a customer who wrote: the conversation, the customer, the services."""
    services = await made.connected(*names)
    customer = made.customer(person, **medium)
    return await writes(customer, *services), customer, services


def message_id(answer: Answer) -> str:
    assert answer.status == 202, answer
    return str(answer.json["message"]["id"])


async def message(service: Service, name: str) -> dict[str, Any]:
    answer = await service.call("GET", f"/v1/messages/{name}")
    assert answer.status == 200, answer
    return dict(answer.json)


def statuses(service: Service, name: str) -> list[str]:
    """The statuses of a message in the order a service heard them."""
    views = [d.data["message"] for d in service.endpoint.of("message.status")]
    return [view["status"] for view in views if view["id"] == name]


# Who may ------------------------------------------------------------------------------------------------------------

GOOD = {"origin": "agent", "agent": {"id": "7", "name": "Ana"}, "type": "text", "text": "Hi"}


async def test_e1_every_fault_of_a_message_is_told(hub_world: World) -> None:
    conversation, _, (helpdesk,) = await talk(hub_world, "helpdesk")
    path = f"/v1/conversations/{conversation}/messages"
    for change, places in (
        ({"origin": None}, {"/origin"}),
        ({"origin": "robot"}, {"/origin"}),
        ({"agent": None}, {"/agent"}),
        ({"agent": {"name": "Ana"}}, {"/agent/id"}),
        ({"origin": "campaign"}, {"/campaign"}),
        ({"send_at": "2030-01-01T00:00:00Z"}, {"/send_at"}),
        ({"text": ""}, {"/text"}),
        ({"text": "a\x00b"}, {"/text"}),
        ({"type": "hologram"}, {"/type"}),
        ({"parent_epoch": -1}, {"/parent_epoch"}),
        ({"text": 7, "type": "x", "agent": {"id": ""}, "more": 1}, {"/text", "/type", "/agent/id", "/more"}),
    ):
        body = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
        answer = await helpdesk.call("POST", path, body)
        assert answer.status == 422, (change, answer)
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert {fault["pointer"] for fault in answer.json["errors"]} >= places, (change, answer)
    assert await timeline(helpdesk, conversation) == await timeline(helpdesk, conversation, "?limit=1")
    assert hub_world.simulator.attempts == []


async def test_e2_others_are_told_who_the_parent_is(hub_world: World) -> None:
    conversation, customer, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    for origin in ("chatbot", "auto_reply", "workflow", "notification", "scheduled"):
        refused = await automates(crm, conversation, "robot", origin)
        assert (refused.status, refused.json["code"]) == (409, "not_parent")
        assert refused.json["parent"]["service_id"] == helpdesk.id
        assert (refused.json["parent"]["name"], refused.json["parent"]["epoch"]) == ("helpdesk", 1)
    for epoch, status in ((None, 202), (1, 202), (0, 409), (2, 409)):
        more = {} if epoch is None else {"parent_epoch": epoch}
        answer = await automates(helpdesk, conversation, f"robot {epoch}", **more)
        assert answer.status == status, answer
        assert status == 202 or answer.json["code"] == "not_parent"
    assert {(await customer.hears()).text, (await customer.hears()).text} == {"robot None", "robot 1"}
    campaign = await automates(helpdesk, conversation, "buy!", "campaign", campaign="spring")
    assert (campaign.status, campaign.json["code"]) == (409, "no_consent")
    assert len(await timeline(crm, conversation)) == 3


async def test_e2_the_epoch_is_checked_again_when_the_message_is_claimed(hub_world: World, database_url: str) -> None:
    conversation, _, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    hub_world.simulator.hold()
    await helpdesk.reply(conversation, "with the provider")
    late = message_id(await automates(helpdesk, conversation, "late"))
    await hub_world.simulator.wait_for(lambda: hub_world.simulator.in_flight == 1)
    await ask(database_url, "update channel set parent_epoch = parent_epoch + 1")
    hub_world.simulator.release()
    await ends(crm, late, "cancelled")
    mine = await ends(helpdesk, late, "cancelled")
    assert mine["error"]["code"] == "not_parent"
    assert [sent.text for sent in hub_world.simulator.sent] == ["with the provider"]


async def test_e3_keys_carry_scopes(hub_world: World) -> None:
    conversation, _, _ = await talk(hub_world, "helpdesk")
    path = f"/v1/conversations/{conversation}"
    for scopes, may in (
        (["read"], {"read"}),
        (["reply"], {"reply"}),
        (["automate"], {"automate"}),
        (["read", "reply"], {"read", "reply"}),
        ([], set()),
    ):
        service = await hub_world.service("scoped", scopes=scopes)
        connection = await service.call("PUT", f"/v1/numbers/{NUMBER}/connection", {})
        assert connection.status == 200  # any valid key of the service
        for scope, answer in (
            ("read", await service.call("GET", path)),
            ("read", await service.call("GET", f"{path}/messages")),
            ("read", await service.call("GET", f"/v1/numbers/{NUMBER}")),
            ("reply", await service.reply(conversation, "Hi")),
            ("automate", await automates(service, conversation, "robot")),
        ):
            if scope in may:
                assert answer.json.get("code") in {None, "not_parent"}, (scopes, answer)
            else:
                assert (answer.status, answer.json["code"]) == (403, "missing_scope"), (scopes, answer)
                assert answer.json["scope"] == scope
        await leaves(service)


async def test_what_is_not_there_or_not_ours_is_404(hub_world: World) -> None:
    await talk(hub_world, "helpdesk")
    (crm,) = await hub_world.connected("crm")
    for name in ("cnv_" + "0" * 32, "cnv_x", "msg_" + "0" * 32, "x"):
        answer = await crm.reply(name, "Hi")
        assert (answer.status, answer.json["code"]) == (404, "not_found")
    for name in ("msg_" + "0" * 32, "cnv_" + "0" * 32, "x"):
        assert (await crm.call("GET", f"/v1/messages/{name}")).status == 404


# The window ---------------------------------------------------------------------------------------------------------


async def test_e4_outside_the_window_a_template_is_needed(hub_world: World) -> None:
    services = await hub_world.connected("helpdesk", "crm")
    customer, simulator = hub_world.customer(MIA), hub_world.simulator
    written = int(time.time()) - 25 * 3600
    simulator.ledger.clock = lambda: float(written)
    conversation = await writes(customer, *services)
    closed = datetime.fromtimestamp(written).astimezone() + timedelta(hours=24)
    event = services[1].endpoint.of("message.received")[0].data["conversation"]
    assert datetime.fromisoformat(event["reply_window_expires_at"]) == closed
    for answer in (await services[1].reply(conversation, "Hi"), await automates(services[0], conversation, "robot")):
        assert (answer.status, answer.json["code"]) == (409, "reply_window_closed")
        assert datetime.fromisoformat(answer.json["closed_at"]) == closed
        assert "template" in answer.json["detail"]
    view = await services[0].call("GET", f"/v1/conversations/{conversation}")
    assert datetime.fromisoformat(view.json["reply_window_expires_at"]) == closed
    simulator.ledger.clock = time.time
    await writes(customer, *services, text="Here I am again")
    assert (await services[1].reply(conversation, "Hi")).status == 202
    assert (await customer.hears()).text == "Hi"


async def test_e4_a_late_message_with_an_older_time_does_not_close_the_window(hub_world: World) -> None:
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk")
    hub_world.simulator.ledger.clock = lambda: time.time() - 30 * 3600
    await writes(customer, helpdesk, text="Delayed")
    hub_world.simulator.ledger.clock = time.time
    assert (await helpdesk.reply(conversation, "Hi")).status == 202


async def test_e4_sms_has_no_window(hub_world: World, database_url: str) -> None:
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk", provider="twilio", medium="sms")
    assert helpdesk.endpoint.of("message.received")[0].data["conversation"]["reply_window_expires_at"] is None
    await ask(database_url, "update conversation set last_customer_at = now() - interval '90 days'")
    assert (await helpdesk.reply(conversation, "Still there?")).status == 202
    assert (await customer.hears()).text == "Still there?"


async def test_e4_twilio_s_window_counts_from_receipt(hub_world: World, database_url: str) -> None:
    await ask(
        database_url,
        """update sender set provider = 'twilio', external_id = e164 from number
           where number.id = number_id and e164 = $1 and medium = 'whatsapp'""",
        OTHER_NUMBER,
    )
    helpdesk = await hub_world.service("helpdesk")
    await helpdesk.connect(OTHER_NUMBER)
    customer = hub_world.customer(MIA, OTHER_NUMBER, provider="twilio", medium="whatsapp")
    before = datetime.now().astimezone()
    conversation = await writes(customer, helpdesk)
    view = helpdesk.endpoint.of("message.received")[0].data["conversation"]
    expires = datetime.fromisoformat(view["reply_window_expires_at"])
    assert before <= expires - timedelta(hours=24) <= datetime.now().astimezone()
    assert (await helpdesk.reply(conversation, "Hi")).status == 202
    sent = await customer.hears()
    assert (sent.provider, sent.medium, sent.text) == ("twilio", "whatsapp", "Hi")


async def test_e4_it_is_judged_again_when_the_message_is_claimed(hub_world: World, database_url: str) -> None:
    conversation, _, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    hub_world.simulator.hold()
    await helpdesk.reply(conversation, "in time")
    late = message_id(await helpdesk.reply(conversation, "late"))
    bot = message_id(await automates(helpdesk, conversation, "late bot"))
    await hub_world.simulator.wait_for(lambda: hub_world.simulator.in_flight == 1)
    await ask(database_url, "update conversation set last_customer_at = now() - interval '25 hours'")
    hub_world.simulator.release()
    failed = await ends(helpdesk, late, "failed")
    assert failed["error"]["code"] == "reply_window_closed"
    assert "error" not in await ends(crm, late, "failed")
    assert (await ends(helpdesk, bot, "cancelled"))["error"]["code"] == "reply_window_closed"
    assert [sent.text for sent in hub_world.simulator.sent] == ["in time"]


# Once ---------------------------------------------------------------------------------------------------------------


async def test_e6_the_same_key_gets_the_first_answer_again(hub_world: World) -> None:
    conversation, customer, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    key = {"Idempotency-Key": "one"}
    first = await helpdesk.reply(conversation, "Hi", headers=key)
    await ends(helpdesk, message_id(first), "read")
    again = await helpdesk.reply(conversation, "Hi", headers=key)
    assert (again.status, again.json) == (first.status, first.json)
    other = await helpdesk.reply(conversation, "Hello", headers=key)
    assert (other.status, other.json["code"]) == (422, "idempotency_mismatch")
    assert message_id(await crm.reply(conversation, "Hi", headers=key)) != message_id(first)
    assert message_id(await helpdesk.reply(conversation, "Hi", headers={"Idempotency-Key": "two"})) != message_id(first)
    for _ in range(3):
        await customer.hears()
    assert len(hub_world.simulator.attempts) == 3


async def test_e6_the_key_is_for_one_route(hub_world: World) -> None:
    conversation, _, (helpdesk,) = await talk(hub_world, "helpdesk")
    other = await writes(hub_world.customer(Person("+4915100000001")), helpdesk, text="Somebody else")
    key = {"Idempotency-Key": "one"}
    assert message_id(await helpdesk.reply(conversation, "Hi", headers=key)) != message_id(
        await helpdesk.reply(other, "Hi", headers=key)
    )


async def test_e6_twenty_concurrent_twins_are_one_message(hub_world: World) -> None:
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk")
    key = {"Idempotency-Key": "twin"}
    answers = await asyncio.gather(*(helpdesk.reply(conversation, "Hi", headers=key) for _ in range(20)))
    assert {answer.status for answer in answers} == {202}
    assert len({message_id(answer) for answer in answers}) == 1
    assert all(answer.json == answers[0].json for answer in answers)
    await customer.hears()
    await ends(helpdesk, message_id(answers[0]), "read")
    assert len(hub_world.simulator.attempts) == 1
    assert len(await timeline(helpdesk, conversation)) == 2


async def test_e6_refusals_are_not_stored(hub_world: World) -> None:
    conversation, customer, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    body = {"origin": "chatbot", "type": "text", "text": "robot"}
    path = f"/v1/conversations/{conversation}/messages"
    key = {"Idempotency-Key": "later"}
    twins = await asyncio.gather(*(crm.call("POST", path, body, **key) for _ in range(5)))
    assert [twin.json["code"] for twin in twins] == ["not_parent"] * 5
    await leaves(helpdesk)
    assert (await crm.call("POST", path, body, **key)).status == 202
    assert (await customer.hears()).text == "robot"


async def test_e6_after_24_hours_a_key_is_new(hub_world: World, database_url: str) -> None:
    conversation, _, (helpdesk,) = await talk(hub_world, "helpdesk")
    key = {"Idempotency-Key": "one"}
    first = message_id(await helpdesk.reply(conversation, "Hi", headers=key))
    await ask(database_url, "update idempotency_key set created_at = now() - interval '23 hours'")
    assert message_id(await helpdesk.reply(conversation, "Hi", headers=key)) == first
    await ask(database_url, "update idempotency_key set created_at = now() - interval '25 hours'")
    assert message_id(await helpdesk.reply(conversation, "Hi", headers=key)) != first


async def test_e6_what_is_no_key_is_refused(hub_world: World) -> None:
    conversation, _, (helpdesk,) = await talk(hub_world, "helpdesk")
    for key in ("", " ", "x" * 256, "ключ"):
        answer = await helpdesk.reply(conversation, "Hi", headers={"Idempotency-Key": key})
        assert answer.status == 422, answer
    assert len(await timeline(helpdesk, conversation)) == 1


async def test_e6_wait_answers_with_what_the_provider_said(hub_world: World) -> None:
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk")
    answer = await helpdesk.reply(conversation, "Hi", query="?wait=5")
    assert answer.status == 202
    assert answer.json["message"]["provider_id"] == (await customer.hears()).provider_id
    assert answer.json["message"]["status"] in {"sending", "sent", "delivered", "read"}
    hub_world.simulator.fail_next(Fault.refused(131026))
    answer = await helpdesk.reply(conversation, "Hi", query="?wait=5")
    assert (answer.status, answer.json["message"]["status"]) == (202, "failed")
    assert answer.json["message"]["error"]["provider_code"] == "131026"
    key = {"Idempotency-Key": "waited"}
    waited = await helpdesk.reply(conversation, "Hi", query="?wait=5", headers=key)
    await ends(helpdesk, message_id(waited), "read")
    for query in ("?wait=5", ""):
        assert (await helpdesk.reply(conversation, "Hi", query=query, headers=key)).json == waited.json
    hub_world.simulator.hold()
    started = time.monotonic()
    answer = await helpdesk.reply(conversation, "Hi", query="?wait=1")
    assert 1 <= time.monotonic() - started < 4
    assert answer.json["message"]["status"] == "sending"
    hub_world.simulator.release()
    await ends(helpdesk, message_id(answer), "read")
    for wait in ("-1", "31", "x", "1.5"):
        assert (await helpdesk.reply(conversation, "Hi", query=f"?wait={wait}")).status == 422


# What becomes of it -------------------------------------------------------------------------------------------------


async def test_e8_a_refusal_is_failed_and_only_its_author_learns_why(hub_world: World) -> None:
    conversation, _, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    hub_world.simulator.fail_next(Fault.refused(131026))
    name = message_id(await crm.reply(conversation, "Hi"))
    mine, theirs = await ends(crm, name, "failed"), await ends(helpdesk, name, "failed")
    assert mine["error"]["code"] == "undeliverable"
    assert mine["error"]["provider_code"] == "131026"
    assert set(mine["status_times"]) == {"queued", "sending", "failed"}
    assert theirs["masked"] is True
    assert "undeliverable" not in str(theirs).lower()
    assert "131026" not in str(theirs)
    assert (await message(crm, name))["error"] == mine["error"]
    assert "error" not in await message(helpdesk, name)
    assert len(hub_world.simulator.attempts) == 1
    after = message_id(await crm.reply(conversation, "Next"))
    await ends(crm, after, "read")


@pytest.fixture
def short_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_send, "SEND_SCHEDULE", (0.05, 0.05, 0.05))
    monkeypatch.setattr(throttling, "FIRST_PAUSE", 0.05)


@pytest.mark.usefixtures("short_schedule")
@pytest.mark.parametrize("provider", ["meta", "twilio"])
async def test_e8_what_was_certainly_not_taken_is_tried_again(hub_world: World, provider: str) -> None:
    medium = "whatsapp" if provider == "meta" else "sms"
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk", provider=provider, medium=medium)
    hub_world.simulator.fail_next(Fault.throttled(), 3)
    first = message_id(await helpdesk.reply(conversation, "first"))
    second = message_id(await helpdesk.reply(conversation, "second"))
    last = "read" if medium == "whatsapp" else "delivered"
    await ends(helpdesk, second, last)
    await ends(helpdesk, first, last)
    assert [(await customer.hears()).text for _ in range(2)] == ["first", "second"]
    assert len(hub_world.simulator.attempts) == 5
    assert statuses(helpdesk, first)[:2] == ["sending", "sent"]


@pytest.mark.usefixtures("short_schedule")
async def test_e8_until_there_is_no_sense_in_it(open_world: Open) -> None:
    """Nobody listens where Meta is said to be."""
    made = await open_world(meta_api_url="http://127.0.0.1:1")
    conversation, _, (helpdesk,) = await talk(made, "helpdesk")
    first = message_id(await helpdesk.reply(conversation, "first"))
    second = message_id(await helpdesk.reply(conversation, "second"))
    for name in (first, second):
        assert (await ends(helpdesk, name, "failed"))["error"]["code"] == "unreachable"
    assert statuses(helpdesk, first) == ["sending", "failed"]


async def test_e2_no_bot_of_a_leaving_parent_is_claimed_after_it_left(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    people = [hub_world.customer(Person(f"+4915100000{n:03d}")) for n in range(12)]
    talks = [await writes(person, helpdesk, crm, text=f"I am {n}") for n, person in enumerate(people)]
    bots = [automates(helpdesk, talk, f"bot {turn}") for turn in range(4) for talk in talks]
    half = len(bots) // 2
    answers = await asyncio.gather(*bots[:half], leaves(helpdesk), *bots[half:])
    codes = [answer.json.get("code") for answer in answers if answer is not None]
    assert set(codes) <= {None, "not_found", "not_parent"}
    await until(lambda: _is_empty(database_url))
    events = await revealed_events(hub_world)
    (left,) = [e["event_id"] for e in events if e["type"] == "service.disconnected"]
    moves = [(e["event_id"], e["data"]["message"]) for e in events if e["type"] == "message.status"]
    last = {move["id"]: move["status"] for _, move in moves}
    assert len(last) == codes.count(None)
    for event_id, move in moves:
        if move["status"] == "sending":
            assert event_id < left
        elif move["status"] == "cancelled":
            assert move["error"]["code"] == "not_parent"
    sent = {send.hub_id for send in hub_world.simulator.sent}
    assert {name for name, status in last.items() if status == "cancelled"} == set(last) - sent


@pytest.mark.usefixtures("short_schedule")
async def test_e8_a_provider_that_says_when_is_not_asked_before(hub_world: World) -> None:
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk")
    hub_world.simulator.fail_next(Fault.throttled(retry_after=1))
    await helpdesk.reply(conversation, "first")
    await customer.hears()
    one, other = hub_world.simulator.attempts
    assert other.at - one.at >= 0.95


UNKNOWN = {
    "silent, taken": Fault.silent(taken=True),
    "silent, not taken": Fault.silent(),
    "bare 502, taken": Fault.bare(taken=True),
    "bare 502, not taken": Fault.bare(),
    "cut off": Fault.dropped(),
}


@pytest.mark.parametrize(
    ("provider", "fault"),
    [
        *(pytest.param("meta", fault, id=f"meta, {name}") for name, fault in UNKNOWN.items()),
        pytest.param("twilio", Fault.silent(taken=True), id="twilio, silent, taken"),
        pytest.param("twilio", Fault.bare(), id="twilio, bare 502, not taken"),
    ],
)
async def test_e8_an_unknown_holds_its_conversation_and_is_never_sent_twice(
    open_world: Open, monkeypatch: pytest.MonkeyPatch, fault: Fault, provider: str
) -> None:
    monkeypatch.setattr(record_send, "UNKNOWN_HOLDS", 0.6)
    made = await open_world(send_timeout=0.4)
    medium = "whatsapp" if provider == "meta" else "sms"
    conversation, customer, (helpdesk, crm) = await talk(made, "helpdesk", "crm", provider=provider, medium=medium)
    simulator = made.simulator
    simulator.status_plan = StatusPlan.none()
    simulator.fail_next(fault)
    lost = message_id(await helpdesk.reply(conversation, "lost?"))
    await ends(crm, lost, "unknown")
    then = simulator.ledger.clock()
    after = message_id(await helpdesk.reply(conversation, "after"))
    await simulator.wait_for(lambda: any(send.text == "after" for send in simulator.sent))
    assert simulator.attempts[-1].at - then >= 0.4
    assert len(simulator.attempts) == 2
    assert [send.text for send in customer.received] == (["lost?"] if fault.taken else []) + ["after"]
    assert (await message(helpdesk, lost))["status"] == "unknown"
    assert (await message(helpdesk, after))["status"] in {"sending", "sent"}


@pytest.mark.parametrize("provider", ["meta", "twilio"])
async def test_e8_an_unknown_is_settled_by_the_callback_which_frees_its_conversation(
    open_world: Open, provider: str
) -> None:
    made = await open_world(send_timeout=0.4)
    medium = "whatsapp" if provider == "meta" else "sms"
    conversation, customer, (helpdesk, crm) = await talk(made, "helpdesk", "crm", provider=provider, medium=medium)
    other = await writes(made.customer(Person("+4915100000001"), provider=provider, medium=medium), helpdesk, text="2")
    simulator = made.simulator
    simulator.status_plan = StatusPlan.none()
    simulator.fail_next(Fault.silent(taken=True))
    lost = message_id(await helpdesk.reply(conversation, "lost?"))
    await ends(helpdesk, lost, "unknown")
    await helpdesk.reply(conversation, "after")
    elsewhere = await helpdesk.reply(other, "elsewhere", query="?wait=5")
    assert elsewhere.json["message"]["provider_id"]
    assert len(simulator.attempts) == 2
    (taken,) = customer.received
    await simulator.report(taken, "delivered")
    settled = await ends(crm, lost, "delivered")
    assert settled["status_times"].keys() >= {"queued", "sending", "unknown", "delivered"}
    await simulator.wait_for(lambda: any(send.text == "after" for send in simulator.sent), 5)
    view = await message(helpdesk, lost)
    assert (view["status"], view["provider_id"]) == ("delivered", taken.provider_id)
    assert len(simulator.attempts) == 3


@pytest.mark.parametrize(
    ("plan", "heard"),
    [
        (StatusPlan(), ["sending", "sent", "delivered", "read"]),
        (StatusPlan.duplicated(), ["sending", "sent", "delivered", "read"]),
        (StatusPlan.reordered(), ["sending", "read"]),
        (StatusPlan.early(), ["sending", "sent", "delivered", "read"]),
        (StatusPlan(("played",)), ["sending", "read"]),
        (StatusPlan(("sent", "deleted", "warning", "read")), ["sending", "sent", "read"]),
    ],
    ids=["usual", "duplicated", "reordered", "early", "played", "words to be recorded only"],
)
async def test_e7_statuses_move_forward_only(hub_world: World, plan: StatusPlan, heard: list[str]) -> None:
    conversation, _, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    hub_world.simulator.status_plan = plan
    name = message_id(await helpdesk.reply(conversation, "Hi"))
    await ends(crm, name, "read")
    await hub_world.simulator.settle()
    view = await message(helpdesk, name)
    assert view["status"] == "read"
    assert not view.get("conflict")
    assert {"queued", "sending", *heard} <= set(view["status_times"])
    assert set(view["status_times"]) <= {"queued", "sending", "sent", "delivered", "read"}
    fence = message_id(await helpdesk.reply(conversation, "fence"))
    await ends(crm, fence, "read")
    assert statuses(crm, name) == statuses(helpdesk, name) == heard


async def test_e7_a_status_before_its_message_is_known_is_parked(
    hub_world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation, _, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    simulator = hub_world.simulator

    async def report(send: SimulatedSend, step: str, **_: Any) -> None:
        """Without the hub's own id: nothing but the provider's tells which message it is."""
        item = meta_webhooks.status(step, message_id=send.provider_id, to=send.to, at=time.time())
        await simulator.post_meta(meta_webhooks.batch([meta_webhooks.Entry(send.number, item)]))
        assert await ask(database_url, "select count(*) from orphan_status") > 0

    monkeypatch.setattr(simulator, "report", report)
    simulator.status_plan = StatusPlan(("read", "sent", "delivered"), before_answer=True)
    name = message_id(await helpdesk.reply(conversation, "Hi"))
    await ends(crm, name, "read")
    assert set((await message(helpdesk, name))["status_times"]) == {"queued", "sending", "sent", "delivered", "read"}
    assert await ask(database_url, "select count(*) from orphan_status") == 0
    assert statuses(crm, name) == ["sending", "read"]


@pytest.mark.parametrize("order", [("sent", "delivered", "failed"), ("failed", "delivered", "sent")])
async def test_e7_delivered_beats_failed_in_either_order_flagged(hub_world: World, order: tuple[str, ...]) -> None:
    conversation, _, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    hub_world.simulator.status_plan = StatusPlan(order)
    name = message_id(await helpdesk.reply(conversation, "Hi"))
    await crm.endpoint.wait(
        lambda me: any(
            d.data["message"]["id"] == name and d.data["message"].get("conflict") for d in me.of("message.status")
        )
    )
    await hub_world.simulator.settle()
    view = await message(helpdesk, name)
    assert (view["status"], view["conflict"]) == ("delivered", True)
    assert set(view["status_times"]) == {"queued", "sending", "sent", "delivered", "failed"}


async def test_e7_a_late_failure_tells_its_author_why(hub_world: World) -> None:
    conversation, _, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    hub_world.simulator.status_plan = StatusPlan.failing(131049)
    name = message_id(await helpdesk.reply(conversation, "Hi"))
    error = (await ends(helpdesk, name, "failed"))["error"]
    assert (error["code"], error["provider_code"]) == ("marketing_limited", "131049")
    assert "131049" not in str(await ends(crm, name, "failed"))


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        (("queued", "sending", "sent", "undelivered"), "failed"),
        (("canceled",), "cancelled"),
        (("sent", "delivered"), "delivered"),
    ],
)
async def test_e7_twilio_s_words(hub_world: World, steps: tuple[str, ...], status: str) -> None:
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk", provider="twilio", medium="sms")
    hub_world.simulator.status_plan = StatusPlan(steps)
    name = message_id(await helpdesk.reply(conversation, "Hi"))
    await ends(helpdesk, name, status)
    assert (await customer.hears()).medium == "sms"


# Order --------------------------------------------------------------------------------------------------------------


async def test_e9_order_of_sending_is_order_of_acceptance(hub_world: World) -> None:
    conversation, customer, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    answers = await asyncio.gather(
        *((helpdesk, crm)[n % 2].reply(conversation, f"reply {n}", agent=f"agent {n}") for n in range(20))
    )
    assert {answer.status for answer in answers} == {202}
    accepted = sorted((answer.json["message"]["sequence"], answer.json["message"]["text"]) for answer in answers)
    assert len({sequence for sequence, _ in accepted}) == 20
    heard = [(await customer.hears()).text for _ in range(20)]
    assert heard == [text for _, text in accepted]
    assert len(hub_world.simulator.attempts) == 20


async def test_e9_agents_go_before_automation_and_lend_their_priority(open_world: Open) -> None:
    made = await open_world(send_concurrency=1)
    first, _, (helpdesk,) = await talk(made, "helpdesk")
    others = [
        await writes(made.customer(Person(f"+491510000000{n}")), helpdesk, text=f"customer {n}") for n in range(1, 4)
    ]
    made.simulator.hold()
    await helpdesk.reply(first, "with the provider")
    await made.simulator.wait_for(lambda: made.simulator.in_flight == 1)
    await automates(helpdesk, others[0], "bot, alone")
    await automates(helpdesk, others[1], "bot, before an agent")
    await helpdesk.reply(others[1], "agent, behind a bot")
    await helpdesk.reply(others[2], "agent, alone")
    made.simulator.release()
    await made.simulator.wait_for(lambda: len(made.simulator.sent) == 5)
    order = [send.text for send in made.simulator.sent]
    assert order[0] == "with the provider"
    assert order.index("bot, before an agent") < order.index("agent, behind a bot")
    assert order[-1] == "bot, alone"


async def test_e8_a_crash_between_call_and_record_is_unknown(database_url: str, tmp_path: Path) -> None:
    """The sender's process died after it had claimed the message: nobody knows whether the provider has it."""
    async with world(database_url, tmp_path, roles=("gateway", "fanout", "janitor")) as made:
        conversation, _, (helpdesk,) = await talk(made, "helpdesk")
        lost, after = [message_id(await helpdesk.reply(conversation, text)) for text in ("lost?", "after")]
        async with connected(database_url) as conn:
            await conn.execute(
                "update outbox set claimed_by = $1, claimed_at = now(), attempts = 1 where message_id = $2",
                uuid4(),
                UUID(lost.removeprefix("msg_")),
            )
            await conn.execute("update message set status = 'sending' where id = $1", UUID(lost.removeprefix("msg_")))
        settings = settings_for(made.simulator, database_url, tmp_path, roles=("sender",))
        async with running(settings):
            await ends(helpdesk, lost, "unknown")
            assert (await message(helpdesk, lost))["status"] == "unknown"
            assert (await message(helpdesk, after))["status"] == "queued"
            assert made.simulator.attempts == []
            await ask(
                database_url, "update outbox set held_until = now() - interval '1 second' where held_until is not null"
            )
            await ends(helpdesk, after, "read")
            assert [send.text for send in made.simulator.sent] == ["after"]


async def test_e8_a_send_in_flight_at_shutdown_is_finished_not_repeated(database_url: str, tmp_path: Path) -> None:
    async with world(database_url, tmp_path, roles=("gateway", "fanout")) as made:
        conversation, customer, (helpdesk,) = await talk(made, "helpdesk")
        settings = settings_for(made.simulator, database_url, tmp_path, roles=("sender",))
        async with running(settings):
            made.simulator.hold()
            name = message_id(await helpdesk.reply(conversation, "Hi"))
            await made.simulator.wait_for(lambda: made.simulator.in_flight == 1)
            made.simulator.release()
        async with running(settings):
            await ends(helpdesk, name, "read")
            fence = message_id(await helpdesk.reply(conversation, "fence"))
            await ends(helpdesk, fence, "read")
        assert [send.text for send in customer.received] == ["Hi", "fence"]
        assert len(made.simulator.attempts) == 2


async def test_e8_an_agent_s_reply_that_waited_an_hour_fails_as_expired(hub_world: World, database_url: str) -> None:
    conversation, _, (helpdesk, crm) = await talk(hub_world, "helpdesk", "crm")
    hub_world.simulator.hold()
    await helpdesk.reply(conversation, "with the provider")
    await hub_world.simulator.wait_for(lambda: hub_world.simulator.in_flight == 1)
    old = message_id(await helpdesk.reply(conversation, "an hour ago"))
    bot = message_id(await automates(helpdesk, conversation, "a bot's"))
    await ask(database_url, "update message set created_at = now() - interval '61 minutes' where status = 'queued'")
    hub_world.simulator.release()
    assert (await ends(helpdesk, old, "failed"))["error"]["code"] == "expired"
    await ends(crm, bot, "read")
    assert [send.text for send in hub_world.simulator.sent] == ["with the provider", "a bot's"]


# To whom ------------------------------------------------------------------------------------------------------------


async def test_b8_customers_without_a_phone_are_answered_by_user_id(hub_world: World) -> None:
    hidden = Person(user_id="US.13491208655302741918", username="mia", name="Mia")
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk", person=hidden)
    contact = helpdesk.endpoint.of("message.received")[0].data["contact"]
    assert {"type": "user_id", "value": hidden.user_id} in contact["addresses"]
    assert (await helpdesk.reply(conversation, "Hi")).status == 202
    sent = await customer.hears()
    assert (sent.to, sent.body["recipient"]) == (hidden.user_id, hidden.user_id)
    assert "to" not in sent.body


async def test_b8_one_person_on_two_media_is_answered_on_each(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    on_sms = hub_world.customer(MIA, provider="twilio", medium="sms")
    on_whatsapp = hub_world.customer(MIA)
    sms = await writes(on_sms, helpdesk, text="by sms")
    whatsapp = await writes(on_whatsapp, helpdesk, text="by whatsapp")
    events = helpdesk.endpoint.of("message.received")
    assert len({event.data["contact"]["id"] for event in events}) == 1
    assert sms != whatsapp
    assert {event.data["conversation"]["medium"] for event in events} == {"sms", "whatsapp"}
    await helpdesk.reply(sms, "answer by sms")
    await helpdesk.reply(whatsapp, "answer by whatsapp")
    assert (await on_sms.hears()).text == "answer by sms"
    assert (await on_whatsapp.hears()).text == "answer by whatsapp"


async def test_b8_the_number_is_written_to_as_it_was_reported(hub_world: World) -> None:
    person = Person("+5215512345678")
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk", person=person)
    await helpdesk.reply(conversation, "Hola")
    assert (await customer.hears()).body["to"] == "5215512345678"


@pytest.mark.parametrize(("medium", "most"), [("whatsapp", 4096), ("sms", 1600)])
async def test_e10_a_text_that_is_too_long_is_refused(hub_world: World, medium: str, most: int) -> None:
    provider = "meta" if medium == "whatsapp" else "twilio"
    conversation, customer, (helpdesk,) = await talk(hub_world, "helpdesk", provider=provider, medium=medium)
    refused = await helpdesk.reply(conversation, "ü" * (most + 1))
    assert (refused.status, refused.json["code"]) == (422, "text_too_long")
    assert str(most) in refused.json["detail"]
    assert (await helpdesk.reply(conversation, "ü" * most)).status == 202
    assert (await customer.hears()).text == "ü" * most


async def test_a1_without_an_active_sender_nothing_is_taken_and_nothing_loops(
    hub_world: World, database_url: str
) -> None:
    conversation, _, (helpdesk,) = await talk(hub_world, "helpdesk")
    hub_world.simulator.hold()
    await helpdesk.reply(conversation, "with the provider")
    await hub_world.simulator.wait_for(lambda: hub_world.simulator.in_flight == 1)
    waiting = message_id(await helpdesk.reply(conversation, "waiting"))
    await ask(database_url, "update sender set is_active = false where medium = 'whatsapp'")
    refused = await helpdesk.reply(conversation, "Hi")
    assert (refused.status, refused.json["code"]) == (409, "no_sender")
    hub_world.simulator.release()
    assert (await ends(helpdesk, waiting, "failed"))["error"]["code"] == "no_sender"


async def test_every_step_is_an_event_to_all_with_its_own_number(hub_world: World) -> None:
    conversation, _, services = await talk(hub_world, "helpdesk", "crm", "marketing")
    name = message_id(await services[1].reply(conversation, "a private answer"))
    for service in services:
        await ends(service, name, "read")
        steps = [d for d in service.endpoint.deliveries if "message" in d.data]
        assert [d.type for d in steps] == ["message.received", "message.queued", *["message.status"] * 4]
        assert [d.data["conversation"]["sequence"] for d in steps] == [1, 2, 3, 4, 5, 6]
        assert {d.data["message"]["sequence"] for d in steps[1:]} == {2}
        if service is not services[1]:
            assert "a private answer" not in str([d.data for d in steps])
    whole = [e["data"]["message"].get("text") for e in await revealed_events(hub_world, "message.queued")]
    assert whole == ["a private answer"]


async def test_until_the_queue_is_empty(hub_world: World, database_url: str) -> None:
    """Nothing is left behind in the queue by any way a message can end."""
    conversation, _, (helpdesk,) = await talk(hub_world, "helpdesk")
    hub_world.simulator.fail_next(Fault.refused(131026))
    failed = message_id(await helpdesk.reply(conversation, "refused"))
    read = message_id(await helpdesk.reply(conversation, "read"))
    await ends(helpdesk, failed, "failed")
    await ends(helpdesk, read, "read")
    assert await until(lambda: _is_empty(database_url))


async def _is_empty(database_url: str) -> bool:
    return bool(await ask(database_url, "select count(*) = 0 from outbox"))
