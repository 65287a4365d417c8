"""Contacts as people look through them, the landings on links that were sent to them, and campaigns as a whole."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from hub.store.click_reports import Campaign
from hub.store.pool import Connection, Record

LIST_PEOPLE_SQL = """
select c.id, c.created_at, c.merged_into from contact c
where c.id < $1 and c.merged_into is null and c.erased_at is null order by c.id desc limit $2"""
# By the unique index of conversations, channel by channel from the newest contact on.
LIST_REACHED_SQL = """
with found as (
    select x.contact_id from subscription u
    cross join (values ('whatsapp'), ('sms')) as m (medium)
    cross join lateral (
        select v.contact_id from conversation v
        where v.channel_id = u.channel_id and v.medium = m.medium and v.contact_id < $1
        order by v.contact_id desc limit $2) x
    where u.service_id = $3 and u.disconnected_at is null
    union
    (select k.contact_id from contact_knower k where k.service_id = $3 and k.contact_id < $1
     order by k.contact_id desc limit $2)
)
select c.id, c.created_at, c.merged_into from (select contact_id from found order by contact_id desc limit $2) f
cross join lateral (select * from contact where id = f.contact_id offset 0) c
order by c.id desc"""


async def list_people(conn: Connection, service_id: UUID | None, before: UUID, limit: int) -> list[Record]:
    """Contacts by age, the newest first: those a service may know of (H5), or (None) all. A service is shown those that
    were merged into others, too, for what it knows is them.
    """
    if service_id is None:
        return await conn.fetch(LIST_PEOPLE_SQL, before, limit)
    return await conn.fetch(LIST_REACHED_SQL, before, limit, service_id)


# Found by links, or by whom a landing was decided for: what a browser did that was kept apart is seen by its link. Of
# links a service is told as anywhere: those of its channels, and its own that are in no message.
LIST_LANDINGS_SQL = """
select n.click_id, n.visitor_id, n.link_id, n.message_id, n.click_at, n.landed_at, n.outcome, n.reason
from tracked_link t cross join lateral (
    select * from landing l where l.link_id = t.id order by l.landed_at desc limit $2) n
where t.contact_id = any($1::uuid[]) and ($3::uuid is null or case
    when t.channel_id is null then t.service_id = $3
    else t.channel_id in (select channel_id from subscription where service_id = $3 and disconnected_at is null) end)
order by n.landed_at desc, n.click_id limit $2"""
LIST_TALKS_SQL = """
select c.id, c.channel_id, ch.kind, c.number_id, n.e164, c.medium, c.contact_id, c.last_sequence, c.last_customer_at,
       c.created_at, c.picked_up_by, c.held_by
from conversation c join channel ch on ch.id = c.channel_id join number n on n.id = c.number_id
where c.contact_id = any($1::uuid[]) order by c.id"""


async def list_landings(
    conn: Connection, contact_ids: Collection[UUID], limit: int, service_id: UUID | None
) -> list[Record]:
    """Pages that followed clicks on links sent to these contacts, and what was decided of each, the last first; by
    links within a service's reach, or (None) by all.
    """
    return await conn.fetch(LIST_LANDINGS_SQL, list(contact_ids), limit, service_id)


async def list_talks(conn: Connection, contact_ids: Collection[UUID]) -> list[Record]:
    """These contacts' conversations on all channels, by age, as `web_timeline.list_conversations` has them."""
    return await conn.fetch(LIST_TALKS_SQL, list(contact_ids))


# Campaigns ----------------------------------------------------------------------------------------------------------

# From name to name by the index, whatever the number of messages of each.
_NAMES: Final = """
    (select {owner}, campaign from {table}
     where campaign is not null and {owner} between $1 and $2 and ({owner}, campaign) > ($3::uuid, $4::text)
     order by {owner}, campaign limit 1)
    union all
    select n.{owner}, n.campaign from {name} p cross join lateral (
        select x.{owner}, x.campaign from {table} x
        where x.campaign is not null and x.{owner} between $1 and $2
          and (x.{owner}, x.campaign) > (p.{owner}, p.campaign)
        order by x.{owner}, x.campaign limit 1) n"""
_CHANNELS: Final = """
    select u.channel_id from subscription u where u.service_id = p.service_id and u.disconnected_at is null"""
LIST_CAMPAIGNS_SQL = f"""
with recursive sent as ({_NAMES.format(owner="author_service_id", table="message", name="sent")}
), linked as ({_NAMES.format(owner="service_id", table="tracked_link", name="linked")}
), page as (
    select * from (
        (select author_service_id as service_id, campaign from sent limit $5)
        union (select service_id, campaign from linked limit $5)) x
    order by 1, 2 limit $5
)
select p.service_id, s.name as service_name, p.campaign, m.first_id, m.last_id,
       $6 or coalesce((
           select true from message x where x.author_service_id = p.service_id and x.campaign = p.campaign
             and x.channel_id in ({_CHANNELS}) order by x.id limit 1), (
           select true from tracked_link x where x.service_id = p.service_id and x.campaign = p.campaign
             and (x.channel_id is null or x.channel_id in ({_CHANNELS}))
           order by coalesce(x.message_id, x.id) limit 1), false) as is_in_reach
from page p join service s on s.id = p.service_id
cross join lateral (select least(
    (select x.id from message x where x.author_service_id = p.service_id and x.campaign = p.campaign
     order by x.id limit 1),
    (select coalesce(x.message_id, x.id) from tracked_link x
     where x.service_id = p.service_id and x.campaign = p.campaign
     order by coalesce(x.message_id, x.id) limit 1)) as first_id, greatest(
    (select x.id from message x where x.author_service_id = p.service_id and x.campaign = p.campaign
     order by x.id desc limit 1),
    (select coalesce(x.message_id, x.id) from tracked_link x
     where x.service_id = p.service_id and x.campaign = p.campaign
     order by coalesce(x.message_id, x.id) desc limit 1)) as last_id) m
order by p.service_id, p.campaign"""
_LEAST, _MOST = UUID(int=0), UUID(int=2**128 - 1)


async def list_campaigns(
    conn: Connection, service_id: UUID | None, after: tuple[UUID, str] | None, limit: int
) -> list[Record]:
    """Campaigns by service and name, of one service or (None) of all, beyond a place; with the ids of the first and the
    last of each, or link that is in no message; and whether (`is_in_reach`) a service may look at it: something of it
    was sent where the service still is (A4), or is in no message of the hub's.
    """
    low, high = (service_id, service_id) if service_id else (_LEAST, _MOST)
    place = after or (low, "")
    return await conn.fetch(LIST_CAMPAIGNS_SQL, low, high, *place, limit, service_id is None)


COUNT_SENT_SQL = """
select count(*) as accepted, count(*) filter (where status in ('sent', 'delivered', 'read')) as sent,
       count(*) filter (where status in ('delivered', 'read')) as delivered,
       count(*) filter (where status = 'read') as read, count(*) filter (where status = 'failed') as failed,
       count(*) filter (where status = 'cancelled') as cancelled,
       count(*) filter (where status in ('queued', 'sending')) as waiting,
       count(*) filter (where status = 'unknown') as unknown,
       count(*) filter (where medium = 'whatsapp') as on_whatsapp
from message
where author_service_id = $1 and campaign = $2 and ($3 or channel_id in (
    select channel_id from subscription where service_id = $1 and disconnected_at is null))"""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a campaign's messages; `read` is of WhatsApp alone, which tells of it."""

    accepted: int
    sent: int
    delivered: int
    read: int
    failed: int
    cancelled: int
    waiting: int
    unknown: int
    on_whatsapp: int


async def count_sent(conn: Connection, campaign: Campaign) -> Sent:
    """What became of the messages of a campaign, those in reach as with its links."""
    row = await conn.fetchrow(COUNT_SENT_SQL, *campaign.args)
    assert row is not None
    return Sent(*row)
