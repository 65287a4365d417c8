"""What providers report of messages whose outcome we do not know, in whatever order it comes (rules E7, E8)."""

import time
from itertools import permutations
from typing import Any

from providers.simulator import Fault, StatusPlan, meta_webhooks
from tests.support.talk import MIA, ends, writes
from tests.support.wire import Wire, ask, envelope, unique, until, value
from tests.support.world import Service, World


async def lost(world: World, service: Service, conversation: str) -> str:
    """A message whose send ended without an answer; gives its id."""
    world.simulator.fail_next(Fault.dropped(taken=False))
    message = (await service.reply(conversation, "did it go?")).json["message"]["id"]
    await ends(service, message, "unknown")
    return str(message)


def reported(status: str, provider_id: str, hub_id: str | None = None) -> dict[str, Any]:
    """A status as Meta puts it."""
    return meta_webhooks.status(status, message_id=provider_id, to=str(MIA.phone), at=time.time(), hub_id=hub_id)


async def statuses_of(service: Service, message: str) -> list[str]:
    """What a service was told of a message so far, in order."""
    views = [d.data["message"] for d in service.endpoint.of("message.status")]
    return [view["status"] for view in views if view["id"] == message]


async def test_e7_what_was_parked_is_applied_once_somebody_names_the_message(
    hub_world: World, database_url: str
) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    hub_world.simulator.status_plan = StatusPlan.none()
    wire, customer = Wire(hub_world), hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk)

    # Each order of the three, each in a webhook of its own, then all in one; only one of them names the message.
    for is_one_webhook in (False, True):
        for order in permutations(("sent", "delivered", "read")):
            for named in order[-1:] if is_one_webhook else order[1:]:
                message, provider_id = await lost(hub_world, helpdesk, conversation), unique()
                items = [reported(s, provider_id, message if s == named else None) for s in order]
                for batch in [items] if is_one_webhook else [[item] for item in items]:
                    answer = await wire.meta(envelope(value(batch, name="statuses")))
                    assert answer.status == 200
                await ends(helpdesk, message, "read")
                view = (await helpdesk.call("GET", f"/v1/messages/{message}")).json
                assert (view["status"], view["provider_id"]) == ("read", provider_id)
                assert set(view["status_times"]) >= {"sent", "delivered", "read"}
    assert await ask(database_url, "select count(*) from orphan_status") == 0


async def test_e7_what_twilio_has_is_sending_whatever_we_thought(hub_world: World) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    simulator = hub_world.simulator
    customer = hub_world.customer(MIA, provider="twilio", medium="sms")
    conversation = await writes(customer, helpdesk)
    # Twilio took it and told so; only its answer got lost.
    for is_early in (False, True):
        simulator.status_plan = StatusPlan(("queued", "sending"), before_answer=is_early)
        simulator.fail_next(Fault.dropped(taken=True))
        message = (await helpdesk.reply(conversation, "did it go?")).json["message"]["id"]
        await simulator.wait_for(lambda: simulator.in_flight == 0)
        await simulator.settle()

        async def is_settled(message: str = message) -> bool:
            view = (await helpdesk.call("GET", f"/v1/messages/{message}")).json
            return view["status"] == "sending" and bool(view["provider_id"]) and "unknown" in view["status_times"]

        await until(is_settled)
        assert (await statuses_of(helpdesk, message))[-1:] != ["unknown"]
        await simulator.report(simulator.sent[-1], "delivered")
        await ends(helpdesk, message, "delivered")
