"""Partitions of 500 events rolled and dropped seconds later, under a hub of three processes (H6): who is delivered to
misses nothing, who was paused for too long is told what it missed, and goes on behind it.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from rich.console import Console
from structlog.testing import capture_logs

from hub.domain.ids import event_id
from hub.store import retention
from hub.store.pool import Database
from hub.workers import janitor
from tests.soak.trial import trial
from tests.support.wire import ask, connected, until
from tests.support.world import NUMBER, Service

pytestmark = pytest.mark.soak

SIZE = 500
RATE = 150.0
"""Messages a second: a partition every three seconds."""
AGE = 5.0
"""Seconds events are kept, and longer where somebody needs them: cursors may be written fifteen seconds late."""


async def change(service: Service, verb: str) -> None:
    """Pause it, or resume it."""
    answer = await service.call("POST", f"/v1/numbers/{NUMBER}/connection/{verb}", {} if verb == "resume" else None)
    assert answer.status == 200, answer


def number(key: str) -> int:
    """An event's place in the log."""
    return int(key.removeprefix("evt_"), 16)


def messages(service: Service) -> dict[str, str]:
    """What customers wrote, by event."""
    return {d.id: d.data["message"]["text"] for d in service.endpoint.of("message.received")}


def assert_in_order(service: Service) -> None:
    """Gaps there may be, nothing comes after what follows it."""
    heard: dict[str, list[int]] = defaultdict(list)
    for delivery in service.endpoint.of("message.received"):
        conversation = delivery.data["conversation"]
        if conversation["sequence"] not in heard[conversation["id"]]:
            heard[conversation["id"]].append(conversation["sequence"])
    assert all(sequences == sorted(sequences) for sequences in heard.values())


@asynccontextmanager
async def keeping_house(database_url: str) -> AsyncIterator[None]:
    """A janitor in the place of the hub's: from the start, in small partitions, and all the time."""
    async with connected(database_url) as conn:
        await conn.execute("drop table event_0, event_1")
        await conn.execute("select make_partitions($1, 7, $1)", SIZE)
    database = Database(lambda: {"dsn": database_url})
    await database.open()
    days = AGE / 86_400
    keeper = janitor.Janitor(database, inbound_key_days=30, event_retention_days=days, attempt_retention_days=1)
    keeping = asyncio.create_task(keeper.run())
    try:
        owner = "select count(*) > 0 from pg_locks where locktype = 'advisory' and classid = 7003 and objid = 3"
        await until(lambda: ask(database_url, owner))
        yield
        assert not keeping.done()
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        await database.close()


async def test_h6_partitions_roll_and_drop_under_a_hub_at_work(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SMALLEST", SIZE)
    monkeypatch.setattr(retention, "BIGGEST", SIZE)
    monkeypatch.setattr(janitor, "INTERVAL", 0.25)
    dropped = janitor.DROPPED.labels("event")._value
    before = dropped.get()
    async with keeping_house(database_url), trial(database_url, tmp_path, dispatchers=2) as made:
        helpdesk, crm = await made.world.connected("helpdesk", "crm")
        with capture_logs() as logs:
            posting = asyncio.create_task(made.load(70, RATE))
            await asyncio.sleep(5)
            await change(crm, "pause")
            await asyncio.sleep(40)
            await change(crm, "resume")
            await posting
        (await made.account(f"partitions of {SIZE}, dropped when {AGE:g} s old", [helpdesk])).assert_whole()
        told = (await crm.endpoint.hears("subscription.expired"))[-1].data
        after, upto = number(told["after_event_id"]), number(told["upto_event_id"])
        reachable = {key for key in messages(helpdesk) if not after < number(key) <= upto}
        with suppress(TimeoutError):
            await crm.endpoint.wait(lambda _: reachable <= messages(crm).keys(), 60)
    missed = messages(helpdesk).keys() - messages(crm).keys()
    put_off = sum(entry["event"] == "janitor.chore_failed" for entry in logs)
    Console(width=150).print(
        f"{dropped.get() - before:.0f} partitions of {SIZE} dropped, {put_off} times put off; the paused service "
        f"missed {len(missed):,} messages between {event_id(after)} and {event_id(upto)}, and was told so"
    )
    assert dropped.get() - before >= 10
    assert missed
    assert all(after < number(key) <= upto for key in missed)
    assert not helpdesk.endpoint.of("subscription.expired")
    assert messages(crm).items() <= messages(helpdesk).items()
    assert_in_order(crm)
