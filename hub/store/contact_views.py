"""What is known of a contact, to be shown to whom it concerns (rule H5)."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from hub.domain.addresses import Address
from hub.store.consents import erased_key, is_over
from hub.store.pool import Connection, Record

FIND_OWNER_SQL = """
select a.contact_id from contact_address a join contact c on c.id = a.contact_id
where a.type = $1 and a.match_key = $2 and a.removed_at is null and (a.is_proved or a.is_declared)
  and c.erased_at is null
order by a.is_proved desc limit 1"""


async def find_owner(conn: Connection, address: Address) -> UUID | None:
    """Whose an address is: who has proved it, else for whom it was properly declared."""
    owner: UUID | None = await conn.fetchval(FIND_OWNER_SQL, address.type, address.match_key)
    return owner


FIND_BY_EXTERNAL_SQL = "select contact_id from contact_identity where service_id = $1 and external_id = $2"


async def find_by_external(conn: Connection, service_id: UUID, external_id: str) -> UUID | None:
    """Whom a service calls so."""
    found: UUID | None = await conn.fetchval(FIND_BY_EXTERNAL_SQL, service_id, external_id)
    return found


LIST_PERSON_SQL = """
with recursive up as (
    select id, merged_into from contact where id = $1
    union
    select c.id, c.merged_into from up cross join lateral (select * from contact where id = up.merged_into offset 0) c
), person as (
    select id from up where merged_into is null
    union
    select c.id from person p cross join lateral (select id from contact where merged_into = p.id offset 0) c
)
select c.id, c.name, c.created_at, c.erased_at, c.merged_into
from person p cross join lateral (select * from contact where id = p.id offset 0) c
order by c.merged_into is not null, c.id"""


async def list_person(conn: Connection, contact_id: UUID) -> list[Record]:
    """The contact that this one goes on as, first, and all that were merged into it; none where there is no such."""
    return await conn.fetch(LIST_PERSON_SQL, contact_id)


MAY_SEE_SQL = """
select exists (
    select from unnest($2::uuid[]) as p (id)
    join conversation c on c.contact_id = p.id
    join subscription u on u.channel_id = c.channel_id and u.service_id = $1 and u.disconnected_at is null
) or exists (
    select from contact_knower k where k.service_id = $1 and k.contact_id = any($2::uuid[]))"""


async def may_see(conn: Connection, service_id: UUID, contact_ids: Collection[UUID]) -> bool:
    """Whether a service has a conversation with one of these contacts on a channel it is connected to, or an identify
    call of its own (H5).
    """
    return bool(await conn.fetchval(MAY_SEE_SQL, service_id, list(contact_ids)))


# How well each is known: proved; declared, where nobody else has proved it; else somebody typed it into a browser.
LIST_ADDRESSES_SQL = """
select a.contact_id, a.type, a.value, a.match_key, a.created_at,
       case when a.is_proved then 'proved'
            when a.is_declared and not exists (
                select from contact_address o
                where o.type = a.type and o.match_key = a.match_key and o.is_proved and o.removed_at is null)
            then 'declared' else 'unconfirmed' end as standing
from contact_address a
where a.contact_id = any($1::uuid[]) and a.removed_at is null order by array_position($1, a.contact_id), a.id"""


async def list_addresses(conn: Connection, contact_ids: Sequence[UUID]) -> list[Record]:
    """The addresses of these contacts, in their order, each with its `standing`."""
    return await conn.fetch(LIST_ADDRESSES_SQL, list(contact_ids))


LIST_FORMER_SQL = """
select contact_id, type, value, created_at, removed_at from contact_address
where contact_id = any($1::uuid[]) and removed_reason = 'changed' and value <> ''
order by removed_at desc, id desc limit 100"""


async def list_former(conn: Connection, contact_ids: Sequence[UUID]) -> list[Record]:
    """What these contacts changed for other addresses, as the provider said, the last first."""
    return await conn.fetch(LIST_FORMER_SQL, list(contact_ids))


LIST_TRAITS_SQL = """
select t.contact_id, t.service_id, s.name as service_name, t.name, t.value, t.updated_at
from contact_trait t join service s on s.id = t.service_id
where t.contact_id = any($1::uuid[]) and ($2::uuid is null or t.service_id = $2) order by t.updated_at, t.name"""
LIST_EXTERNAL_SQL = """
select i.contact_id, i.service_id, s.name as service_name, i.external_id, i.is_verified, i.created_at
from contact_identity i join service s on s.id = i.service_id
where i.contact_id = any($1::uuid[]) and ($2::uuid is null or i.service_id = $2) order by i.created_at, i.external_id"""


async def list_traits(conn: Connection, contact_ids: Collection[UUID], service_id: UUID | None) -> list[Record]:
    """What a service, or (None) any, says of these contacts; the latest last."""
    return await conn.fetch(LIST_TRAITS_SQL, list(contact_ids), service_id)


async def list_external(conn: Connection, contact_ids: Collection[UUID], service_id: UUID | None) -> list[Record]:
    """What a service, or (None) any, calls these contacts."""
    return await conn.fetch(LIST_EXTERNAL_SQL, list(contact_ids), service_id)


LIST_BINDINGS_SQL = """
select b.id, b.visitor_id, b.contact_id, lower(b.period) as since, upper(b.period) as until, b.trust, b.bound_at,
       b.link_id
from visitor_binding b
where b.contact_id = any($1::uuid[]) and b.retracted_at is null order by lower(b.period), b.id"""
LIST_OF_VISITOR_SQL = """
select b.id, b.visitor_id, b.contact_id, lower(b.period) as since, upper(b.period) as until, b.trust, b.bound_at,
       b.link_id
from visitor_binding b where b.visitor_id = $1 and b.retracted_at is null order by lower(b.period), b.id"""
FIND_VISITOR_SQL = "select id, created_at, seen_at, is_confirmed from visitor where id = $1"


async def list_bindings(conn: Connection, contact_ids: Collection[UUID]) -> list[Record]:
    """When which visitors were these contacts, and how that is known."""
    return await conn.fetch(LIST_BINDINGS_SQL, list(contact_ids))


async def list_of_visitor(conn: Connection, visitor_id: UUID) -> list[Record]:
    """Who a visitor was and when, oldest first."""
    return await conn.fetch(LIST_OF_VISITOR_SQL, visitor_id)


async def find_visitor(conn: Connection, visitor_id: UUID) -> Record | None:
    """A visitor."""
    return await conn.fetchrow(FIND_VISITOR_SQL, visitor_id)


LIST_FLAGS_SQL = """
select f.subject, f.subject_id, f.reason, min(o.at) as since
from identity_flag f join identity_op o on o.id = f.op_id and o.undone_at is null
where (f.subject = 'contact' and f.subject_id = any($1::uuid[]))
   or (f.subject = 'visitor' and f.subject_id = any($2::uuid[]))
group by 1, 2, 3 order by 1, 2, 3"""
LIST_CANDIDATES_SQL = """
select m.id, m.contact_id, m.other_contact_id, m.reason, m.created_at
from merge_candidate m
where (m.contact_id = any($1::uuid[]) or m.other_contact_id = any($1::uuid[])) and m.settled_at is null
order by m.id"""


async def list_flags(conn: Connection, contact_ids: Collection[UUID], visitor_ids: Collection[UUID]) -> list[Record]:
    """Over which limits these contacts and visitors are."""
    return await conn.fetch(LIST_FLAGS_SQL, list(contact_ids), list(visitor_ids))


async def list_candidates(conn: Connection, contact_ids: Collection[UUID]) -> list[Record]:
    """Open suggestions that one of these contacts and another are one person."""
    return await conn.fetch(LIST_CANDIDATES_SQL, list(contact_ids))


LIST_VISITS_SQL = """
select v.id, v.at, v.type, v.url, v.title, v.referrer, v.session, b.contact_id
from web_event v
left join visitor_binding b on b.visitor_id = v.visitor_id and b.retracted_at is null and b.period @> v.at
where v.visitor_id = $1 and v.at <= $3 and (v.at, v.id) < ($3, $4) and ($2::uuid[] is null or b.contact_id = any($2))
order by v.at desc, v.id desc limit $5"""


async def list_visits(
    conn: Connection, visitor_id: UUID, contact_ids: Collection[UUID] | None, before: tuple[datetime, UUID], limit: int
) -> list[Record]:
    """What a visitor's browser reported, newest first, each with the contact whose visit it was; only visits of these
    contacts, or (None) all.
    """
    return await conn.fetch(
        LIST_VISITS_SQL, visitor_id, None if contact_ids is None else list(contact_ids), *before, limit
    )


LIST_HAVING_SQL = """
select distinct a.contact_id from contact_address a join contact c on c.id = a.contact_id
where a.type = $1 and a.match_key = $2 and a.removed_at is null and c.erased_at is null order by 1 limit $3"""


async def list_having(conn: Connection, address: Address, limit: int) -> list[UUID]:
    """Contacts that have an address, however well it is known."""
    return [row["contact_id"] for row in await conn.fetch(LIST_HAVING_SQL, address.type, address.match_key, limit)]


# What holds for each address by itself; what was said of one number apart.
LIST_CONSENTS_SQL = f"""
select e.medium, w.type, w.match_key, e.number_id, n.e164, e.kind, e.source, e.at,
       e.evidence is not null as has_evidence, {is_over("w.match_key")} as is_over, e.evidence,
       e.service_id, s.name as service_name
from unnest($1::text[], $2::text[]) as w (type, match_key)
cross join unnest(array['whatsapp', 'sms', 'email', 'tracking']) as m (medium)
cross join lateral (
    select * from consent_event e
    where e.medium = m.medium and e.address_type = w.type and e.address_key = any(array[w.match_key, {erased_key("w")}])
      and (e.op_id is null or not exists (select from identity_op o where o.id = e.op_id and o.undone_at is not null))
    offset 0) e
left join number n on n.id = e.number_id
left join service s on s.id = e.service_id
order by e.id"""


async def list_consents(conn: Connection, keys: Collection[tuple[str, str]]) -> list[Record]:
    """Everything that was said about these addresses (type and match key), for every medium, oldest first."""
    return await conn.fetch(LIST_CONSENTS_SQL, *map(list, zip(*keys, strict=True))) if keys else []


LIST_SENT_LINKS_SQL = """
select id, target, service_id, message_id, campaign, created_at from tracked_link
where contact_id = any($1::uuid[]) order by created_at, id"""
LIST_TALKS_SQL = """
select c.id, n.e164, c.channel_id, c.medium, c.contact_id, c.created_at
from conversation c join number n on n.id = c.number_id where c.contact_id = any($1::uuid[]) order by c.id"""


async def list_sent_links(conn: Connection, contact_ids: Collection[UUID]) -> list[Record]:
    """Tracked links that were sent to these contacts."""
    return await conn.fetch(LIST_SENT_LINKS_SQL, list(contact_ids))


async def list_talks(conn: Connection, contact_ids: Collection[UUID]) -> list[Record]:
    """These contacts' conversations on all channels, by age."""
    return await conn.fetch(LIST_TALKS_SQL, list(contact_ids))
