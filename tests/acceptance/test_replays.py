"""Events delivered once more, and events that were given up (rule G3): what the endpoints really get."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub.fanout import lanes
from providers.simulator import Person
from tests.support.subscriber import Delivery, Subscriber
from tests.support.talk import MIA, operator_events, writes
from tests.support.wire import reopened, until
from tests.support.world import NUMBER, Service, World, world

BOB = Person("+4915187654321", name="Bob")


def replayed(service: Service) -> list[Delivery]:
    """What came by replays, in order of arrival."""
    return [d for d in service.endpoint.deliveries if d.headers.get("webhook-replay") == "true"]


def live(service: Service) -> list[Delivery]:
    """What came by itself."""
    return [d for d in service.endpoint.deliveries if "webhook-replay" not in d.headers]


def texts(deliveries: list[Delivery]) -> list[str]:
    """What the customers wrote in these."""
    return [d.data["message"]["text"] for d in deliveries if d.type == "message.received"]


async def replay(service: Service, **body: Any) -> dict[str, Any]:
    """Ask for a replay and wait for its end; gives it."""
    asked = await service.call("POST", "/v1/replays", body)
    assert asked.status == 202, asked
    return await finished(service, asked.json["id"])


async def finished(service: Service, replay_id: str) -> dict[str, Any]:
    """Wait until a replay has ended."""

    async def look() -> dict[str, Any] | None:
        found = dict((await service.call("GET", f"/v1/replays/{replay_id}")).json)
        return found if found["state"] == "finished" else None

    return dict(await until(look))


async def items(service: Service, which: str) -> list[dict[str, Any]]:
    """Parked lanes or dead letters."""
    return list((await service.call("GET", f"/v1/deliveries/{which}")).json["items"])


async def test_g3_one_event_a_range_a_time_a_conversation(hub_world: World) -> None:
    (crm,) = await hub_world.connected("crm")
    mia, bob = hub_world.customer(MIA), hub_world.customer(BOB)
    for turn in range(3):
        talk = await writes(mia, crm, text=f"mia {turn}")
        await writes(bob, crm, text=f"bob {turn}")
    first = {d.id: d for d in live(crm)}
    told = await operator_events(hub_world, "message.received")
    ids, times = [event["event_id"] for event in told], [event["timestamp"] for event in told]
    for body, expected in (
        ({"event_ids": [ids[3]]}, ["bob 1"]),
        ({"from_event_id": ids[1], "to_event_id": ids[4]}, ["bob 0", "bob 1", "mia 1", "mia 2"]),
        ({"since": times[2]}, ["bob 1", "bob 2", "mia 1", "mia 2"]),
        ({"since": times[2], "until": times[4]}, ["bob 1", "mia 1"]),
        ({"conversation_id": talk}, ["mia 0", "mia 1", "mia 2"]),
        ({"conversation_id": talk, "since": times[2]}, ["mia 1", "mia 2"]),
    ):
        crm.endpoint.deliveries.clear()
        done = await replay(crm, **body)
        assert done["progress"] == {"events_delivered": len(expected), "failed": 0, "shards_left": 0}, body
        assert live(crm) == []
        assert sorted(texts(replayed(crm))) == expected, body
        for person in ("mia", "bob"):
            own = [text for text in texts(replayed(crm)) if text.startswith(person)]
            assert own == sorted(own), body
        for delivery in replayed(crm):
            assert delivery.data == first[delivery.id].data  # the very same, by its webhook-id
    await writes(mia, crm, text="and on")
    assert texts(live(crm)) == ["and on"]
    assert not crm.endpoint.refused


async def test_a7_what_came_while_nobody_was_connected_comes_by_replay(hub_world: World) -> None:
    customer = hub_world.customer(MIA)
    await customer.says("Is anybody there?")
    (unrouted,) = await until(lambda: operator_events(hub_world, "message.received"))
    (crm,) = await hub_world.connected("crm")
    done = await replay(crm, since=unrouted["timestamp"])
    assert done["progress"]["failed"] == 0
    (found,) = [d for d in replayed(crm) if d.type == "message.received"]
    assert (found.data["message"]["text"], found.data["message"]["unrouted"]) == ("Is anybody there?", True)


async def test_g3_live_order_holds_while_a_replay_runs(hub_world: World) -> None:
    (crm,) = await hub_world.connected("crm")
    customer = hub_world.customer(MIA)
    for n in range(30):
        await customer.says(f"{n:03d}")
    await crm.endpoint.hears("message.received", 30)
    talk = live(crm)[-1].data["conversation"]["id"]
    crm.endpoint.deliveries.clear()
    asked = [await crm.call("POST", "/v1/replays", {"conversation_id": talk}) for _ in range(2)]
    for n in range(30, 60):
        await customer.says(f"{n:03d}")
    await crm.endpoint.wait(lambda _: len(texts(live(crm))) == 30)
    for answer in asked:
        assert (await finished(crm, answer.json["id"]))["progress"]["events_delivered"] == 30
    assert texts(live(crm)) == [f"{n:03d}" for n in range(30, 60)]
    again = texts(replayed(crm))
    assert sorted(again) == sorted([f"{n:03d}" for n in range(30)] * 2)
    assert sorted(set(again), key=again.index) == [f"{n:03d}" for n in range(30)]


async def test_g3_a_replay_goes_on_where_it_was_after_a_restart(database_url: str, tmp_path: Path) -> None:
    endpoint = Subscriber()
    await endpoint.start()
    try:
        async with world(database_url, tmp_path) as first:
            crm = await first.service("crm")
            crm.endpoint = endpoint
            await crm.connect()
            for n in range(12):
                await first.customer(MIA).says(f"{n:02d}")
            await endpoint.hears("message.received", 12)
            talk = endpoint.deliveries[-1].data["conversation"]["id"]
            endpoint.answer = lambda d: 503 if "webhook-replay" in d.headers and len(replayed(crm)) == 5 else 200
            asked = await crm.call("POST", "/v1/replays", {"conversation_id": talk})
            assert asked.status == 202
            await endpoint.wait(lambda _: len(replayed(crm)) == 5)
        endpoint.answer = lambda _: 200
        async with reopened(database_url, tmp_path) as second:
            crm.world = second
            done = await finished(crm, asked.json["id"])
        assert done["progress"] == {"events_delivered": 12, "failed": 0, "shards_left": 0}
        assert texts(replayed(crm)) == [f"{n:02d}" for n in range(12)]  # it was stopped in order: nothing comes twice
    finally:
        await endpoint.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three days of retries in no time."""
    monkeypatch.setattr(lanes, "DELIVERY_SCHEDULE", (0.01, 0.01))


class Poison:
    """An endpoint that refuses certain texts."""

    def __init__(self, service: Service) -> None:
        self.texts: set[str] = set()
        service.endpoint.answer = lambda d: 422 if d.data.get("message", {}).get("text") in self.texts else 200


@pytest.mark.usefixtures("quick")
async def test_g3_a_dead_letter_leaves_a_gap_and_comes_by_replay_or_is_dropped(hub_world: World) -> None:
    (crm,) = await hub_world.connected("crm")
    mia, bob, poison = hub_world.customer(MIA), hub_world.customer(BOB), Poison(crm)
    poison.texts = {"mia's poison", "bob's poison"}
    for customer, name in ((mia, "mia"), (bob, "bob")):
        await customer.says(f"{name}'s poison")
        await writes(customer, crm, text=f"{name} goes on")
    assert sorted(texts(live(crm))) == ["bob goes on", "mia goes on"]
    dead = await until(lambda: _some(crm, "dead", 2))
    assert [(item["attempts"], item["last_error"], item["holds_conversation"]) for item in dead] == [
        (3, "http_422", False)
    ] * 2
    assert await until(lambda: _none(crm, "parked"))
    refused = await until(lambda: _attempts(crm, "refused", 6))
    assert {item["event_id"] for item in refused} == {item["event_id"] for item in dead}

    failed = await replay(crm, failed=True)
    assert failed["progress"] == {"events_delivered": 0, "failed": 2, "shards_left": 0}
    assert len(await items(crm, "dead")) == 2
    poison.texts = {"bob's poison"}
    again = await replay(crm, failed=True)
    assert (again["progress"]["events_delivered"], again["progress"]["failed"]) == (1, 1)
    assert texts(replayed(crm)) == ["mia's poison"]
    (left,) = await until(lambda: _some(crm, "dead", 1))
    assert (await crm.call("DELETE", f"/v1/deliveries/dead/{left['event_id']}")).status == 204
    assert (await replay(crm, failed=True))["progress"]["events_delivered"] == 0
    await writes(bob, crm, text="bob again")


@pytest.mark.usefixtures("quick")
async def test_g3_a_held_conversation_waits_for_its_dead_letter(hub_world: World) -> None:
    (crm,) = await hub_world.connected("crm")
    await crm.connect(on_exhausted="hold")
    mia, bob, poison = hub_world.customer(MIA), hub_world.customer(BOB), Poison(crm)
    for way in ("replay", "drop"):
        poison.texts = {f"poison {way}"}
        await mia.says(f"poison {way}")
        (dead,) = await until(lambda: _some(crm, "dead", 1))
        assert dead["holds_conversation"]
        await mia.says(f"waits for the {way}")
        await writes(bob, crm, text=f"bob does not, at the {way}")
        (parked,) = await items(crm, "parked")
        assert (parked["held"], parked["next_attempt_at"]) == (True, None)
        assert parked["first_event_id"] == dead["event_id"]
        assert f"waits for the {way}" not in texts(crm.endpoint.deliveries)
        if way == "replay":
            poison.texts = set()
            await replay(crm, event_ids=[dead["event_id"]])
        else:
            assert (await crm.call("DELETE", "/v1/deliveries/dead")).json == {"dropped": 1}
        await crm.endpoint.wait(lambda _, way=way: f"waits for the {way}" in texts(crm.endpoint.deliveries))  # type: ignore[misc]
        assert await until(lambda: _none(crm, "dead"))
        assert await until(lambda: _none(crm, "parked"))
    own = [text for text in texts(crm.endpoint.deliveries) if "bob" not in text]
    assert sorted(set(own), key=own.index) == ["poison replay", "waits for the replay", "waits for the drop"]


@pytest.mark.usefixtures("quick")
async def test_g3_a_replay_waits_while_its_service_is_paused(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    talk = await writes(hub_world.customer(MIA), helpdesk, crm, text="Hello")
    crm.endpoint.deliveries.clear()
    await crm.call("POST", f"/v1/numbers/{NUMBER}/connection/pause")
    asked, cancelled = [(await crm.call("POST", "/v1/replays", {"conversation_id": talk})).json["id"] for _ in range(2)]
    assert (await crm.call("DELETE", f"/v1/replays/{cancelled}")).json["state"] == "cancelled"
    await writes(hub_world.customer(BOB), helpdesk, text="to the others")
    assert (await crm.call("GET", f"/v1/replays/{asked}")).json["state"] == "running"
    assert crm.endpoint.deliveries == []
    await crm.call("POST", f"/v1/numbers/{NUMBER}/connection/resume", {"mode": "skip"})
    assert (await finished(crm, asked))["progress"]["events_delivered"] == 1
    assert texts(replayed(crm)) == ["Hello"]
    await asyncio.gather(*(writes(hub_world.customer(person), crm, text="on") for person in (MIA, BOB)))
    assert texts(live(crm)) == ["on", "on"]


async def _some(service: Service, which: str, count: int) -> list[dict[str, Any]] | None:
    found = await items(service, which)
    return found if len(found) == count else None


async def _none(service: Service, which: str) -> bool:
    return not await items(service, which)


async def _attempts(service: Service, outcome: str, count: int) -> list[dict[str, Any]] | None:
    found = (await service.call("GET", f"/v1/deliveries?outcome={outcome}")).json["items"]
    return found if len(found) == count else None
