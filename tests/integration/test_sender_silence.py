"""Silence is noticed from what is stored: by the hour against what is usual, and by messages without a status."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson

from hub.actions.sender_health import note_reported
from hub.domain.events import Event
from hub.store import sender_traffic
from hub.store.pool import Connection, Database
from hub.workers.health import HealthChecks
from providers.base import Customer, SenderRef, StatusReported
from tests.support.wire import connected

HOUR = timedelta(hours=1)
ROSTER = """
with n as (insert into number (e164) values ('+15550001111') returning id),
     s as (insert into sender (number_id, medium, provider, external_id, created_at)
           select id, m, p, e, now() - interval '30 days'
           from n, (values ('whatsapp', 'meta', '1001'), ('sms', 'twilio', '+15550001111')) as w (m, p, e)
           returning id)
insert into channel (id, number_id, kind) select $1, id, 'shared' from n"""
ADD = """
insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin, content,
                     provider, provider_id, status, created_at, reconciled)
values ($1, (select id from number), $2, $2, $3, $4, 'whatsapp', 'text', $5, '{}', 'meta', $6, $7, $8, $9)"""


class Talk:
    """Messages as they lie in the database."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._channel = uuid4()
        self._count = 0

    async def begin(self) -> None:
        await self._conn.execute(ROSTER, self._channel)

    async def add(self, at: datetime, direction: str = "inbound", *, reconciled: bool = False) -> UUID:
        self._count += 1
        made = UUID(int=int(at.timestamp() * 1000) << 80 | uuid4().int & ((1 << 80) - 1))
        is_ours = direction == "outbound"
        said = ("chatbot", f"wamid.{self._count}", "sent") if is_ours else ("customer", f"wamid.{self._count}", None)
        place = self._channel, self._count, direction
        await self._conn.execute(ADD, made, *place, *said, at, reconciled)
        if is_ours:
            await self.report(made, "sent", at, None)
        return made

    async def report(self, message: UUID, word: str, at: datetime, provider_time: datetime | None) -> None:
        values = message, word, at, provider_time
        await self._conn.execute("insert into message_status values ($1, $2, $2, $3, $4)", *values)

    async def usual(self, last: datetime, days: int, per_hour: int) -> None:
        await self._conn.execute(
            """insert into sender_traffic
               select s.id, h, $3, 0, 0 from sender s, generate_series($1, $2, interval '1 hour') h
               where s.medium = 'whatsapp'""",
            *(last - timedelta(days=days), last, per_hour),
        )


def problems(event: Event) -> tuple[str, list[str]]:
    """What an event tells."""
    data: dict[str, Any] = orjson.loads(event.data)
    return data["health"]["state"], [p["detail"] for p in data["health"]["problems"]]


async def test_silence_comes_and_goes(database_url: str) -> None:
    database = Database(lambda: {"dsn": database_url})
    told: list[Event] = []
    await database.open()
    try:
        async with connected(database_url) as conn:
            checks = HealthChecks(database, {}, told.extend, interval=600)
            talk, now = Talk(conn), datetime.now(UTC)
            hour = now.replace(minute=0, second=0, microsecond=0)
            await talk.begin()
            await talk.usual(hour - 2 * HOUR, 5, 20)
            await talk.add(hour - HOUR, reconciled=True)  # it came, but by no callback
            await checks.look()
            ((state, (detail,)),) = map(problems, told)
            assert state == "degraded"
            assert detail.startswith(f"No messages of customers since {hour - HOUR:%Y-%m-%d %H:%M} UTC, where about 20")
            await checks.look()
            assert len(told) == 1
            await talk.add(datetime.now(UTC))
            await checks.look()
            assert [problems(event) for event in told[1:]] == [("ok", [])]

            sent = [await talk.add(now - timedelta(minutes=m), "outbound") for m in (14, 20, 21, 22, 23)]
            await checks.look()
            assert len(told) == 2  # four of them should have a status by now
            sent.append(await talk.add(now - timedelta(minutes=24), "outbound"))
            await checks.look()
            state, (detail,) = problems(told[2])
            assert detail.startswith(f"No status callbacks since {now - timedelta(minutes=24):%Y-%m-%d %H:%M} UTC")
            assert "the provider took 5 messages" in detail
            await talk.report(sent[0], "delivered", now, now)
            await checks.look()
            assert [problems(event) for event in told[3:]] == [("ok", [])]
            counted = await conn.fetch("select hour, inbound from sender_traffic where hour >= $1", hour - HOUR)
            assert [tuple(row) for row in counted] == [(hour - HOUR, 0)] * len(counted)
    finally:
        await database.close()


async def test_only_a_range_of_ids_is_read_and_hours_of_absence_are_no_silence(database_url: str) -> None:
    database = Database(lambda: {"dsn": database_url})
    told: list[Event] = []
    await database.open()
    try:
        async with connected(database_url) as conn:
            talk, now = Talk(conn), datetime.now(UTC)
            hour = now.replace(minute=0, second=0, microsecond=0)
            await talk.begin()
            await talk.usual(hour - 5 * HOUR, 5, 20)
            await HealthChecks(database, {}, told.extend, interval=600).look()
            assert not told
            missing = await conn.fetch("select distinct inbound from sender_traffic where hour > $1", hour - 5 * HOUR)
            assert [row["inbound"] for row in missing] == [None]

            await talk.add(now)
            await conn.execute(
                """insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type,
                                        origin, content, provider)
                   select lpad(x::text, 32, '0')::uuid, 1, gen_random_uuid(), gen_random_uuid(), 1, 'inbound', 'sms',
                          'text', 'customer', '{}', 'twilio' from generate_series(1, 3000) x"""
            )
            await conn.execute("insert into message_status select id, 'sent' from message where sequence = 1")
            await conn.execute("analyze")
            least = UUID(int=int((now - HOUR).timestamp() * 1000) << 80), UUID(int=int(now.timestamp() * 1000) << 80)
            for sql, args in (
                (sender_traffic.COUNT_HOURS_SQL, (*least, hour, hour)),
                (sender_traffic.FIND_LATELY_SQL, (least[0], now, hour)),
            ):
                plan = "\n".join(row[0] for row in await conn.fetch(f"explain {sql}", *args))
                assert "Seq Scan on message" not in plan, plan
    finally:
        await database.close()


async def test_a_status_may_tell_of_the_sender(database_url: str) -> None:
    now = datetime.now(UTC)
    ref = SenderRef("meta", "whatsapp", ("1001",))

    def report(code: str, provider_code: str, age: float = 0) -> StatusReported:
        error = {"code": code, "title": None, "detail": None, "provider_code": provider_code}
        at = now.timestamp() - age
        return StatusReported("k", ref, Customer(), "wamid.1", None, "failed", "failed", at, errors=(error,))

    async with connected(database_url) as conn:
        await Talk(conn).begin()
        sender_id = await conn.fetchval("select id from sender where provider = 'meta'")
        silent = [report("undeliverable", "131026"), report("payment_required", "131042", age=3600)]
        assert await note_reported(conn, [(sender_id, item) for item in silent], now) == []
        assert await conn.fetchval("select count(*) from sender_health") == 0
        (draft,) = await note_reported(conn, [(sender_id, report("payment_required", "131042"))], now)
        assert (draft.type, draft.data["health"]["state"]) == ("sender.health_changed", "down")
