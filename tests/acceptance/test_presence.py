"""Looking and typing: told on live streams at once, and nowhere else (rule D1)."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.app import running
from hub.http import events
from tests.acceptance.test_feed import Frame, Live, live
from tests.acceptance.test_handling import keeps_house, picks_up, side
from tests.support.talk import MIA, leaves, writes
from tests.support.wire import ask, until
from tests.support.world import NUMBER, Answer, Service, World, settings_for


async def is_there(service: Service, conversation: str, agent: str, state: str) -> Answer:
    """An agent looks at a conversation, types, or has left it."""
    body = {"agent": {"id": f"agent-{agent}", "name": agent}, "state": state}
    answer = await service.call("POST", f"/v1/conversations/{conversation}/presence", body)
    assert answer.status == 200, answer
    return answer


async def presence(stream: Live) -> tuple[Frame, dict[str, Any]]:
    """The next frame that tells of somebody."""
    while True:
        frame = await stream.frame()
        if frame.event == "conversation.presence":
            return frame, json.loads(frame.data or b"")


def who(told: dict[str, Any]) -> tuple[Any, ...]:
    there = told["data"]["presence"]
    return there["service"]["name"], there["agent"], there["state"]


async def test_d1_presence_is_on_the_streams_of_the_channel_alone(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    await crm.connect(event_types=["message.received"])  # a filter for events; presence is none
    books = await hub_world.service("books", plan="standalone")
    await books.connect()
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm, books)
    async with AsyncExitStack() as stack:
        own, other, stranger = [await stack.enter_async_context(live(s)) for s in (helpdesk, crm, books)]
        cursor = other.cursor
        first = await is_there(helpdesk, conversation, "Ana", "viewing")
        assert (first.json["state"], first.json["presence"]) == ("viewing", [])
        for stream, agent in ((own, {"id": "agent-Ana", "name": "Ana"}), (other, {"name": "Ana"})):
            frame, told = await presence(stream)
            assert frame.id is None
            assert list(told) == ["type", "timestamp", "data"]
            assert told["type"] == "conversation.presence"
            assert told["data"]["conversation"] == {"id": conversation, "medium": "whatsapp"}
            assert told["data"]["channel_id"] == crm.connection["channel_id"]
            assert "event_id" not in told["data"]
            assert who(told) == ("helpdesk", agent, "viewing")
            assert told["data"]["presence"]["expires_at"] == first.json["expires_at"]
        for agent, state in (("Ana", "typing"), ("Ben", "viewing"), ("Ana", "left")):
            await is_there(helpdesk, conversation, agent, state)
            assert who((await presence(other))[1]) == ("helpdesk", {"name": agent}, state)
        answer = await is_there(crm, conversation, "Cem", "typing")
        (ben,) = answer.json["presence"]
        assert (ben["service"], ben["agent"], ben["state"]) == (side(helpdesk), {"name": "Ben"}, "viewing")
        (cem,) = (await is_there(helpdesk, conversation, "Ben", "viewing")).json["presence"]
        assert cem["agent"] == {"name": "Cem"}
        assert other.cursor == cursor
        # A stream that opens is told who is there; events go on, and so does the cursor.
        late = await stack.enter_async_context(live(crm))
        assert sorted([who((await presence(late))[1])[0] for _ in range(2)]) == ["crm", "helpdesk"]
        await hub_world.customer(MIA).says("Are you there?")
        assert (await late.event())["type"] == "message.received"
        assert late.cursor != cursor
        while (await stranger.event())["type"] != "message.received":
            raise AssertionError("presence crossed over to another channel")
    for service in (helpdesk, crm, books):
        pulled = (await service.call("GET", "/v1/events?limit=200")).json["items"]
        kinds = {event["type"] for event in pulled} | {d.type for d in service.endpoint.deliveries}
        assert "conversation.presence" not in kinds
    wanted = {"event_types": ["conversation.presence"]}
    refused = await crm.call("PUT", f"/v1/numbers/{NUMBER}/connection", wanted)
    assert refused.status == 422


async def test_d1_presence_is_over_after_its_lease(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    noted = await is_there(helpdesk, conversation, "Ana", "typing")
    lease = "select expires_at - since between interval '30 seconds' and interval '31 seconds' from presence"
    assert await ask(database_url, lease)
    assert (await is_there(crm, conversation, "Cem", "viewing")).json["presence"][0]["agent"] == {"name": "Ana"}
    await ask(database_url, "update presence set expires_at = now() where agent_id = 'agent-Ana'")
    assert (await is_there(crm, conversation, "Cem", "viewing")).json["presence"] == []
    async with live(crm) as stream:
        assert who((await presence(stream))[1]) == ("crm", {"id": "agent-Cem", "name": "Cem"}, "viewing")
        again = await is_there(helpdesk, conversation, "Ana", "typing")
        assert again.json["expires_at"] > noted.json["expires_at"]
        assert who((await presence(stream))[1]) == ("helpdesk", {"name": "Ana"}, "typing")
    await ask(
        database_url, "update presence set expires_at = now() - interval '2 minutes' where agent_id = 'agent-Ana'"
    )
    await keeps_house(database_url)
    assert await ask(database_url, "select array_agg(agent_id) from presence") == ["agent-Cem"]


async def test_a4_who_left_sees_nobody(hub_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where it left, and somebody came, while the watcher was looking."""
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    other = "+15550002222"
    assert (await crm.call("PUT", f"/v1/numbers/{other}/connection", {})).status == 200
    list_changes = events.presence.list_changes

    async def meanwhile(*args: Any) -> Any:
        monkeypatch.setattr(events.presence, "list_changes", list_changes)
        await leaves(crm)
        await is_there(helpdesk, conversation, "Ana", "typing")
        return await list_changes(*args)

    async with live(crm) as stream:
        await is_there(helpdesk, conversation, "Ben", "viewing")
        assert who((await presence(stream))[1]) == ("helpdesk", {"name": "Ben"}, "viewing")
        monkeypatch.setattr(events.presence, "list_changes", meanwhile)
        await is_there(helpdesk, conversation, "Ben", "viewing")
        await until(lambda: events.presence.list_changes is list_changes)
        await until(lambda: helpdesk.endpoint.of("service.disconnected"))
        await is_there(helpdesk, conversation, "Ana", "left")
        await leaves(crm, other)  # the stream ends with its last number
        await stream.ends()
    told = [json.loads(frame.data) for frame in stream.frames if frame.data and frame.event == "conversation.presence"]
    assert [who(frame)[1] for frame in told] == [{"name": "Ben"}]


async def test_d1_the_watcher_asks_for_presence_only_when_it_changed(
    hub_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    asked = looked = 0
    list_changes, look = events.presence.list_changes, events.Tail.look

    async def counted(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return await list_changes(*args)

    async def noticed(*args: Any) -> Any:
        nonlocal looked
        looked += 1
        return await look(*args)

    async def looks(count: int) -> None:
        target = looked + count
        while looked < target:
            await asyncio.sleep(events.TICK)

    monkeypatch.setattr(events.presence, "list_changes", counted)
    monkeypatch.setattr(events.Tail, "look", noticed)
    async with live(crm) as stream:
        await is_there(helpdesk, conversation, "Ana", "viewing")
        await presence(stream)
        await looks(3)
        before = asked
        await picks_up(helpdesk, conversation)
        assert (await stream.event())["type"] == "conversation.picked_up"
        await looks(3)
        assert asked == before


async def test_d1_presence_is_told_by_every_process(hub_world: World, database_url: str, tmp_path: Path) -> None:
    """The stream is open at one, the agent's backend talks to another."""
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    settings = settings_for(hub_world.simulator, database_url, tmp_path / "second", roles=("gateway",))
    async with running(settings) as second:
        elsewhere = World(second, hub_world.simulator, hub_world.session)
        async with live(crm) as stream:
            await is_there(replace(helpdesk, world=elsewhere), conversation, "Ana", "typing")
            assert who((await presence(stream))[1]) == ("helpdesk", {"name": "Ana"}, "typing")
