"""What flowed, by step of time, number and service, to be read for pages; `traffic_rollup` counts it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.domain.latency import PLACES, percentile
from hub.store.pool import Connection, Record

NOBODY: Final = UUID(int=0)
"""Stands for the service where a number is of none, as messages received are."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What is read: these channels; whole, or (`service_id`) as a service sees them, which is told of others' messages
    and not of their deliveries.
    """

    channels: Collection[UUID]
    service_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """What flowed from `at` on, for one step: of a number and a service where that was asked for, else of all. Times in
    seconds, None where there were none: `take` from a message's acceptance until its provider took it, `lag` from an
    event until a service had it, `answer` what an endpoint took to answer on average.
    """

    at: datetime
    number_id: int | None
    service_id: UUID | None
    received: int = 0
    accepted: int = 0
    taken: int = 0
    delivered: int = 0
    failed: int = 0
    refused: int = 0
    webhooks: int = 0
    retries: int = 0
    answer: float | None = None
    take_p50: float | None = None
    take_p95: float | None = None
    lag_p50: float | None = None
    lag_p95: float | None = None


LIST_REACHED_SQL = """
select u.channel_id from subscription u where u.service_id = $1 and u.disconnected_at is null"""
LIST_CHANNELS_SQL = "select id from channel"
_SUMS: Final = ("accepted", "taken", "delivered", "failed", "refused")
_OWN: Final = ("webhooks", "retries", "answer_ms")
_IS_SEEN: Final = "$5::uuid is null or t.service_id = $5"
_FROM: Final = """
from traffic t join channel c on c.id = t.channel_id
where t.step = $2 and t.channel_id = any($1::uuid[]) and t.at >= $3 and t.at < $4"""


def _spread(name: str, seen: str = "") -> str:
    """The sums of an array's places, as an array; of 32-bit numbers, which are summed in a fifth of the time."""
    return ", ".join(f"coalesce(sum(t.{name}[{n}]::int){seen}, 0)" for n in range(1, PLACES + 1))


READ_FLOW_SQL = f"""
select t.at, case when $7 then c.number_id end as number_id, case when $8 then t.service_id end as service_id,
       {", ".join(f"sum(t.{name}) as {name}" for name in _SUMS)},
       {", ".join(f"coalesce(sum(t.{name}) filter (where {_IS_SEEN}), 0)::bigint as {name}" for name in _OWN)},
       array[{_spread("take_times")}] as take, array[{_spread("lag_times", f" filter (where {_IS_SEEN})")}] as lag
{_FROM} and ($6::uuid is null or t.service_id = $6)
group by 1, 2, 3 order by 1, 2, 3"""
# A message received is one for its number, though each of the number's channels has its own.
READ_RECEIVED_SQL = f"""
select at, case when $5 then number_id end as number_id, sum(received)::bigint as received
from (select at, number_id, max(received) as received
      from (select t.at, c.number_id, t.channel_id, sum(t.received) as received
            {_FROM} and t.received > 0
            group by 1, 2, 3) of_channel
      group by 1, 2) of_number
group by 1, 2"""


async def find_reach(conn: Connection, service_id: UUID | None) -> Reach:
    """What a service may read, or (None) the operator: all."""
    if service_id is None:
        return Reach([row["id"] for row in await conn.fetch(LIST_CHANNELS_SQL)])
    rows = await conn.fetch(LIST_REACHED_SQL, service_id)
    return Reach([row["channel_id"] for row in rows], service_id)


LIST_SERVICES_SQL = """
select distinct s.id, s.name from subscription u join service s on s.id = u.service_id
where u.channel_id = any($1::uuid[]) and ($2::uuid is null or s.id = $2)"""


async def list_services(conn: Connection, reach: Reach) -> list[Record]:
    """Services that are or were on these channels, by which traffic can be picked."""
    return await conn.fetch(LIST_SERVICES_SQL, list(reach.channels), reach.service_id)


async def read_traffic(
    conn: Connection,
    reach: Reach,
    since: datetime,
    until: datetime,
    step: int,
    *,
    of_service: UUID | None = None,
    by_number: bool = False,
    by_service: bool = False,
) -> list[Flow]:
    """What flowed, step by step (60, 600 or 3600 seconds); steps without anything are left out. `of_service`: what that
    service sent and was delivered, beside what was received.
    """
    span = list(reach.channels), step, since, until
    came = await conn.fetch(READ_RECEIVED_SQL, *span, by_number)
    received = {(row["at"], row["number_id"], None): row["received"] for row in came}
    flows = []
    for row in await conn.fetch(READ_FLOW_SQL, *span, reach.service_id, of_service, by_number, by_service):
        service_id = None if row["service_id"] == NOBODY else row["service_id"]
        place = row["at"], row["number_id"], service_id
        flows.append(_flow(row, service_id, received.pop(place, 0)))
    flows += [Flow(at, number_id, None, count) for (at, number_id, _), count in received.items()]
    return sorted(flows, key=_order)


def _flow(row: Record, service_id: UUID | None, received: int) -> Flow:
    take, lag, webhooks = row["take"], row["lag"], row["webhooks"]
    return Flow(
        row["at"],
        row["number_id"],
        service_id,
        received,
        row["accepted"],
        row["taken"],
        row["delivered"],
        row["failed"],
        row["refused"],
        webhooks,
        row["retries"],
        row["answer_ms"] / webhooks / 1000 if webhooks else None,
        percentile(take, 0.5),
        percentile(take, 0.95),
        percentile(lag, 0.5),
        percentile(lag, 0.95),
    )


def _order(flow: Flow) -> tuple[datetime, int, int]:
    return flow.at, flow.number_id or 0, flow.service_id.int if flow.service_id else 0
