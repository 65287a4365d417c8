"""Several dispatchers, failing endpoints, failing conversations: over HTTP, with real signatures (G2, G3, A5)."""

import asyncio
import base64
import os
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from hub.app import running
from hub.domain import breaker
from hub.fanout import dispatcher, lanes
from tests.support.subscriber import Delivery, Subscriber
from tests.support.wire import Wire, ask, envelope, text, until, value
from tests.support.world import NUMBER, World, settings_for, world

KEYS = (SecretStr(base64.b64encode(os.urandom(32)).decode()),)


async def write(made: World, customer: int, *words: str) -> None:
    """Messages of one customer, one after the other."""
    for word in words:
        body = envelope(value([text(word, f"4915100000{customer:03d}")]))
        assert (await Wire(made).meta(body)).status == 200


def words(endpoint: Subscriber) -> list[str]:
    """What arrived, without repeats, in order."""
    return list(dict.fromkeys(d.data["message"]["text"] for d in endpoint.of("message.received")))


def assert_in_order(endpoint: Subscriber) -> None:
    """First arrivals count up within each conversation."""
    heard: dict[str, list[int]] = defaultdict(list)
    seen: set[str] = set()
    for delivery in endpoint.of("message.received"):
        if delivery.id not in seen:
            seen.add(delivery.id)
            heard[delivery.data["conversation"]["id"]].append(delivery.data["conversation"]["sequence"])
    for sequences in heard.values():
        assert sequences == sorted(sequences)


async def test_g2_several_dispatchers_share_the_shards_and_hand_them_over(database_url: str, tmp_path: Path) -> None:
    """One more comes, and goes, in the middle of it: nothing is lost, doubled or out of order."""
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(world(database_url, tmp_path / "1", secret_keys=KEYS))
        (service,) = await made.connected("helpdesk")
        other = settings_for(made.simulator, database_url, tmp_path / "2", secret_keys=KEYS, roles=("fanout",))
        sent = [asyncio.create_task(write(made, n, *(f"{n}/{i}" for i in range(30)))) for n in range(12)]
        async with running(other):
            await until(lambda: shares(database_url, 32, 32), 10)
            await until(lambda: len(words(service.endpoint)) > 200, 20)
        await asyncio.gather(*sent)
        await service.endpoint.wait(lambda me: len(words(me)) == 360, 20)
        assert_in_order(service.endpoint)
        assert len(service.endpoint.of("message.received")) == 360
        await until(lambda: shares(database_url, 64), 10)


async def shares(database_url: str, *wanted: int) -> bool:
    counts = "select count(*)::int n from shard_lease where owner is not null group by owner"
    return bool(await ask(database_url, f"select array_agg(n order by n) from ({counts}) x") == list(wanted))


async def state_of(made: World, service: Any) -> dict[str, Any]:
    answer = await service.call("GET", f"/v1/numbers/{NUMBER}")
    delivery: dict[str, Any] = answer.json["delivery"]
    return delivery


async def test_g3_a_dead_endpoint_opens_the_breaker_uses_no_attempt_and_gets_everything_in_order(
    hub_world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE", 0.1)
    well, ill = await hub_world.connected("helpdesk", "crm")
    status = 503
    tried: list[str] = []

    def answer(delivery: Delivery) -> int:
        tried.append(delivery.id)
        return status

    ill.endpoint.answer = answer
    for n in range(3):
        for customer in range(8):
            await write(hub_world, customer, f"{customer}/{n}")
    await well.endpoint.wait(lambda me: len(words(me)) == 24)

    async def is_open() -> bool:
        return (await state_of(hub_world, ill))["breaker"] in {"open", "half_open"}

    async def is_noted() -> bool:
        return bool((await state_of(hub_world, ill))["attempts"]["failed"] > 0)

    await until(is_open, 5)
    await until(is_noted, 5)  # attempts are written soon after
    state = await state_of(hub_world, ill)
    assert state["parked_lanes"] == 0
    assert state["lag"]["events"] >= 24
    assert state["attempts"]["delivered"] == 0
    assert await ask(database_url, "select count(*) from dead_letter") == 0
    assert len(tried) < 24 * 8, "an open breaker lets one through at a time"
    status = 200
    await ill.endpoint.wait(lambda me: len(words(me)) == 24)
    assert_in_order(ill.endpoint)
    metrics = await hub_world.call("GET", "/metrics")
    assert b'partyline_delivery_attempts_total{outcome="failed"' in metrics.json
    assert b"partyline_subscription_lag_events" in metrics.json


async def test_g2_a_refused_conversation_is_parked_over_a_restart_and_goes_on_in_order(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 4xx speaks against the conversation: the others go on, and the schedule survives the process."""
    monkeypatch.setattr(lanes, "DELIVERY_SCHEDULE", (0.2, 0.4, 0.4, 0.4, 600.0))
    is_poisoned = True

    def answer(delivery: Delivery) -> int:
        text = delivery.data.get("message", {}).get("text", "")
        return 422 if is_poisoned and text.startswith("7/") else 200

    async with world(database_url, tmp_path, secret_keys=KEYS) as made:
        (service,) = await made.connected("helpdesk")
        service.endpoint.answer = answer
        await write(made, 7, "7/0", "7/1", "7/2")
        await write(made, 1, "1/0", "1/1")
        await service.endpoint.wait(lambda me: set(words(me)) >= {"1/0", "1/1"})
        await until(lambda: has_rows(database_url, "select count(*) from parked_lane where attempts >= 2"), 10)
        endpoint = service.endpoint
        async with running(settings_for(made.simulator, database_url, tmp_path / "next", secret_keys=KEYS)) as hub:
            # The first hub is still there and gives half of its shards away: the schedule goes with them.
            assert hub.url
            await write(made, 7, "7/3")
            await write(made, 2, "2/0")
            await endpoint.wait(lambda me: "2/0" in words(me))
            assert not any(word.startswith("7/") for word in words(endpoint))
            is_poisoned = False
            await endpoint.wait(lambda me: len(words(me)) == 7, 15)
        assert [word for word in words(endpoint) if word.startswith("7/")] == ["7/0", "7/1", "7/2", "7/3"]
        await until(lambda: has_no_rows(database_url, "select count(*) from parked_lane"), 10)
        await write(made, 7, "7/4")
        await endpoint.wait(lambda me: "7/4" in words(me))


async def has_rows(database_url: str, sql: str) -> bool:
    return bool(await ask(database_url, sql))


async def has_no_rows(database_url: str, sql: str) -> bool:
    return not await ask(database_url, sql)


async def test_g3_given_up_conversations_go_on_with_a_gap_or_are_held(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "DELIVERY_SCHEDULE", (0.05, 0.05))
    async with world(database_url, tmp_path) as made:
        goes_on, holds = await made.service("goes on"), await made.service("holds")
        await goes_on.connect()
        await holds.connect(on_exhausted="hold")
        for service in (goes_on, holds):
            service.endpoint.answer = lambda d: 400 if d.data.get("message", {}).get("text") == "bad" else 200
        await write(made, 1, "before", "bad", "after")
        await goes_on.endpoint.wait(lambda me: "after" in words(me))
        await until(lambda: has_rows(database_url, "select count(*) = 2 from dead_letter"), 10)
        assert words(goes_on.endpoint) == ["before", "after"]
        assert words(holds.endpoint) == ["before"]
        sequences = [d.data["conversation"]["sequence"] for d in goes_on.endpoint.of("message.received")]
        assert sequences == [1, 3], "the gap is visible"
        dead = (await holds.call("GET", "/v1/deliveries/dead")).json["items"]
        assert [letter["type"] for letter in dead] == ["message.received"]
        assert (await holds.call("DELETE", f"/v1/deliveries/dead/{dead[0]['event_id']}")).status in {200, 204}
        await holds.endpoint.wait(lambda me: words(me) == ["before", "after"])


async def test_g3_the_same_refusal_everywhere_speaks_against_the_endpoint(
    hub_world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong path or secret: all conversations get a 401. Nobody's attempts are used up, nothing is given up."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(lanes, "DELIVERY_SCHEDULE", (30.0, 60.0))
    (service,) = await hub_world.connected("helpdesk")
    is_locked = True
    service.endpoint.answer = lambda _: 401 if is_locked else 200
    for customer in range(15):
        await write(hub_world, customer, f"{customer}/0", f"{customer}/1")

    async def is_open() -> bool:
        return (await state_of(hub_world, service))["breaker"] in {"open", "half_open"}

    await until(is_open, 10)
    is_locked = False
    await service.endpoint.wait(lambda me: len(words(me)) == 30, 20)
    assert_in_order(service.endpoint)
    assert await ask(database_url, "select count(*) from dead_letter") == 0


async def test_g3_who_asks_for_time_is_given_it(hub_world: World) -> None:
    """429 and Retry-After: nothing is tried before."""
    (service,) = await hub_world.connected("helpdesk")
    endpoint = service.endpoint
    await endpoint.wait(lambda me: bool(me.of("channel.parent_changed")))
    endpoint.headers = {"Retry-After": "1"}
    tried: list[float] = []
    loop = asyncio.get_running_loop()

    def answer(_: Delivery) -> int:
        tried.append(loop.time())
        return 429 if len(tried) == 1 else 200

    endpoint.answer = answer
    await write(hub_world, 1, "1/0")
    await until(lambda: bool(tried), 5)
    for customer in range(2, 6):
        await write(hub_world, customer, f"{customer}/0")
    await endpoint.wait(lambda me: len(words(me)) == 5, 10)
    assert tried[1] - tried[0] >= 1.0


async def test_a5_an_endpoint_that_is_gone_pauses_its_service_and_nothing_else(
    hub_world: World, database_url: str
) -> None:
    """410: nothing more is posted; rank and parenthood stay; resumed, it gets what it missed."""
    parent, other = await hub_world.connected("helpdesk", "crm")
    await write(hub_world, 1, "first")
    await parent.endpoint.wait(lambda me: words(me) == ["first"])
    parent.endpoint.answer = lambda _: 410
    await write(hub_world, 1, "second")
    await other.endpoint.wait(lambda me: bool(me.of("service.paused")))
    told = other.endpoint.of("service.paused")[0].data
    assert (told["service"]["id"], told["reason"]) == (parent.id, "gone")
    await write(hub_world, 1, "third")
    await other.endpoint.wait(lambda me: words(me) == ["first", "second", "third"])
    number = (await other.call("GET", f"/v1/numbers/{NUMBER}")).json
    assert number["parent"]["service_id"] == parent.id
    parent.endpoint.answer = lambda _: 200
    assert words(parent.endpoint) == ["first"]
    answer = await parent.call("POST", f"/v1/numbers/{NUMBER}/connection/resume", {"mode": "continue"})
    assert answer.status == 200, answer
    await parent.endpoint.wait(lambda me: words(me) == ["first", "second", "third"])
    assert_in_order(parent.endpoint)


async def test_g3_days_of_nothing_but_failures_pause_a_service(
    hub_world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "FAILING", 0.3)
    monkeypatch.setattr(dispatcher, "SHOW", 0.1)
    well, ill = await hub_world.connected("helpdesk", "crm")
    ill.endpoint.answer = lambda _: 500
    for customer in range(5):
        await write(hub_world, customer, f"{customer}/0")
    await well.endpoint.wait(lambda me: bool(me.of("service.paused")), 15)
    assert well.endpoint.of("service.paused")[0].data["reason"] == "failing"
    assert await ask(database_url, "select count(*) from dead_letter") == 0
    ill.endpoint.answer = lambda _: 200
    answer = await ill.call("POST", f"/v1/numbers/{NUMBER}/connection/resume", {"mode": "skip"})
    assert answer.status == 200, answer
    await write(hub_world, 1, "new")
    await ill.endpoint.wait(lambda me: "new" in words(me))
    assert words(ill.endpoint) == ["new"]


async def test_g2_large_slow_and_broken_answers_harm_nobody_else(hub_world: World) -> None:
    """An answer of 10 MB counts by its status; nobody waits for it."""
    big, other = await hub_world.connected("helpdesk", "crm")
    big.endpoint.body = b"x" * 10_000_000
    for n in range(5):
        await write(hub_world, 1, f"1/{n}")
    for service in (big, other):
        await service.endpoint.wait(lambda me: words(me) == [f"1/{n}" for n in range(5)], 15)
