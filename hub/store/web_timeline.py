"""What a contact said and did, over all media and the web, as its timeline reads it (rules C3, H5).

Whose a visit was is found when it is read: it counts for the contact whose binding's period contains it. Events are
never rewritten, so what is bound, retracted, merged or undone later is right at once.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

LIST_CONVERSATIONS_SQL = """
select c.id, c.channel_id, ch.kind, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at,
       c.created_at, c.picked_up_by, c.held_by
from conversation c
join channel ch on ch.id = c.channel_id
join number n on n.id = c.number_id
join subscription s on s.channel_id = c.channel_id and s.service_id = $1 and s.disconnected_at is null
where c.contact_id = any($2::uuid[]) order by c.id"""


async def list_conversations(conn: Connection, service_id: UUID, contact_ids: Collection[UUID]) -> list[Record]:
    """These contacts' conversations on all channels that this service is connected to, by age."""
    return await conn.fetch(LIST_CONVERSATIONS_SQL, service_id, list(contact_ids))


# Binding by binding, each from its end of the page, by the index on visitor and time.
_VISITS: Final = """
select v.id, v.at, v.type, v.url, v.title, v.referrer, v.session, v.visitor_id
from visitor_binding b
cross join lateral (
    select * from web_event w
    where w.visitor_id = b.visitor_id and w.at >= lower(b.period) and w.at < coalesce(upper(b.period), 'infinity')
      and {}
    order by {} limit $4) v
where b.contact_id = any($1::uuid[]) and b.retracted_at is null
order by {} limit $4"""
LIST_VISITS_BEFORE_SQL = _VISITS.format(
    "w.at <= $2 and (w.at, w.id) < ($2, $3)", "w.at desc, w.id desc", "v.at desc, v.id desc"
)
LIST_VISITS_AFTER_SQL = _VISITS.format("w.at >= $2 and (w.at, w.id) > ($2, $3)", "w.at, w.id", "v.at, v.id")


async def list_visits(
    conn: Connection, contact_ids: Collection[UUID], mark: tuple[datetime, UUID], limit: int, *, is_forward: bool
) -> list[Record]:
    """What these contacts' browsers reported while they were theirs: after a time and id, oldest first, or before,
    newest first.
    """
    sql = LIST_VISITS_AFTER_SQL if is_forward else LIST_VISITS_BEFORE_SQL
    return await conn.fetch(sql, list(contact_ids), *mark, limit)


# A click is somebody's once a visit followed it; both cookies of one browser may have shown it.
_CLICKS: Final = """
select distinct on (l.click_at, l.click_id) l.click_id as id, l.click_at as at, l.link_id, l.message_id, l.visitor_id,
       t.target, t.service_id, t.channel_id, coalesce(m.created_at, t.created_at) as written_at
from visitor_binding b
cross join lateral (
    select * from landing d
    where d.visitor_id = b.visitor_id and b.period @> d.click_at and {}
    order by {} limit $4) l
left join tracked_link t on t.id = l.link_id
left join message m on m.id = t.message_id
where b.contact_id = any($1::uuid[]) and b.retracted_at is null
order by {} limit $4"""
LIST_CLICKS_BEFORE_SQL = _CLICKS.format(
    "(d.click_at, d.click_id) < ($2, $3)", "d.click_at desc, d.click_id desc", "l.click_at desc, l.click_id desc"
)
LIST_CLICKS_AFTER_SQL = _CLICKS.format(
    "(d.click_at, d.click_id) > ($2, $3)", "d.click_at, d.click_id", "l.click_at, l.click_id"
)


async def list_clicks(
    conn: Connection, contact_ids: Collection[UUID], mark: tuple[datetime, UUID], limit: int, *, is_forward: bool
) -> list[Record]:
    """The clicks from which these contacts' browsers came, with the links; in the same order."""
    sql = LIST_CLICKS_AFTER_SQL if is_forward else LIST_CLICKS_BEFORE_SQL
    return await conn.fetch(sql, list(contact_ids), *mark, limit)
