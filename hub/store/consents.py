"""The ledger of what customers want to be sent (rule E5). Only ever added to."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.consent import ConsentEvent, Kind, Source
from hub.store.pool import Connection, Record

NameKey = tuple[str, str, str]
"""Medium, and an address's type and match key: what an entry of the ledger is kept under."""


def erased_key(table: str) -> str:
    """SQL: what refusals of an address that was erased are kept under, for the `type` and `match_key` of a table."""
    return f"'erased:' || encode(sha256(convert_to({table}.type || ' ' || {table}.match_key, 'UTF8')), 'hex')"


def name_key(medium: str, address: Address) -> NameKey:
    """What entries about this address are kept under."""
    return medium, address.type, address.match_key


# Whoever is about to change what holds for a person waits here for others who are: each of a person's addresses is
# locked, by whichever of them the person came.
LOCK_SQL = """
with person as (
    select w.medium, a.contact_id
    from unnest($1::text[], $2::text[], $3::text[]) as w (medium, type, match_key)
    cross join lateral (
        select contact_id from contact_address a
        where a.type = w.type and a.match_key = w.match_key and (a.is_proved or a.is_declared) and a.removed_at is null
          and a.type in ('phone', 'user_id', 'email', 'sender_id')
        order by a.is_proved desc limit 1) a
    union
    select medium, contact_id from conversation where id = any($4::uuid[])
), name as (
    select * from unnest($1::text[], $2::text[], $3::text[]) as w (medium, type, match_key)
    union
    select p.medium, a.type, a.match_key
    from person p
    cross join lateral (
        select a.type, a.match_key from contact_address a
        where a.contact_id = p.contact_id and a.removed_at is null
          and a.type in ('phone', 'user_id', 'email', 'sender_id')
        offset 0) a
)
select pg_advisory_xact_lock(7008, hash)
from (select distinct hashtext(medium || ' ' || type || ' ' || match_key) as hash from name order by hash) as l"""


async def lock(conn: Connection, names: Collection[NameKey], conversations: Collection[UUID]) -> None:
    """Keep others from changing what holds for these people, to the end of the transaction: by an address of theirs, or
    a conversation with them. Before any conversation is locked (lock order).
    """
    if names or conversations:
        media, types, keys = zip(*sorted(names), strict=True) if names else ((), (), ())
        await conn.execute(LOCK_SQL, media, types, keys, list(conversations))


LIST_CONVERSATIONS_SQL = """
select c.id from unnest($1::text[], $2::uuid[], $3::bigint[]) as w (medium, contact_id, number_id)
cross join lateral (
    select id from conversation c
    where c.contact_id = w.contact_id and c.medium = w.medium and c.number_id = coalesce(w.number_id, c.number_id)
    offset 0) c"""


async def list_conversations(conn: Connection, wanted: Collection[tuple[str, UUID, int | None]]) -> set[UUID]:
    """All conversations over a medium with a contact, on one number or (None) on all."""
    if not wanted:
        return set()
    return {row["id"] for row in await conn.fetch(LIST_CONVERSATIONS_SQL, *map(list, zip(*wanted, strict=True)))}


LIST_SIBLINGS_SQL = """
select o.id from conversation c
cross join lateral (
    select id from conversation o where o.contact_id = c.contact_id and o.medium = c.medium offset 0) o
where c.id = any($1::uuid[])"""


async def list_siblings(conn: Connection, conversations: Collection[UUID]) -> set[UUID]:
    """These conversations, and all others with the same people over the same medium."""
    return {row["id"] for row in await conn.fetch(LIST_SIBLINGS_SQL, list(conversations))} if conversations else set()


LIST_CHANNELS_SQL = """
select n.id as number_id, n.e164, c.id as channel_id
from number n join channel c on c.number_id = n.id
where ($2::bigint is null or n.id = $2)
  and exists (select from sender s where s.number_id = n.id and s.medium = $1 and s.is_active)
  and exists (select from subscription u where u.channel_id = c.id and u.disconnected_at is null)
order by c.id"""


async def list_channels(conn: Connection, medium: str, number_id: int | None) -> list[Record]:
    """Channels somebody is connected to, over numbers with this medium: one number's, or (None) all."""
    return await conn.fetch(LIST_CHANNELS_SQL, medium, number_id)


def is_over(match_key: str) -> str:
    """SQL: whether an entry `e` is that a number was given up, and somebody with this match key has written since."""
    return f"""(e.kind = 'replaced' and exists (
    select from contact_address p join conversation t on t.contact_id = p.contact_id
    where p.type = e.address_type and p.match_key = {match_key} and p.is_proved and p.removed_at is null
      and t.last_customer_at > e.at))"""


FIND_SQL = f"""
select w.medium, w.type, w.match_key, e.id, e.kind, e.number_id, e.source, e.evidence is not null as has_evidence, e.at,
       {is_over("w.match_key")} as is_over
from unnest($1::text[], $2::text[], $3::text[]) as w (medium, type, match_key)
cross join lateral (
    select * from consent_event e
    where e.medium = w.medium and e.address_type = w.type and e.address_key = any(array[w.match_key, {erased_key("w")}])
      and (e.op_id is null or not exists (select from identity_op o where o.id = e.op_id and o.undone_at is not null))
    offset 0) e
order by e.id"""


async def find(conn: Connection, names: Collection[NameKey]) -> list[tuple[NameKey, ConsentEvent]]:
    """What was ever said about these addresses, oldest first; not what came with an operation that was undone."""
    if not names:
        return []
    rows = await conn.fetch(FIND_SQL, *map(list, zip(*names, strict=True)))
    return [
        (
            (row["medium"], row["type"], row["match_key"]),
            ConsentEvent(row["kind"], row["number_id"], row["source"], row["at"], row["has_evidence"], row["is_over"]),
        )
        for row in rows
    ]


HISTORY_SQL = f"""
select e.id, e.kind, e.source, e.number_id, n.e164, e.service_id, s.name as service_name, e.evidence, e.at
from unnest($1::text[], $2::text[], $3::text[]) as w (medium, type, match_key)
cross join lateral (
    select * from consent_event e
    where e.medium = w.medium and e.address_type = w.type and e.address_key = any(array[w.match_key, {erased_key("w")}])
      and (e.op_id is null or not exists (select from identity_op o where o.id = e.op_id and o.undone_at is not null))
    offset 0) e
left join number n on n.id = e.number_id
left join service s on s.id = e.service_id
order by e.id"""


async def list_history(conn: Connection, names: Collection[NameKey]) -> list[Record]:
    """The same with who said it, to be shown."""
    return await conn.fetch(HISTORY_SQL, *map(list, zip(*names, strict=True))) if names else []


@dataclass(frozen=True, slots=True)
class LedgerDraft:
    """An entry to be written. `op_id`: the identity operation it comes with, whose undo takes it back."""

    medium: str
    address: Address
    number_id: int | None
    kind: Kind
    source: Source
    at: datetime
    service_id: UUID | None = None
    message_id: UUID | None = None
    evidence: str | None = None
    op_id: UUID | None = None


COLUMNS: Final = (
    "medium", "address_type", "address_key", "address_value", "number_id", "kind", "source", "service_id",
    "message_id", "evidence", "at", "op_id",
)  # fmt: skip


async def add(conn: Connection, drafts: Sequence[LedgerDraft]) -> None:
    """Write entries, in this order; the caller holds `lock`."""
    if drafts:
        await conn.copy_records_to_table("consent_event", records=map(_row, drafts), columns=COLUMNS)


def _row(d: LedgerDraft) -> tuple[Any, ...]:
    return (
        d.medium, d.address.type, d.address.match_key, d.address.value, d.number_id, d.kind, d.source, d.service_id,
        d.message_id, d.evidence, d.at, d.op_id,
    )  # fmt: skip


# Up to whom a contact goes on as, and down to all that were merged into that. What merely a browser said an address is
# of grants nothing, but a refusal kept under it counts.
TRACKING_SQL = f"""
with recursive up as (
    select w.id as asked, c.id, c.merged_into
    from unnest($1::uuid[]) as w (id) cross join lateral (select * from contact where id = w.id offset 0) c
    union
    select up.asked, c.id, c.merged_into
    from up cross join lateral (select * from contact where id = up.merged_into offset 0) c
), person as (
    select asked, id from up where merged_into is null
    union
    select p.asked, c.id from person p cross join lateral (select id from contact where merged_into = p.id offset 0) c
)
select p.asked, c.id, c.erased_at, e.kind, e.source, e.at, e.evidence is not null as has_evidence,
       {is_over("a.match_key")} as is_over
from person p cross join lateral (select * from contact where id = p.id offset 0) c
left join lateral (
    select a.type, a.match_key, a.is_proved or a.is_declared and not exists (
        select from contact_address o
        where o.type = a.type and o.match_key = a.match_key and o.is_proved and o.removed_at is null) as is_confirmed
    from contact_address a where a.contact_id = c.id and a.removed_at is null offset 0) a on true
left join lateral (
    select * from consent_event e
    where e.medium = 'tracking' and e.address_type = a.type
      and e.address_key = any(array[a.match_key, {erased_key("a")}])
      and (a.is_confirmed or e.kind = 'revoked')
      and (e.op_id is null or not exists (select from identity_op o where o.id = e.op_id and o.undone_at is not null))
    offset 0) e on true
order by e.id"""


async def list_tracking(conn: Connection, contact_ids: Collection[UUID]) -> dict[UUID, dict[UUID, list[ConsentEvent]]]:
    """What was said of tracking, for each contact that is part of the profile of each of these; those that there are
    not, or that were erased, are left out.
    """
    found: dict[UUID, dict[UUID, list[ConsentEvent]]] = {}
    erased = set()
    for row in await conn.fetch(TRACKING_SQL, list(contact_ids)) if contact_ids else ():
        if row["erased_at"]:
            erased.add(row["asked"])
        said = found.setdefault(row["asked"], {}).setdefault(row["id"], [])
        if row["kind"]:
            said.append(ConsentEvent(row["kind"], None, row["source"], row["at"], row["has_evidence"], row["is_over"]))
    return {asked: people for asked, people in found.items() if asked not in erased}
