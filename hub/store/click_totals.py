"""What is left of clicks when they are dropped: their number, by link and verdict (rule H6)."""

from typing import Final

from hub.store.pool import Connection

_LONG: Final = 600.0
"""Seconds for the statement that looks through the clicks of a day."""

# Loops have connections that look rows up one by one; here are too many for that.
JOIN_FREELY_SQL = """
select set_config(name, 'on', true) from unnest(array['enable_hashjoin', 'enable_mergejoin', 'enable_seqscan']) name"""
BE_IMPATIENT_SQL = "select set_config('lock_timeout', '1s', true)"
# A visitor who has clicked later, too, is counted when that click goes: so nobody is counted twice.
_ADD_TOTALS: Final = """
with gone as materialized (
    select c.link_id, c.kind, c.reason, c.counts, coalesce(c.visitor_id, c.link_id) as who, count(*) as clicks,
           min(c.at) as first_at, max(c.at) as last_at
    from {name} c group by 1, 2, 3, 4, 5
), over as (
    select g.link_id, g.kind, g.reason, count(*) as visitors from gone g
    where g.counts and not exists (
        select from click c where c.link_id = g.link_id and c.at > g.last_at and c.counts
                              and coalesce(c.visitor_id, c.link_id) = g.who)
    group by 1, 2, 3
)
insert into click_total (link_id, kind, reason, clicks, visitors, first_at, last_at)
select g.link_id, g.kind, g.reason, sum(g.clicks), coalesce(max(o.visitors), 0), min(g.first_at), max(g.last_at)
from gone g join tracked_link l on l.id = g.link_id
left join over o on (o.link_id, o.kind, o.reason) = (g.link_id, g.kind, g.reason)
group by 1, 2, 3 order by 1, 2, 3
on conflict (link_id, kind, reason) do update
set clicks = click_total.clicks + excluded.clicks, visitors = click_total.visitors + excluded.visitors,
    first_at = least(click_total.first_at, excluded.first_at),
    last_at = greatest(click_total.last_at, excluded.last_at)"""


async def count_and_drop(conn: Connection, name: str) -> None:
    """Add the clicks of a partition that was detached to the totals of their links, and drop it: both or none. Raises
    `Unavailable` where somebody still reads it.
    """
    await conn.execute(JOIN_FREELY_SQL)
    await conn.execute(BE_IMPATIENT_SQL)
    await conn.execute(f"lock table {name} in access exclusive mode")
    await conn.execute(_ADD_TOTALS.format(name=name), timeout=_LONG)
    await conn.execute(f"drop table {name}")
