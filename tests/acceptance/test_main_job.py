"""The main job: a customer writes, everyone hears it, an agent answers, the others see that masked."""

from providers.simulator import Person
from tests.support.world import World


async def test_a_customer_writes_and_an_agent_answers(hub_world: World) -> None:
    helpdesk, crm, marketing = await hub_world.connected("helpdesk", "crm", "marketing")
    assert helpdesk.connection["role"] == "parent"
    assert crm.connection["role"] == "subscriber"
    customer = hub_world.customer(Person("+4915112345678", name="Mia"))
    await customer.says("Where is my order?")
    for service in (helpdesk, crm, marketing):
        (event,) = await service.endpoint.hears("message.received")
        assert event.data["message"]["text"] == "Where is my order?"
        assert event.data["contact"]["name"] == "Mia"
        assert event.data["automation"]["allowed"] is (service is helpdesk)
    conversation = helpdesk.endpoint.of("message.received")[0].data["conversation"]["id"]

    answer = await crm.reply(conversation, "It is on its way.")
    assert answer.status == 202, answer
    assert answer.json["message"]["status"] == "queued"
    await customer.hears()
    for service in (helpdesk, crm, marketing):
        await service.endpoint.wait(
            lambda me: any(d.data["message"]["status"] == "read" for d in me.of("message.status"))
        )
        queued = service.endpoint.of("message.queued")[0].data["message"]
        assert ("text" in queued) is (service is crm)
        assert queued.get("masked", False) is (service is not crm)
        assert queued["author"] == {"service_id": crm.id, "name": "crm"}
        states = [d.data["message"]["status"] for d in service.endpoint.of("message.status")]
        assert states == ["sending", "sent", "delivered", "read"]
        sequences = [
            d.data["conversation"]["sequence"] for d in service.endpoint.deliveries if "conversation" in d.data
        ]
        assert sequences == list(range(1, len(sequences) + 1))
        assert not service.endpoint.refused
