"""Which campaigns there are: the names that tracked links carry, found by the index from one name to the next."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.store.pool import Connection

# What was sent on a channel that the service has left is out of its reach, though not of the operator's ($5).
LIST_CAMPAIGNS_SQL = """
with recursive step (service_id, campaign, place) as (
    (select l.service_id, l.campaign, 1 from tracked_link l
     where l.campaign is not null and (l.service_id, l.campaign) > ($1, $2) and ($3::uuid is null or l.service_id = $3)
     order by l.service_id, l.campaign limit 1)
    union all
    select n.service_id, n.campaign, s.place + 1 from step s cross join lateral (
        select l.service_id, l.campaign from tracked_link l
        where l.campaign is not null and (l.service_id, l.campaign) > (s.service_id, s.campaign)
          and ($3::uuid is null or l.service_id = $3)
        order by l.service_id, l.campaign limit 1) n
    where s.place < $4
)
select s.service_id, v.name as service_name, s.campaign, first.created_at as first_at, last.created_at as last_at,
       $5 or exists (
           select from tracked_link l where l.service_id = s.service_id and l.campaign = s.campaign
             and (l.channel_id is null or l.channel_id in (
                 select u.channel_id from subscription u
                 where u.service_id = s.service_id and u.disconnected_at is null))) as is_in_reach
from step s
join service v on v.id = s.service_id
cross join lateral (
    select l.created_at from tracked_link l where l.service_id = s.service_id and l.campaign = s.campaign
    order by coalesce(l.message_id, l.id) limit 1) first
cross join lateral (
    select l.created_at from tracked_link l where l.service_id = s.service_id and l.campaign = s.campaign
    order by coalesce(l.message_id, l.id) desc limit 1) last
order by s.service_id, s.campaign"""
_FIRST: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class CampaignName:
    """A campaign of a service; `first_at` and `last_at` are of its first and last message with links."""

    service_id: UUID
    service_name: str
    name: str
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class CampaignPlace:
    """Where a page begins: behind that campaign."""

    service_id: UUID = _FIRST
    name: str = ""


async def list_campaigns(
    conn: Connection, service_id: UUID | None, after: CampaignPlace, limit: int, *, is_whole: bool
) -> tuple[list[CampaignName], CampaignPlace | None]:
    """Campaigns of a service, or of all, by service and name, and behind which one the next page begins. Not
    `is_whole`: those only of which something was sent where the service still is; a page may then be short.
    """
    rows = await conn.fetch(LIST_CAMPAIGNS_SQL, after.service_id, after.name, service_id, limit, is_whole)
    found = [
        CampaignName(row["service_id"], row["service_name"], row["campaign"], row["first_at"], row["last_at"])
        for row in rows
        if row["is_in_reach"]
    ]
    following = CampaignPlace(rows[-1]["service_id"], rows[-1]["campaign"]) if len(rows) == limit else None
    return found, following
