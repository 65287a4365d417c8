"""Overwriting all that says anything of a customer (rule H5). Whoever calls holds the locks; ids and order stay.

What has no index for it is looked through: an erasure is rare, and none of these tables is kept for long.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.erasing import CONTENT
from hub.store.consents import erased_key
from hub.store.pool import Connection, Record

PATIENCE: Final = 300.0
"""Seconds that one statement may take."""

# What there is ------------------------------------------------------------------------------------------------------

LIST_ADDRESSES_SQL = """
select type, value from contact_address
where contact_id = any($1::uuid[]) and value <> '' group by type, value order by min(id)"""
LIST_VISITORS_SQL = "select distinct visitor_id from visitor_binding where contact_id = any($1::uuid[])"
LIST_LINKS_SQL = "select id from tracked_link where contact_id = any($1::uuid[])"
LIST_CONVERSATIONS_SQL = "select id from conversation where contact_id = any($1::uuid[])"


async def list_addresses(conn: Connection, contact_ids: Collection[UUID]) -> list[Address]:
    """Every address these contacts have or had."""
    rows = await conn.fetch(LIST_ADDRESSES_SQL, list(contact_ids))
    return [Address(row["type"], row["value"]) for row in rows]


async def list_visitors(conn: Connection, contact_ids: Collection[UUID]) -> set[UUID]:
    """Visitors that were ever bound to these contacts."""
    return {row["visitor_id"] for row in await conn.fetch(LIST_VISITORS_SQL, list(contact_ids))}


async def list_links(conn: Connection, contact_ids: Collection[UUID]) -> set[UUID]:
    """Tracked links to these contacts."""
    return {row["id"] for row in await conn.fetch(LIST_LINKS_SQL, list(contact_ids))}


async def list_conversations(conn: Connection, contact_ids: Collection[UUID]) -> list[UUID]:
    """Conversations with these contacts."""
    return [row["id"] for row in await conn.fetch(LIST_CONVERSATIONS_SQL, list(contact_ids))]


LIST_OPS_SQL = """
select position from identity_op
where contact_id = any($1::uuid[])
   or position in (select position from identity_op_thing where thing = any($2::text[]))
order by position"""
LOCK_OPS_SQL = f"{LIST_OPS_SQL} for update"
LOCK_NEW_OPS_SQL = f"{LOCK_OPS_SQL} skip locked"


async def lock_operations(conn: Connection, contact_ids: Collection[UUID]) -> None:
    """Keep the operations about these contacts from being undone; before every other lock, as whoever undoes one."""
    await conn.execute(LOCK_OPS_SQL, *_about(contact_ids))


async def lock_new_operations(conn: Connection, contact_ids: Collection[UUID]) -> bool:
    """The same with those that came while other locks were waited for; False where somebody is undoing one of them, who
    must not be waited for by now.
    """
    about = _about(contact_ids)
    return len(await conn.fetch(LOCK_NEW_OPS_SQL, *about)) == len(await conn.fetch(LIST_OPS_SQL, *about))


def _about(contact_ids: Collection[UUID]) -> tuple[list[UUID], list[str]]:
    return list(contact_ids), [f"contact:{contact.hex}" for contact in contact_ids]


# Messages -----------------------------------------------------------------------------------------------------------

TAKE_SCHEDULED_SQL = "delete from schedule where conversation_id = any($1::uuid[]) returning message_id"
# Only what no sender has claimed: a claimed message may be with the provider already.
TAKE_QUEUED_SQL = """
delete from outbox where conversation_id = any($1::uuid[]) and claimed_by is null and held_until is null
returning message_id"""


async def take_waiting(conn: Connection, conversations: Collection[UUID]) -> list[UUID]:
    """Take what waits to be sent in these conversations out of the queues; the schedule first: it feeds the other."""
    rows = await conn.fetch(TAKE_SCHEDULED_SQL, list(conversations))
    rows += await conn.fetch(TAKE_QUEUED_SQL, list(conversations))
    return [row["message_id"] for row in rows]


DROP_ORPHANS_SQL = """
delete from orphan_status o using message m
where m.conversation_id = any($1::uuid[])
  and (o.hub_id = m.id or (o.provider, o.provider_id) = (m.provider, m.provider_id))"""
FORGET_STATUSES_SQL = """
update message_status s set details = null from message m
where m.id = s.message_id and m.conversation_id = any($1::uuid[]) and s.details is not null"""
FORGET_FORMS_SQL = """
delete from sent_form f using message m where m.id = f.message_id and m.conversation_id = any($1::uuid[])"""
# Providers' ids hold the customer's number; one that is not null keeps reports from being taken for this message's, and
# the sender from handing it over again.
FORGET_MESSAGES_SQL = """
update message set content = $2, raw = null, error = null, segments = null, untracked_segments = null,
                   provider_id = 'erased:' || id
where conversation_id = any($1::uuid[])"""
DROP_PASSES_SQL = "delete from passed_conversation where conversation_id = any($1::uuid[])"
DROP_PICKUPS_SQL = "delete from pickup where conversation_id = any($1::uuid[])"


async def forget_messages(conn: Connection, conversations: Collection[UUID]) -> None:
    """Overwrite what was said in these conversations."""
    ids = list(conversations)
    for sql in (DROP_ORPHANS_SQL, FORGET_STATUSES_SQL, FORGET_FORMS_SQL, DROP_PASSES_SQL, DROP_PICKUPS_SQL):
        await conn.execute(sql, ids, timeout=PATIENCE)
    await conn.execute(FORGET_MESSAGES_SQL, ids, CONTENT, timeout=PATIENCE)


CLOSE_SQL = """
update conversation set reply_to_value = '', sends_to = null, last_customer_at = null, picked_up_by = null,
                        generation = generation + 1
where id = any($1::uuid[])"""


async def close_conversations(conn: Connection, conversations: Collection[UUID]) -> None:
    """Nothing can be sent in them any more, and what processes remember of them is out of date."""
    await conn.execute(CLOSE_SQL, list(conversations))


# The log, quarantine, answers -----------------------------------------------------------------------------------------

LIST_EVENTS_SQL = """
select id, data from event where coalesce(conversation_id, channel_id) = any($1::uuid[]) and id > $2
order by id limit $3"""
# Of channels' own events those that name the customer.
LIST_CHANNEL_EVENTS_SQL = """
select id, data from event
where coalesce(conversation_id, channel_id) in (select id from channel) and id > $2
  and exists (select from unnest($1::text[]) as t (trace) where strpos(data, t.trace) > 0)
order by id limit $3"""
WRITE_EVENTS_SQL = """
update event set data = w.data, picked_up_by = null from unnest($1::bigint[], $2::text[]) as w (id, data)
where event.id = w.id"""
BATCH: Final = 2000


async def list_events(conn: Connection, conversations: Collection[UUID], after: int) -> list[Record]:
    """One batch of these conversations' events beyond an id."""
    return await conn.fetch(LIST_EVENTS_SQL, list(conversations), after, BATCH, timeout=PATIENCE)


async def list_channel_events(conn: Connection, traces: Collection[str], after: int) -> list[Record]:
    """One batch of events of no conversation that hold one of these texts."""
    return await conn.fetch(LIST_CHANNEL_EVENTS_SQL, list(traces), after, BATCH, timeout=PATIENCE)


async def write_events(conn: Connection, datas: Mapping[int, str]) -> None:
    """Overwrite events' data."""
    await conn.execute(WRITE_EVENTS_SQL, list(datas), list(datas.values()), timeout=PATIENCE)


FORGET_QUARANTINE_SQL = """
update quarantine set raw = '', detail = 'erased (rule H5)',
                      state = case when state = 'open' then 'noted' else state end
where exists (
    select from unnest($1::text[]) as t (trace) where position(convert_to(t.trace, 'UTF8') in raw) > 0
       or strpos(detail, t.trace) > 0)"""
LIST_ANSWERS_SQL = """
select service_id, route, key, answer from idempotency_key
where answer is not null and exists (select from unnest($1::text[]) as t (trace) where strpos(answer, t.trace) > 0)"""
WRITE_ANSWER_SQL = "update idempotency_key set answer = $4 where service_id = $1 and route = $2 and key = $3"


async def forget_quarantine(conn: Connection, traces: Collection[str]) -> None:
    """Overwrite what could not be taken in and holds one of these texts."""
    if traces:
        await conn.execute(FORGET_QUARANTINE_SQL, list(traces), timeout=PATIENCE)


async def list_answers(conn: Connection, traces: Collection[str]) -> list[Record]:
    """Answers kept for repeated requests that hold one of these texts."""
    return await conn.fetch(LIST_ANSWERS_SQL, list(traces), timeout=PATIENCE)


async def write_answer(conn: Connection, row: Record, answer: str) -> None:
    """Overwrite one."""
    await conn.execute(WRITE_ANSWER_SQL, row["service_id"], row["route"], row["key"], answer)


# Web ----------------------------------------------------------------------------------------------------------------

DROP_VISITS_SQL = """
delete from web_event v using visitor_binding b
where b.contact_id = any($1::uuid[]) and b.retracted_at is null and v.visitor_id = b.visitor_id
  and v.at >= lower(b.period) and v.at < coalesce(upper(b.period), 'infinity')"""
DROP_BINDINGS_SQL = "delete from visitor_binding where contact_id = any($1::uuid[])"
DROP_ORIGINS_SQL = """
delete from click_origin o using click c, tracked_link t
where t.contact_id = any($1::uuid[]) and c.link_id = t.id and o.click_id = c.id and o.at = c.at"""
FORGET_CLICKS_SQL = """
update click c set visitor_id = null, receipt_hash = null, key_hash = null, user_agent = null
from tracked_link t where t.contact_id = any($1::uuid[]) and c.link_id = t.id"""
FORGET_LANDINGS_SQL = "update landing set contact_id = null, op_id = null where contact_id = any($1::uuid[])"
FORGET_LINKS_SQL = """
update tracked_link set contact_id = null, destination_type = null, destination_value = null
where contact_id = any($1::uuid[])"""


async def forget_web(conn: Connection, contact_ids: Collection[UUID]) -> None:
    """Visits are dropped with the bindings that made them the contact's; links go on, and identify nobody."""
    ids = list(contact_ids)
    for sql in (
        DROP_VISITS_SQL, DROP_BINDINGS_SQL, DROP_ORIGINS_SQL, FORGET_CLICKS_SQL, FORGET_LANDINGS_SQL, FORGET_LINKS_SQL,
    ):  # fmt: skip
        await conn.execute(sql, ids, timeout=PATIENCE)


# Who they were --------------------------------------------------------------------------------------------------------

FORGET_ADDRESSES_SQL = """
update contact_address set value = '', match_key = '', removed_at = coalesce(removed_at, now())
where contact_id = any($1::uuid[])"""
DROP_TRAITS_SQL = "delete from contact_trait where contact_id = any($1::uuid[])"
DROP_IDENTITIES_SQL = "delete from contact_identity where contact_id = any($1::uuid[])"
DROP_KNOWERS_SQL = "delete from contact_knower where contact_id = any($1::uuid[])"
DROP_CANDIDATES_SQL = """
delete from merge_candidate where contact_id = any($1::uuid[]) or other_contact_id = any($1::uuid[])"""
DROP_FLAGS_SQL = "delete from identity_flag where subject = 'contact' and subject_id = any($1::uuid[])"
FORGET_CONTACTS_SQL = "update contact set name = null, erased_at = $2 where id = any($1::uuid[])"
# Which contacts and visitors operations were about stays, so that nothing they rest on is undone; what they wrote does
# not, nor the hashes of addresses, which a list of all numbers would turn back.
DROP_HASHES_SQL = """
delete from identity_op_thing
where thing like 'address:%' and position in (
    select position from identity_op where contact_id = any($1::uuid[])
    union select position from identity_op_thing where thing = any($2::text[]))"""
FORGET_OPS_SQL = """
update identity_op set changes = '[]', visitor_id = null
where contact_id = any($1::uuid[])
   or position in (select position from identity_op_thing where thing = any($2::text[]))"""


async def forget_person(conn: Connection, contact_ids: Collection[UUID], now: datetime) -> None:
    """Addresses, names, traits, ids of services, suggestions, and what the ledger of identity says of them."""
    ids = list(contact_ids)
    for sql in (
        FORGET_ADDRESSES_SQL, DROP_TRAITS_SQL, DROP_IDENTITIES_SQL, DROP_KNOWERS_SQL, DROP_CANDIDATES_SQL,
        DROP_FLAGS_SQL,
    ):  # fmt: skip
        await conn.execute(sql, ids)
    await conn.execute(FORGET_CONTACTS_SQL, ids, now)
    await conn.execute(DROP_HASHES_SQL, *_about(ids))
    await conn.execute(FORGET_OPS_SQL, *_about(ids))


DROP_CONSENTS_SQL = f"""
delete from consent_event e using unnest($1::text[], $2::text[]) as w (type, match_key)
where e.medium in ('whatsapp', 'sms', 'email', 'tracking') and e.address_type = w.type
  and e.address_key = any(array[w.match_key, {erased_key("w")}])"""
# Kept under a hash: it holds for who comes with the address, and tells nobody the address.
ADD_REFUSALS_SQL = f"""
insert into consent_event (medium, address_type, address_key, address_value, number_id, kind, source, at)
select medium, type, {erased_key("r")}, '', number_id, kind, 'operator', now()
from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])
     with ordinality as r (medium, type, match_key, number_id, kind, n) order by n"""


async def forget_consents(
    conn: Connection, addresses: Collection[Address], refused: Sequence[tuple[str, Address, int | None, str]]
) -> None:
    """Drop all that was said about these addresses; what is refused (medium, address, number, kind) still is."""
    if addresses:
        await conn.execute(DROP_CONSENTS_SQL, [a.type for a in addresses], [a.match_key for a in addresses])
    if refused:
        rows = [(medium, a.type, a.match_key, number, kind) for medium, a, number, kind in refused]
        await conn.execute(ADD_REFUSALS_SQL, *map(list, zip(*rows, strict=True)))


# What one service brought ---------------------------------------------------------------------------------------------

DROP_OWN_TRAITS_SQL = "delete from contact_trait where contact_id = any($1::uuid[]) and service_id = $2 returning name"
DROP_OWN_IDS_SQL = """
delete from contact_identity where contact_id = any($1::uuid[]) and service_id = $2 returning external_id"""


async def forget_own(conn: Connection, contact_ids: Collection[UUID], service_id: UUID) -> tuple[int, int]:
    """Drop what a service calls these contacts and says of them; gives how many ids and traits."""
    ids = await conn.fetch(DROP_OWN_IDS_SQL, list(contact_ids), service_id)
    traits = await conn.fetch(DROP_OWN_TRAITS_SQL, list(contact_ids), service_id)
    return len(ids), len(traits)
