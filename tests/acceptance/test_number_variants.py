"""One customer whatever the form of their number, and the form that works for sending is remembered (rule B8)."""

from typing import Any

from providers.simulator import Customer, Fault, Person, Simulator, StatusPlan
from tests.support.talk import conversation_of, ends, writes
from tests.support.wire import ask
from tests.support.world import NUMBER, Answer, Service, World

SHORT, LONG = "+551187654321", "+5511987654321"  # as WhatsApp reports it, and as it is dialled
SMS = {"provider": "twilio", "medium": "sms"}
NOT_ALLOWED = 131030


async def begins(service: Service, to: str, medium: str = "whatsapp", **more: Any) -> Answer:
    """An agent writes first."""
    body = {"origin": "agent", "agent": {"id": "7", "name": "Ana"}, "type": "text", "text": "Oi", "from": NUMBER}
    return await service.call("POST", "/v1/messages?wait=5", {**body, "to": to, "medium": medium, **more})


async def goes(service: Service, conversation: str, text: str) -> dict[str, Any]:
    """An agent's reply, as it is when the provider has answered."""
    answer = await service.reply(conversation, text, query="?wait=5")
    assert answer.status == 202, answer
    return dict(answer.json["message"])


def tried(simulator: Simulator, since: int) -> list[str | None]:
    """To which forms requests were made."""
    return [attempt.to for attempt in simulator.attempts[since:]]


def calls(world: World, phone: str, **medium: Any) -> Customer:
    """The customer, as the provider reports them."""
    return world.customer(Person(phone, name="Bia"), **medium)


async def test_b8_the_form_that_works_is_found_and_remembered(hub_world: World, database_url: str) -> None:
    simulator = hub_world.simulator
    helpdesk, shop = await hub_world.connected("helpdesk", "shop")
    forms, customer = simulator.meta_api.refused_forms, calls(hub_world, SHORT)
    conversation = await writes(customer, helpdesk, shop, text="Oi")
    contact = helpdesk.endpoint.of("message.received")[-1].data["contact"]

    forms[SHORT] = NOT_ALLOWED
    sent = await goes(helpdesk, conversation, "one")
    assert tried(simulator, 0) == [SHORT, LONG]
    assert "failed" not in (await ends(helpdesk, sent["id"], "read"))["status_times"]
    await goes(helpdesk, conversation, "two")
    assert tried(simulator, 2) == [LONG], "the one that worked, at once"

    # Now they are reported as they are dialled: nobody else, and it goes on as it was.
    assert await writes(calls(hub_world, LONG), helpdesk, text="Oi de novo") == conversation
    assert helpdesk.endpoint.of("message.received")[-1].data["contact"]["id"] == contact["id"]
    await goes(helpdesk, conversation, "three")
    assert tried(simulator, 3) == [LONG]
    assert await ask(database_url, "select reply_to_value from conversation") == LONG
    assert await writes(customer, helpdesk, text="e de novo") == conversation
    begun = await begins(helpdesk, "+55011987654321", text="begun")  # with a trunk prefix that somebody kept
    assert begun.json["message"]["conversation_id"] == conversation
    assert tried(simulator, 4) == [LONG], "the form that is known to work"

    # What works may change. Where nothing does, each form was tried once, and the first refusal is told.
    del forms[SHORT]
    forms[LONG] = NOT_ALLOWED
    await goes(helpdesk, conversation, "four")
    await goes(helpdesk, conversation, "five")
    assert tried(simulator, 5) == [LONG, SHORT, SHORT]
    forms[SHORT] = 131026
    failed = await goes(helpdesk, conversation, "six")
    assert (failed["status"], failed["error"]["code"]) == ("failed", "undeliverable")
    assert tried(simulator, 8) == [SHORT, LONG]
    forms.clear()

    # A refusal of what is said, and an outcome that nobody knows, try nothing else.
    simulator.status_plan = StatusPlan.none()
    for fault, status in ((Fault.refused(131047), "failed"), (Fault.dropped(taken=True), "unknown")):
        before = len(simulator.attempts)
        simulator.fail_next(fault)
        name = (await helpdesk.reply(conversation, status)).json["message"]["id"]
        await ends(helpdesk, name, status)
        assert tried(simulator, before) == [SHORT]


async def test_b8_what_the_provider_makes_of_a_number_is_remembered(hub_world: World, database_url: str) -> None:
    """It says so in its answer; only a form of the same number counts. One consent and one window are for all forms."""
    simulator = hub_world.simulator
    (helpdesk,) = await hub_world.connected("helpdesk")
    simulator.meta_api.wa_ids |= {"+5215512345678": "+525512345678", "+15553334444": "+15553334445"}
    for phone, forms in (
        ("+5215512345678", ["+5215512345678", "+525512345678"]),
        ("+15553334444", ["+15553334444", "+15553334444"]),
    ):
        before = len(simulator.attempts)
        conversation = await writes(calls(hub_world, phone), helpdesk, text=f"I am {phone}")
        await goes(helpdesk, conversation, "one")
        await goes(helpdesk, conversation, "two")
        assert tried(simulator, before) == forms
        assert await ask(database_url, "select true from conversation where reply_to_value = $1", phone)
    # They have written in the one form: the window is open for the other.
    answer = await begins(helpdesk, "+525512345678", text="three")
    assert answer.json["message"]["provider_id"]
    assert answer.json["message"]["conversation_id"] == conversation_of(helpdesk, "I am +5215512345678")

    await writes(calls(hub_world, LONG, **SMS), helpdesk, text="STOP")
    for form in (LONG, SHORT):
        answer = await begins(helpdesk, form, "sms")
        assert (answer.status, answer.json["code"]) == (409, "no_consent")
    # And no one writes to themselves, in whichever form.
    answer = await begins(helpdesk, NUMBER.replace("+1", "+11"), "sms")
    assert answer.json["errors"][0]["code"] == "own_number"
