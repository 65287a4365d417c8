"""Merge candidates: pairs of contacts that may be one person; settled where they are one profile by now (rules I)."""

from collections.abc import Collection
from uuid import UUID

from hub.store.pool import Connection, Record

ADD_SQL = """
insert into merge_candidate (id, contact_id, other_contact_id, reason, own_is_proper, is_proper)
values ($1, least($2::uuid, $3::uuid), greatest($2::uuid, $3::uuid), $4, null, $5)
on conflict (contact_id, other_contact_id) where settled_at is null do update set reason = merge_candidate.reason
returning id"""
ADD_OP_SQL = """
insert into merge_candidate_op (candidate_id, op_id, reason, is_proper) values ($1, $2, $3, $4)
on conflict do nothing"""
SUM_UP_SQL = """
update merge_candidate c
set is_proper = coalesce(c.own_is_proper, false) or coalesce(o.is_proper, false),
    reason = case when c.own_is_proper is null then o.reason else c.reason end
from (select bool_or(is_proper) as is_proper, (array_agg(reason order by op_id))[1] as reason
      from merge_candidate_op where candidate_id = $1) as o
where c.id = $1"""


async def suggest(
    conn: Connection, candidate_id: UUID, op_id: UUID, pair: tuple[UUID, UUID], reason: str, *, is_proper: bool
) -> UUID:
    """An operation says that two contacts may be one person; gives the candidate, the one there is where there is one.
    `is_proper`: not on the word of a browser alone.
    """
    known: UUID = await conn.fetchval(ADD_SQL, candidate_id, *pair, reason, is_proper)
    await conn.execute(ADD_OP_SQL, known, op_id, reason, is_proper)
    await conn.execute(SUM_UP_SQL, known)
    return known


DROP_OP_SQL = "delete from merge_candidate_op where candidate_id = $1 and op_id = $2"
DROP_SQL = """
delete from merge_candidate c
where id = $1 and own_is_proper is null and not exists (select from merge_candidate_op where candidate_id = c.id)"""


async def withdraw(conn: Connection, candidate_id: UUID, op_id: UUID) -> None:
    """An operation does not say so any more; without anybody who does there is no candidate."""
    await conn.execute(DROP_OP_SQL, candidate_id, op_id)
    await conn.execute(DROP_SQL, candidate_id)
    await conn.execute(SUM_UP_SQL, candidate_id)


_ROOTS = """
with recursive pair as (
    select id, contact_id, other_contact_id, settled_at, contact_id as a, other_contact_id as b
    from merge_candidate where contact_id = any($1::uuid[]) or other_contact_id = any($1::uuid[])
), step as (
    select id, a, b from pair
    union
    select s.id, coalesce(x.merged_into, s.a), coalesce(y.merged_into, s.b)
    from step s join contact x on x.id = s.a join contact y on y.id = s.b
), root as (
    select s.id, s.a = s.b as is_one
    from step s join contact x on x.id = s.a and x.merged_into is null
    join contact y on y.id = s.b and y.merged_into is null)"""
SETTLE_SQL = f"""{_ROOTS}
update merge_candidate c set settled_at = case when r.is_one then now() end
from root r where c.id = r.id and (c.settled_at is not null) <> r.is_one"""


async def settle(conn: Connection, contact_ids: Collection[UUID]) -> None:
    """Candidates of these contacts are settled where the two are one profile now, and open where they are not."""
    await conn.execute(SETTLE_SQL, list(contact_ids))


_OF_OP = """
select c.id, c.contact_id, c.other_contact_id, c.reason, c.is_proper, c.created_at
from merge_candidate_op o join merge_candidate c on c.id = o.candidate_id
where o.op_id = $1"""
LIST_OF_OP_SQL = f"{_OF_OP} order by c.id"


async def list_of_op(conn: Connection, op_id: UUID) -> list[Record]:
    """The candidates that an operation suggests."""
    return await conn.fetch(LIST_OF_OP_SQL, op_id)


LIST_NEW_SQL = f"""
{_OF_OP} and c.own_is_proper is null
  and not exists (select from merge_candidate_op e where e.candidate_id = c.id and e.op_id <> $1)
order by c.id"""


async def list_new(conn: Connection, op_id: UUID) -> list[Record]:
    """The candidates that this operation alone suggests."""
    return await conn.fetch(LIST_NEW_SQL, op_id)


# Either contact as the profile that it is by now; a service sees the pairs of which it may know both (H5).
_SHOWN = """
select c.id, c.contact_id, c.other_contact_id, c.reason, c.is_proper, c.created_at
from merge_candidate c
join contact a on a.id = c.contact_id and a.erased_at is null
join contact b on b.id = c.other_contact_id and b.erased_at is null
where c.settled_at is null and c.id > $1"""
LIST_SQL = f"{_SHOWN} order by c.id limit $2"
_SEEN = """
with recursive up as (
    select id, merged_into from contact where id = {contact}
    union
    select x.id, x.merged_into from up join contact x on x.id = up.merged_into
), person as (
    select id from up
    union
    select x.id from person p join contact x on x.merged_into = p.id)
select from person p
where exists (select from contact_knower k where k.contact_id = p.id and k.service_id = $3)
   or exists (select from conversation v join subscription s on s.channel_id = v.channel_id
              where v.contact_id = p.id and s.service_id = $3 and s.disconnected_at is null)"""
_SEEN_BOTH = " and ".join(f"exists ({_SEEN.format(contact=name)})" for name in ("c.contact_id", "c.other_contact_id"))
LIST_SEEN_SQL = f"{_SHOWN} and {_SEEN_BOTH} order by c.id limit $2"


async def list_open(conn: Connection, service_id: UUID | None, after: UUID, limit: int) -> list[Record]:
    """Candidates that are not settled, by age, from after this one on: those whose contacts a service may know both of,
    or (None) all.
    """
    if service_id is None:
        return await conn.fetch(LIST_SQL, after, limit)
    return await conn.fetch(LIST_SEEN_SQL, after, limit, service_id)
