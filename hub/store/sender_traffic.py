"""What came and went by the hour, for each sender. Messages are found by the time in their ids, within a range of the
primary key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

_HOUR: Final = timedelta(hours=1)
_VERSION_7: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62


def _least_id(at: datetime) -> UUID:
    """An id that all made at this time or later are above."""
    return UUID(int=int(at.timestamp() * 1000) << 80 | _VERSION_7 | _VARIANT)


LIST_PROBED_SQL = """
select s.id, s.number_id, n.e164, s.medium, s.provider, s.external_id, coalesce(s.account, s.seen_account) as account
from sender s join number n on n.id = s.number_id where s.is_active order by s.id"""


async def list_probed(conn: Connection) -> list[Record]:
    """All active senders, as their providers are asked about them."""
    return await conn.fetch(LIST_PROBED_SQL)


FIND_LAST_HOUR_SQL = "select max(hour) from sender_traffic"


async def find_last_hour(conn: Connection) -> datetime | None:
    """The last hour that was counted."""
    hour: datetime | None = await conn.fetchval(FIND_LAST_HOUR_SQL)
    return hour


# What came by another way than a webhook does not count. A message is one, though each channel has its own row.
COUNT_HOURS_SQL = """
with came as (
    select m.number_id, m.medium, m.provider, date_trunc('hour', m.created_at, 'UTC') as hour,
           count(distinct m.provider_id) filter (where m.direction = 'inbound' and m.origin = 'customer') as inbound,
           count(distinct m.id) filter (where m.direction = 'outbound') as outbound,
           count(s.message_id) as statuses
    from message m left join message_status s
      on s.message_id = m.id and s.message_id >= $1 and s.message_id < $2
    where m.id >= $1 and m.id < $2 and not m.history and not m.reconciled
    group by 1, 2, 3, 4
)
insert into sender_traffic (sender_id, hour, inbound, outbound, statuses)
select s.id, h.hour, coalesce(c.inbound, 0), coalesce(c.outbound, 0), coalesce(c.statuses, 0)
from sender s
cross join generate_series($3::timestamptz, $4::timestamptz, interval '1 hour') as h (hour)
left join came c on c.number_id = s.number_id and c.medium = s.medium and c.provider = s.provider and c.hour = h.hour
where s.is_active and h.hour >= least(s.created_at, (
    select min(f.hour) from came f
    where f.number_id = s.number_id and f.medium = s.medium and f.provider = s.provider))
on conflict do nothing"""
SKIP_HOURS_SQL = """
insert into sender_traffic (sender_id, hour, inbound, outbound, statuses)
select s.id, h.hour, null, 0, 0
from sender s cross join generate_series($1::timestamptz, $2::timestamptz, interval '1 hour') as h (hour)
where s.is_active
on conflict do nothing"""
PRUNE_TRAFFIC_SQL = "delete from sender_traffic where hour < $1"


async def count_hours(conn: Connection, first: datetime, last: datetime) -> None:
    """Count these full hours, which begin at `first` to `last`, once."""
    bounds = _least_id(first), _least_id(last + _HOUR)
    await conn.execute(COUNT_HOURS_SQL, *bounds, first, last)


async def skip_hours(conn: Connection, first: datetime, last: datetime) -> None:
    """Note that nobody was there in these hours to be called back."""
    await conn.execute(SKIP_HOURS_SQL, first, last)


async def prune_traffic(conn: Connection, before: datetime) -> None:
    """Forget what is too long ago to tell what is usual."""
    await conn.execute(PRUNE_TRAFFIC_SQL, before)


LIST_TRAFFIC_SQL = "select sender_id, hour, inbound from sender_traffic where sender_id = any($1::bigint[])"


async def list_traffic(conn: Connection, sender_ids: Sequence[int]) -> dict[int, dict[datetime, int | None]]:
    """Messages of customers by sender and hour."""
    found: dict[int, dict[datetime, int | None]] = {}
    for row in await conn.fetch(LIST_TRAFFIC_SQL, sender_ids):
        found.setdefault(row["sender_id"], {})[row["hour"]] = row["inbound"]
    return found


@dataclass(frozen=True, slots=True)
class Lately:
    """What came and went just now. `handed` messages were taken by the provider long enough ago to have a status, the
    first of them at `since`; `answered` messages have one; `inbound` messages of customers came.
    """

    handed: int = 0
    answered: int = 0
    since: datetime | None = None
    inbound: int = 0


# What is written down when a message is handed over is one entry; every other one, and each with the provider's time,
# came by a callback.
FIND_LATELY_SQL = """
with lately as (
    select m.number_id, m.medium, m.provider, m.direction, m.origin, m.created_at, t.handed_at, t.is_answered
    from message m left join (
        select message_id, min(at) filter (where reported <> 'unknown') as handed_at,
               count(*) filter (where reported <> 'unknown') > 1 or bool_or(provider_time is not null) as is_answered
        from message_status where message_id >= $1 group by message_id
    ) t on t.message_id = m.id
    where m.id >= $1 and not m.history and not m.reconciled
      and (m.direction = 'inbound' or (m.provider_id is not null and m.origin not in ('echo', 'external')))
)
select s.id,
       count(*) filter (where l.direction = 'outbound' and l.handed_at <= $2) as handed,
       count(*) filter (where l.direction = 'outbound' and l.is_answered) as answered,
       min(l.handed_at) filter (where l.direction = 'outbound' and l.handed_at <= $2) as since,
       count(*) filter (where l.direction = 'inbound' and l.origin = 'customer' and l.created_at >= $3) as inbound
from sender s join lately l on l.number_id = s.number_id and l.medium = s.medium and l.provider = s.provider
where s.is_active group by s.id"""


async def find_lately(conn: Connection, since: datetime, handed_by: datetime, hour: datetime) -> dict[int, Lately]:
    """By sender: messages made since then and handed over by `handed_by`, and what came since this hour began."""
    rows = await conn.fetch(FIND_LATELY_SQL, _least_id(since), handed_by, hour)
    return {row["id"]: Lately(row["handed"], row["answered"], row["since"], row["inbound"]) for row in rows}
