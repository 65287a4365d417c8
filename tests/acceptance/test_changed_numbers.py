"""A customer has another number, as Meta tells it, over HTTP with real signatures (rules B8, E5)."""

import time
from typing import Any

from providers.simulator import Person
from tests.support.talk import MIA, automates, writes
from tests.support.wire import Wire, envelope, unique, until, value
from tests.support.world import NUMBER, PHONE_NUMBER_ID, World

NEW = Person("+4915112349999", name="Mia")


def changed(old: Person, new: Person) -> dict[str, Any]:
    """Meta's word for it; the customer's own name stands beside it."""
    assert old.phone
    assert new.phone
    system = {"type": "user_changed_number", "wa_id": new.phone[1:], "body": "User Mia changed their number"}
    item = {
        "from": old.phone[1:],
        "id": unique(),
        "timestamp": str(int(time.time())),
        "type": "system",
        "system": system,
    }
    metadata = {"display_phone_number": NUMBER[1:], "phone_number_id": PHONE_NUMBER_ID}
    return envelope(value([item]) | {"metadata": metadata})


async def test_b8_e5_the_conversation_goes_on_under_the_new_number(hub_world: World) -> None:
    wire = Wire(hub_world)
    helpdesk = await hub_world.service("helpdesk", scopes=["read", "reply", "automate", "profiles"])
    await helpdesk.connect()
    (crm,) = await hub_world.connected("crm")
    before, after = hub_world.customer(MIA), hub_world.customer(NEW)
    conversation = await writes(before, helpdesk, crm, text="Hello")
    contact = helpdesk.endpoint.of("message.received")[0].data["contact"]["id"]
    await before.says("STOP")
    await helpdesk.endpoint.hears("consent.changed", 1)

    news = changed(MIA, NEW)
    for _ in range(2):
        assert (await wire.meta(news)).status == 200
    for service in (helpdesk, crm):
        *_, told = await service.endpoint.hears("message.received", 3)
        assert (told.data["conversation"]["id"], told.data["contact"]["id"]) == (conversation, contact)
        assert told.data["message"]["type"] == "system"
        assert told.data["message"]["system"]["type"] == "user_changed_number"
        assert {address["value"] for address in told.data["contact"]["addresses"]} == {NEW.phone}
    (profile,) = [d.data for d in await helpdesk.endpoint.hears("profile.updated", 1)]
    assert (profile["profile"]["rule"], profile["profile"]["changed"]) == ("provider_said", ["addresses"])
    assert not crm.endpoint.of("profile.updated")

    assert (await automates(helpdesk, conversation, "We are here")).json["code"] == "no_consent"
    answer = await helpdesk.reply(conversation, "Glad you told us")
    assert answer.status == 202, answer
    await until(lambda: after.received)
    assert [[send.text for send in side.received] for side in (before, after)] == [[], ["Glad you told us"]]

    view = (await helpdesk.call("GET", f"/v1/contacts/{contact}")).json
    assert [address["value"] for address in view["addresses"]] == [NEW.phone]
    (former,) = view["former_addresses"]
    assert (former["type"], former["value"], former["contact_id"]) == ("phone", MIA.phone, contact)
    assert former["since"] <= former["until"]

    await after.says("It is me")
    *_, again = await helpdesk.endpoint.hears("message.received", 4)
    assert (again.data["conversation"]["id"], again.data["contact"]["id"]) == (conversation, contact)
    await before.says("Who is there?")
    *_, stranger = await helpdesk.endpoint.hears("message.received", 5)
    assert stranger.data["contact"]["id"] != contact
    assert stranger.data["conversation"]["id"] != conversation
    assert [a["value"] for a in stranger.data["contact"]["addresses"]] == [MIA.phone]
    found = await helpdesk.call("GET", f"/v1/contacts?address=%2B{(NEW.phone or '')[1:]}")
    assert [one["id"] for one in found.json["items"]] == [contact]
