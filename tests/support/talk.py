"""Small steps that acceptance tests of rosters, sending and timelines share."""

from collections.abc import Callable
from typing import Any

from providers.simulator import Customer, Person
from tests.support.world import NUMBER, Answer, Service, World

MIA = Person("+4915112345678", name="Mia")


async def writes(customer: Customer, *listeners: Service, text: str = "Hello") -> str:
    """The customer writes, all of these hear it; gives the first one's conversation id."""
    await customer.says(text)
    for service in listeners:
        await service.endpoint.wait(lambda me: any(heard(d.data, text) for d in me.of("message.received")))
    return conversation_of(listeners[0], text)


def heard(data: dict[str, Any], text: str) -> bool:
    """Whether this event's message says so."""
    return bool(data["message"].get("text") == text)


def conversation_of(service: Service, text: str) -> str:
    """The conversation in which a service heard this."""
    events = [d.data for d in service.endpoint.of("message.received") if heard(d.data, text)]
    return str(events[-1]["conversation"]["id"])


async def automates(service: Service, conversation: str, text: str, origin: str = "chatbot", **more: Any) -> Answer:
    """A bot of this service writes."""
    body = {"origin": origin, "type": "text", "text": text, **more}
    return await service.call("POST", f"/v1/conversations/{conversation}/messages", body)


async def roster(service: Service, number: str = NUMBER) -> dict[str, Any]:
    """What a service is told of a number (A9)."""
    answer = await service.call("GET", f"/v1/numbers/{number}")
    assert answer.status == 200, answer
    return dict(answer.json)


async def leaves(service: Service, number: str = NUMBER) -> None:
    """Disconnect."""
    answer = await service.call("DELETE", f"/v1/numbers/{number}/connection")
    assert answer.status == 204, answer


async def pages(call: Callable[[str], Any], path: str, cursor: str = "after", step: str = "") -> list[dict[str, Any]]:
    """Every item of a list, page by page, from the first, or from that after `step`."""
    found: list[dict[str, Any]] = []
    mark = "&" if "?" in path else "?"
    while True:
        answer = await call(path + step)
        assert answer.status == 200, answer
        found += answer.json["items"]
        if answer.json["next"] is None:
            return found
        step = f"{mark}{cursor}={answer.json['next']}"


async def operator_events(world: World, kind: str | None = None) -> list[dict[str, Any]]:
    """The event log as the operator sees it, masked."""
    found = await pages(lambda path: world.call("GET", path), "/v1/admin/events?limit=200")
    return [event for event in found if kind in {None, event["type"]}]


async def revealed_events(world: World, kind: str | None = None) -> list[dict[str, Any]]:
    """The event log in full, for a reason (C2)."""
    found: list[dict[str, Any]] = []
    after: str | None = "evt_0"
    while after:
        wanted = {"reason": "the test wants to know", "after": after, "limit": 200}
        answer = await world.call("POST", "/v1/admin/events/reveal", wanted)
        assert answer.status == 200, answer
        found += answer.json["items"]
        after = answer.json["next"]
    return [event for event in found if kind in {None, event["type"]}]


async def audit(world: World) -> list[dict[str, Any]]:
    """The audit trail."""
    return await pages(lambda path: world.call("GET", path), "/v1/admin/audit?limit=200")


async def timeline(service: Service, conversation: str, query: str = "") -> list[dict[str, Any]]:
    """One page of a conversation's messages."""
    answer = await service.call("GET", f"/v1/conversations/{conversation}/messages{query}")
    assert answer.status == 200, answer
    return list(answer.json["items"])


async def ends(service: Service, message: str, *statuses: str) -> dict[str, Any]:
    """Wait until a service hears that this message has one of these statuses; gives the message as it heard it."""

    def found() -> list[dict[str, Any]]:
        views = [d.data["message"] for d in service.endpoint.of("message.status")]
        return [view for view in views if view["id"] == message and view["status"] in statuses]

    await service.endpoint.wait(lambda _: bool(found()))
    return found()[0]
