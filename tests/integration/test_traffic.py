"""What flowed is counted once each, whoever commits first and whoever was away, and read as each may see it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from hub.domain.ids import new_id
from hub.store import traffic, traffic_rollup
from hub.store.deliveries import Delivered, pack
from hub.store.traffic import Reach, find_reach, read_traffic
from tests.support.wire import connected

Conn = Any
AT = datetime.now(UTC).replace(second=20, microsecond=0) - timedelta(minutes=20)
SHOP, DESK = UUID(int=1), UUID(int=2)
SHARED, ALONE = UUID(int=11), UUID(int=12)
SETUP = """
insert into number (e164) values ('+4915100001'), ('+4915100002');
insert into service (id, name, plan, scopes)
    values ($SHOP, 'shop', 'bundle', '{read}'), ($DESK, 'desk', 'bundle', '{read}');
insert into channel (id, number_id, kind, owner_service_id)
    values ($SHARED, (select id from number where e164 = '+4915100001'), 'shared', null),
           ($ALONE, (select id from number where e164 = '+4915100001'), 'standalone', $DESK);
insert into subscription (id, channel_id, service_id) values ($SHOP, $SHARED, $SHOP), ($DESK, $ALONE, $DESK);
update traffic_mark set positions = array_fill(0, array[64]);
"""


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Conn]:
    async with connected(database_url) as made:
        sql = SETUP
        for name, key in (("SHOP", SHOP), ("DESK", DESK), ("SHARED", SHARED), ("ALONE", ALONE)):
            sql = sql.replace(f"${name}", f"'{key}'")
        await made.execute(sql)
        yield made


async def log(conn: Conn, event_id: int, shard: int, kind: str, channel: UUID = SHARED, **more: Any) -> None:
    """An event of a message, as the log has it; `direction`, `send_at` and `created_at` are its message's."""
    message = new_id()
    said = {name: more.get(name) for name in ("status", "status_times", "provider_id")}
    direction = more.get("direction", "inbound" if kind == "message.received" else "outbound")
    await conn.execute(
        "insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin,"
        " content, provider, status, created_at, send_at)"
        " values ($1, 1, $2, $1, 1, $3, 'sms', 'text', $4, '{}', 'twilio', $5, $6, $7)",
        message, channel, direction, "customer" if direction == "inbound" else "echo",
        None if direction == "inbound" else "sent", more.get("created_at", AT), more.get("send_at"),
    )  # fmt: skip
    await conn.execute(
        "insert into event (id, shard, prev_id, type, channel_id, message_id, author_service_id, data, created_at)"
        " values ($1, $2, 0, $3, $4, $5, $6, $7, $8)",
        event_id, shard, kind, channel, message, more.get("by"), orjson.dumps({"message": said}).decode(),
        more.get("at", AT),
    )  # fmt: skip


async def flush(conn: Conn, key: int, *deliveries: Delivered) -> None:
    await conn.execute(
        "insert into delivered (id, owner, at, entries) overriding system value values ($1, 1, $2, $3)",
        key, AT, pack(deliveries),
    )  # fmt: skip


async def count_all(conn: Conn) -> None:
    for count in (traffic_rollup.count_events, traffic_rollup.count_deliveries, traffic_rollup.count_attempts):
        while True:
            async with conn.transaction():
                if not await count(conn):
                    break


async def read(conn: Conn, reach: Reach | None = None, step: int = 60, **more: Any) -> list[traffic.Flow]:
    reach = reach or await find_reach(conn, None)
    return await read_traffic(conn, reach, AT - timedelta(days=2), AT + timedelta(days=1), step, **more)


async def total(conn: Conn, name: str) -> int:
    return sum(getattr(flow, name) for flow in await read(conn))


async def test_an_event_that_commits_after_a_higher_id_of_another_shard_is_counted(
    conn: Conn, database_url: str
) -> None:
    """Ids are drawn under a shard's lock: two shards' transactions commit in any order."""
    async with connected(database_url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await log(slow, 5, 1, "message.received")
        await log(conn, 9, 2, "message.received")
        await count_all(conn)
        assert await total(conn, "received") == 1
        await transaction.commit()
    await count_all(conn)
    await count_all(conn)
    assert await total(conn, "received") == 2


async def test_a_flush_or_an_attempt_that_commits_after_a_later_one_is_counted(conn: Conn, database_url: str) -> None:
    """Several dispatchers write: who draws an id first need not commit first."""
    one = Delivered(SHOP, 0, 1, 200, 40)
    failed = (
        "insert into attempt (subscription_id, shard, event_id, at, outcome, duration_ms)"
        " values ($1, 0, 1, $2, 'failed', 5)"
    )
    async with connected(database_url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await flush(slow, 1, one, Delivered(SHOP, 0, 2, 200, 60))
        await slow.execute(failed, SHOP, AT)
        await flush(conn, 2, one)
        await conn.execute(failed, SHOP, AT)
        await count_all(conn)
        assert (await total(conn, "webhooks"), await total(conn, "retries")) == (1, 1)
        await transaction.commit()
    for _ in range(2):
        await count_all(conn)
    assert (await total(conn, "webhooks"), await total(conn, "retries")) == (3, 2)
    (flow,) = await read(conn)
    assert flow.answer == pytest.approx(0.0466, abs=0.001)
    assert await conn.fetchval("select count(*) from traffic_gap") == 0


async def test_a_gap_that_no_transaction_can_fill_any_more_is_given_up(conn: Conn) -> None:
    await flush(conn, 1, Delivered(SHOP, 0, 1, 200, 40))
    await flush(conn, 4, Delivered(SHOP, 0, 1, 200, 40))
    await count_all(conn)
    assert await conn.fetchval("select array_agg(id order by id) from traffic_gap") == [2, 3]
    await conn.execute("update traffic_gap set seen_at = now() - interval '11 minutes'")
    await count_all(conn)
    assert await conn.fetchval("select count(*) from traffic_gap") == 0
    assert await total(conn, "webhooks") == 2


async def test_what_became_of_messages_is_counted_once_in_whatever_order_it_was_told(conn: Conn) -> None:
    told: list[tuple[str, dict[str, Any]]] = [
        ("message.received", {}),
        ("message.received", {"direction": "outbound"}),  # an echo is nothing a customer said
        ("message.queued", {"by": SHOP}),
        ("message.status", {"by": SHOP, "status": "sending"}),
        ("message.status", {"by": SHOP, "status": "sent", "provider_id": "w", "created_at": AT - timedelta(seconds=2)}),
        ("message.status", {"by": SHOP, "status": "sent", "send_at": AT, "created_at": AT - timedelta(days=1)}),
        ("message.status", {"by": SHOP, "status": "delivered", "status_times": {"sent": "x"}}),
        ("message.status", {"by": SHOP, "status": "read", "status_times": {"sent": "x", "delivered": "x"}}),
        ("message.status", {"by": SHOP, "status": "read", "status_times": {"sent": "x"}}),  # no word of its delivery
        ("message.status", {"by": SHOP, "status": "failed", "provider_id": "w"}),
        ("message.status", {"by": SHOP, "status": "failed"}),
        ("consent.changed", {}),
    ]
    for n, (kind, more) in enumerate(told):
        await log(conn, n + 1, 7, kind, **more)
    await conn.execute(
        "insert into event (id, shard, prev_id, type, data, created_at) values (99, 7, 0, 'x', '{}', now())"
    )
    await count_all(conn)
    numbers = "received accepted taken delivered failed refused"
    (flow,) = await read(conn)
    assert {name: getattr(flow, name) for name in numbers.split()} == {
        "received": 1, "accepted": 1, "taken": 2, "delivered": 2, "failed": 1, "refused": 1,
    }  # fmt: skip
    assert 1 < (flow.take_p50 or 0) <= 2.5  # of the one that was not for later
    assert {f.service_id for f in await read(conn, by_service=True)} == {None, SHOP}


async def test_work_is_bounded_and_goes_on_where_it_stopped(conn: Conn) -> None:
    for n in range(1, 8):
        await log(conn, n, n % 2, "message.received", at=AT + timedelta(minutes=n % 3))
    seen = []
    while True:
        async with conn.transaction():
            seen.append(await traffic_rollup.count_events(conn, 2))
        if not seen[-1]:
            break
    assert seen == [4, 3, 0]
    assert [flow.received for flow in await read(conn)] == [2, 3, 2]
    assert sum(flow.received for flow in await read(conn, step=3600)) == 7
    transaction = conn.transaction()
    await transaction.start()
    await log(conn, 20, 3, "message.received")
    await traffic_rollup.count_events(conn)
    await transaction.rollback()
    await log(conn, 20, 3, "message.received")
    await count_all(conn)
    assert await total(conn, "received") == 8


async def test_lag_is_of_live_deliveries_and_a_replay_says_nothing_of_it(conn: Conn) -> None:
    await log(conn, 3, 0, "message.received", at=AT - timedelta(seconds=3))
    await log(conn, 1, 0, "message.received", at=AT - timedelta(days=1))
    replay = "insert into replay (id, subscription_id, asked_by, selection, created_at) values ($1, $1, 'x', 'x', $2)"
    await conn.execute(replay, SHOP, AT - timedelta(seconds=10))
    await conn.execute(
        "insert into replay_shard (replay_id, shard, position, upto, finished_at) values ($1, 0, 1, 2, $2)", SHOP, AT
    )
    await flush(
        conn, 1, Delivered(SHOP, 0, 3, 200, 40), Delivered(SHOP, 0, 1, 200, 40), Delivered(SHOP, 0, 777, 200, 40)
    )
    await count_all(conn)
    flow = next(flow for flow in await read(conn) if flow.webhooks)
    assert flow.webhooks == 3
    assert 2.5 < (flow.lag_p95 or 0) <= 5


async def test_everybody_reads_what_they_may_see(conn: Conn) -> None:
    """A standalone channel's traffic is its service's; nobody is told of another's deliveries (rules A3, C1)."""
    for n, channel in enumerate((SHARED, ALONE)):
        await log(conn, n + 1, n, "message.received", channel)
    await log(conn, 10, 5, "message.queued", SHARED, by=SHOP)
    await log(conn, 11, 6, "message.queued", ALONE, by=DESK)
    await flush(conn, 1, Delivered(SHOP, 0, 1, 200, 40), Delivered(DESK, 0, 1, 200, 40))
    await count_all(conn)
    (whole,) = await read(conn)
    assert (whole.received, whole.accepted, whole.webhooks) == (1, 2, 2)  # one message, though each channel has it
    (own,) = await read(conn, await find_reach(conn, DESK))
    assert (own.received, own.accepted, own.webhooks) == (1, 1, 1)
    await conn.execute(
        "insert into subscription (id, channel_id, service_id) values ($1, $2, $3)", new_id(), SHARED, DESK
    )
    (both,) = await read(conn, await find_reach(conn, DESK))
    assert (both.received, both.accepted, both.webhooks) == (1, 2, 1)
    (shop,) = await read(conn, of_service=SHOP)
    assert (shop.received, shop.accepted, shop.webhooks) == (1, 1, 1)
    split = await read(conn, by_number=True, by_service=True)
    assert {(f.service_id, f.received, f.accepted, f.webhooks) for f in split} == {
        (None, 1, 0, 0), (SHOP, 0, 1, 1), (DESK, 0, 1, 1),
    }  # fmt: skip
    assert len({f.number_id for f in split}) == 1


async def test_old_rows_go_by_their_size_and_reading_and_counting_use_indexes(conn: Conn) -> None:
    await conn.execute(
        "insert into traffic (step, at, channel_id, service_id, received)"
        " select s, now() - make_interval(secs => s * n), c.id, $1, 1"
        " from unnest(array[60, 600, 3600]) s, channel c, generate_series(1, 3000) n",
        traffic.NOBODY,
    )
    await conn.execute(
        "insert into event (id, shard, prev_id, type, data, created_at)"
        " select n, n % 64, 0, 'x', '{}', now() from generate_series(1, 20000) n"
    )
    await conn.execute("analyze")
    since = AT - timedelta(hours=3)
    asked: list[tuple[str, tuple[Any, ...]]] = [
        (traffic.READ_FLOW_SQL, ([SHARED], 60, since, AT, None, None, False, False)),
        (traffic.READ_FLOW_SQL, ([SHARED, ALONE], 600, since, AT, SHOP, SHOP, True, True)),
        (traffic.READ_RECEIVED_SQL, ([SHARED, ALONE], 600, since, AT, True)),
        (traffic_rollup.PRUNE_SQL, (60, timedelta(days=2), 100)),
        (traffic_rollup.COUNT_EVENTS_SQL, ([19_990] * 64, 400)),
    ]
    for sql, args in asked:
        plan = [row[0] for row in await conn.fetch(f"explain {sql}", *args)]
        walked = [line for line in plan if "Seq Scan on traffic" in line or "Seq Scan on event" in line]
        walked = [line for line in walked if "(cost=0.00..0.00" not in line]  # a partition without anything
        assert not walked, "\n".join(plan)
    before = await conn.fetchval("select count(*) from traffic where step = 60")
    while await traffic_rollup.prune_traffic(conn) == traffic_rollup.PRUNE_BATCH:
        pass
    left = dict(await conn.fetch("select step, count(*) from traffic group by 1"))
    assert before == 6000
    assert left[60] == 2 * 2879
    assert left[600] == 2 * 2015
    assert left[3600] == 2 * 3000


async def test_it_begins_with_the_last_day(conn: Conn) -> None:
    await conn.execute("update traffic_mark set positions = null")
    await log(conn, 1, 0, "message.received", at=AT - timedelta(days=3))
    await log(conn, 2, 1, "message.received", at=AT)
    await conn.execute("select setval('event_id_seq', 2)")
    await count_all(conn)
    assert await total(conn, "received") == 1
