"""What became of tracked links: who may ask, and how many clicks, visits and contacts there were."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

# Written: with its message, also where that is due later.
_COLUMNS: Final = """
l.id, l.target, l.service_id, l.channel_id, l.message_id, l.place, l.medium, l.campaign, l.contact_id, l.created_at,
l.disabled_at, coalesce((select m.created_at from message m where m.id = l.message_id), l.created_at) as written_at,
l.suspect_at is not null or exists (
    select from identity_flag f join identity_op o on o.id = f.op_id
    where f.subject = 'link' and f.subject_id = l.id and o.undone_at is null) as is_suspect"""
FIND_LINK_SQL = f"select {_COLUMNS} from tracked_link l where l.id = $1"
LIST_OF_MESSAGE_SQL = f"select {_COLUMNS} from tracked_link l where l.message_id = $1 order by l.id"
IS_CONNECTED_SQL = """
select exists (select from subscription where channel_id = $1 and service_id = $2 and disconnected_at is null)"""
DISABLE_SQL = "update tracked_link set disabled_at = now() where id = $1 and disabled_at is null"


async def find_link(conn: Connection, link_id: UUID) -> Record | None:
    """A link, whoever's it is."""
    return await conn.fetchrow(FIND_LINK_SQL, link_id)


async def list_of_message(conn: Connection, message_id: UUID) -> list[Record]:
    """The links of a message, in the order in which they were made."""
    return await conn.fetch(LIST_OF_MESSAGE_SQL, message_id)


async def is_connected(conn: Connection, channel_id: UUID, service_id: UUID) -> bool:
    """Whether a service is on a channel now."""
    found: bool = await conn.fetchval(IS_CONNECTED_SQL, channel_id, service_id)
    return found


async def disable(conn: Connection, link_id: UUID) -> bool:
    """Let a link lead nowhere from now on; False where it did not any more."""
    return await conn.execute(DISABLE_SQL, link_id) != "UPDATE 0"


# Campaigns ----------------------------------------------------------------------------------------------------------

# What was sent on a channel that the service has left is out of its reach, though not of the operator's ($3).
_IN_REACH: Final = """
l.service_id = $1 and l.campaign = $2
and ($3 or l.channel_id is null or l.channel_id in (
    select channel_id from subscription where service_id = $1 and disconnected_at is null))"""
# A link that was made by itself stands for a message of its own.
LIST_OF_CAMPAIGN_SQL = f"""
select l.id, coalesce(l.message_id, l.id) as part, l.message_id from tracked_link l
where {_IN_REACH} and coalesce(l.message_id, l.id) = any(array(
    select distinct coalesce(l.message_id, l.id) as part from tracked_link l
    where {_IN_REACH} and coalesce(l.message_id, l.id) > $4 order by part limit $5))
order by part, l.id"""
COUNT_CAMPAIGN_SQL = f"""
select count(*) as links, count(distinct l.message_id) as messages from tracked_link l where {_IN_REACH}"""


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign of a service, as the service sees it, or as the operator does, who sees all of it."""

    service_id: UUID
    name: str
    is_whole: bool = False

    @property
    def args(self) -> tuple[UUID, str, bool]:
        """What statements take for it."""
        return self.service_id, self.name, self.is_whole


async def list_of_campaign(conn: Connection, campaign: Campaign, after: UUID, limit: int) -> list[Record]:
    """The links of a campaign by message (`part`), those of so many messages beyond one."""
    return await conn.fetch(LIST_OF_CAMPAIGN_SQL, *campaign.args, after, limit)


async def count_campaign(conn: Connection, campaign: Campaign) -> Record:
    """How many messages and links a campaign has."""
    row = await conn.fetchrow(COUNT_CAMPAIGN_SQL, *campaign.args)
    assert row is not None
    return row


# Numbers ------------------------------------------------------------------------------------------------------------

_GIVEN: Final = """
select l.id, l.created_at, g.part from unnest($1::uuid[], $2::uuid[]) as g (id, part)
join tracked_link l on l.id = g.id"""
_CAMPAIGN: Final = f"select l.id, l.created_at, null::uuid as part from tracked_link l where {_IN_REACH}"
# Nobody clicks before there is a link: earlier partitions are not looked at. (A day more, for clocks that differ.)
_COUNT_CLICKS: Final = """
with asked as ({asked}), one as (
    select a.part, c.kind, c.reason, c.counts, coalesce(c.visitor_id, c.link_id) as who, count(*) as clicks,
           min(c.at) as first_at, max(c.at) as last_at
    from asked a join click c on c.link_id = a.id and c.at >= a.created_at - interval '1 day'
    where c.at >= (select min(created_at) - interval '1 day' from asked)
    group by 1, 2, 3, 4, 5
), kept as (
    select part, kind, reason, sum(clicks) as clicks, count(*) filter (where counts) as visitors,
           min(first_at) as first_at, max(last_at) as last_at
    from one group by 1, 2, 3
), dropped as (
    select a.part, t.kind, t.reason, t.clicks, t.visitors, t.first_at, t.last_at
    from asked a join click_total t on t.link_id = a.id
)
select part, kind, reason, sum(clicks)::bigint as clicks, sum(visitors)::bigint as visitors,
       min(first_at) as first_at, max(last_at) as last_at
from (select * from kept union all select * from dropped) x
group by 1, 2, 3 order by 1, 4 desc, 2, 3"""
# What was retracted since, or undone, is nobody's visit.
_COUNT_VISITS: Final = """
with asked as ({asked})
select a.part, count(distinct v.session) as visits,
       count(distinct v.visitor_id) filter (where b.link_id = v.link_id) as bound,
       count(distinct v.contact_id) filter (
           where v.outcome in ('bound', 'confirmed', 'moved', 'already_bound') and b.visitor_id is not null
       ) as identified
from asked a join landing v on v.link_id = a.id
left join visitor_binding b on b.visitor_id = v.visitor_id and b.retracted_at is null and b.period @> v.landed_at
                               and (b.contact_id = v.contact_id or v.outcome = 'already_bound')
group by 1"""
COUNT_CLICKS_SQL = _COUNT_CLICKS.format(asked=_GIVEN)
COUNT_VISITS_SQL = _COUNT_VISITS.format(asked=_GIVEN)
COUNT_CAMPAIGN_CLICKS_SQL = _COUNT_CLICKS.format(asked=_CAMPAIGN)
COUNT_CAMPAIGN_VISITS_SQL = _COUNT_VISITS.format(asked=_CAMPAIGN)


async def count_clicks(conn: Connection, links: Sequence[UUID], parts: Sequence[UUID]) -> list[Record]:
    """Clicks by verdict on these links, counted together where their parts are the same; what retention has dropped is
    counted, too. A visitor is one person; all clicks on a link without a visitor count as one.
    """
    return await conn.fetch(COUNT_CLICKS_SQL, links, parts) if links else []


async def count_visits(conn: Connection, links: Sequence[UUID], parts: Sequence[UUID]) -> list[Record]:
    """Sessions that began with a click on these links, browsers that were bound by one, contacts that came."""
    return await conn.fetch(COUNT_VISITS_SQL, links, parts) if links else []


async def count_campaign_clicks(conn: Connection, campaign: Campaign) -> list[Record]:
    """The same as `count_clicks` of all links of a campaign together."""
    return await conn.fetch(COUNT_CAMPAIGN_CLICKS_SQL, *campaign.args)


async def count_campaign_visits(conn: Connection, campaign: Campaign) -> list[Record]:
    """The same as `count_visits` of all links of a campaign together."""
    return await conn.fetch(COUNT_CAMPAIGN_VISITS_SQL, *campaign.args)
