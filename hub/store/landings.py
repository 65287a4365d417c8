"""Landings: pages that show the receipt or key of a click, the clicks that they belong to, and what came of the two."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from hub.domain.stitching import KeptOut
from hub.store.pool import Connection, Record

_BACK: Final = timedelta(days=2)
"""How old a click is at most that is looked for: pages wait for theirs for a day. Older partitions are left alone."""

# Pages --------------------------------------------------------------------------------------------------------------

# One of 256 for what is proved, so that a page and its click that are stored at the same moment see each other: the
# second one waits until the first is committed.
LOCK_PROOFS_SQL = """
select pg_advisory_xact_lock(7011, bucket)
from (select distinct get_byte(hash, 0) as bucket from unnest($1::bytea[]) as p (hash) order by bucket) as l"""
LOCK_CLICKS_SQL = """
select pg_advisory_xact_lock(7011, bucket)
from (select distinct get_byte(hash, 0) as bucket from click, unnest(array[receipt_hash, key_hash]) as p (hash)
      where id = any($1::uuid[]) and at > $2 and hash is not null order by bucket) as l"""


async def lock_proofs(conn: Connection, hashes: Collection[bytes]) -> None:
    """Keep clicks and pages with these receipts and keys from being stored unseen; before all other locks."""
    await conn.execute(LOCK_PROOFS_SQL, list(hashes))


async def lock_clicks(conn: Connection, click_ids: Collection[UUID], now: datetime) -> None:
    """The same for the receipts and keys of these clicks."""
    await conn.execute(LOCK_CLICKS_SQL, list(click_ids), now - _BACK)


@dataclass(frozen=True, slots=True)
class Shown:
    """A document load that showed receipts and keys. `started_at`: when its tracker started."""

    visitor_id: UUID
    is_returning: bool
    site: str
    session: str
    started_at: datetime
    received_at: datetime
    receipts: Collection[bytes] = ()
    key: bytes | None = None

    @property
    def proofs(self) -> list[bytes]:
        """Hashes of all it showed."""
        return [*self.receipts, *([self.key] if self.key else [])]


# The latest page counts, for a receipt comes with every one of half an hour: an earlier one, which was open when the
# link was followed, was no landing.
ADD_SHOWN_SQL = """
insert into page_receipt (receipt_hash, visitor_id, is_key, is_returning, kind, site, session, started_at,
                          received_at)
select hash, $2, hash is not distinct from $8, $3, 'load', $4, $5, $6, $7
from unnest($1::bytea[]) as p (hash) order by hash
on conflict (receipt_hash, visitor_id) do update
set is_returning = page_receipt.is_returning or excluded.is_returning, site = excluded.site,
    session = excluded.session, started_at = excluded.started_at, received_at = excluded.received_at
where excluded.started_at > page_receipt.started_at"""


async def add_shown(conn: Connection, shown: Shown) -> None:
    """Keep a document load with what it showed, for the clicks that are there or come later."""
    await conn.execute(
        ADD_SHOWN_SQL, shown.proofs, shown.visitor_id, shown.is_returning, shown.site, shown.session, shown.started_at,
        shown.received_at, shown.key,
    )  # fmt: skip


HAS_SHOWN_SQL = "select exists (select from page_receipt where receipt_hash = $1 and visitor_id = $2)"


async def has_shown(conn: Connection, proof: bytes, visitor_id: UUID) -> bool:
    """Whether a page of this visitor has shown this receipt or key."""
    found: bool = await conn.fetchval(HAS_SHOWN_SQL, proof, visitor_id)
    return found


CONFIRM_SHOWN_SQL = """
update page_receipt set is_returning = true where visitor_id = $1 and not is_returning returning receipt_hash"""


async def confirm_shown(conn: Connection, visitor_id: UUID) -> list[bytes]:
    """The visitor's cookie has come back, so that its pages count; gives what they had shown."""
    return [row["receipt_hash"] for row in await conn.fetch(CONFIRM_SHOWN_SQL, visitor_id)]


# Clicks and their pages ---------------------------------------------------------------------------------------------

FIND_CLICKS_SQL = """
select id from click where receipt_hash = any($1::bytea[]) and at > $2
union
select id from click where key_hash = any($1::bytea[]) and at > $2"""


async def find_clicks(conn: Connection, proofs: Collection[bytes], now: datetime) -> list[UUID]:
    """The clicks that have these receipts or keys."""
    rows = await conn.fetch(FIND_CLICKS_SQL, list(proofs), now - _BACK)
    return [row["id"] for row in rows]


LIST_WAITING_SQL = """
select c.id as click_id, c.at as click_at, c.site as click_site, c.opted_out as click_opted_out, c.link_id,
       l.contact_id, l.message_id, l.created_at, l.destination_type, l.destination_value, l.disabled_at, l.suspect_at,
       l.claimed_by, p.visitor_id, p.is_key, p.is_returning, p.site as page_site, p.session, p.started_at,
       p.received_at
from click c
cross join lateral (
    select * from page_receipt p where p.receipt_hash = c.receipt_hash and not p.is_key
    union all
    select * from page_receipt p where p.receipt_hash = c.key_hash and p.is_key
) p
join tracked_link l on l.id = c.link_id
where c.id = any($1::uuid[]) and c.at > $2 and c.counts
  and not exists (select from landing d where d.click_id = c.id and d.visitor_id = p.visitor_id)
order by c.at, c.id, p.started_at, p.visitor_id"""


async def list_waiting(conn: Connection, click_ids: Collection[UUID], now: datetime) -> list[Record]:
    """Every page that shows one of these clicks of people, with click and link, unless that is decided already."""
    return await conn.fetch(LIST_WAITING_SQL, list(click_ids), now - _BACK)


# Landings -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Landing:
    """A click that ended on a page, and what it came to. `contact_id`: whose link it was, where that may be known."""

    click_id: UUID
    visitor_id: UUID
    link_id: UUID
    message_id: UUID | None
    contact_id: UUID | None
    session: str
    click_at: datetime
    landed_at: datetime
    outcome: str
    reason: str
    op_id: UUID | None


ADD_SQL = """
insert into landing (click_id, visitor_id, link_id, message_id, contact_id, session, click_at, landed_at, outcome,
                     reason, op_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"""


async def add(conn: Connection, one: Landing) -> None:
    """Store what a landing came to."""
    await conn.execute(
        ADD_SQL, one.click_id, one.visitor_id, one.link_id, one.message_id, one.contact_id, one.session, one.click_at,
        one.landed_at, one.outcome, one.reason, one.op_id,
    )  # fmt: skip


FIND_CLAIMANT_SQL = "select claimed_by from tracked_link where id = $1"


async def find_claimant(conn: Connection, link_id: UUID) -> UUID | None:
    """The visitor that claimed a link."""
    found: UUID | None = await conn.fetchval(FIND_CLAIMANT_SQL, link_id)
    return found


COUNT_VISITORS_SQL = """
select count(distinct visitor_id) from landing
where link_id = $1 and visitor_id <> all($2::uuid[]) and outcome <> all($3::text[])"""
_NOT_JUDGED: Final = ("not_a_person", "anonymous", "waiting", "no_consent")
"""Outcomes that say nothing of whose browser it is."""


async def count_visitors(conn: Connection, link_id: UUID, besides: Collection[UUID]) -> int:
    """How many visitors landed on a link, not counting those `besides`."""
    count: int = await conn.fetchval(COUNT_VISITORS_SQL, link_id, list(besides), list(_NOT_JUDGED))
    return count


LIST_KEPT_OUT_SQL = """
select click_at, coalesce(message_id, link_id) as message_id from landing
where visitor_id = any($1::uuid[]) and contact_id = any($2::uuid[]) and outcome = 'session_only' order by click_at"""


async def list_kept_out(
    conn: Connection, browser: Collection[UUID], contact_ids: Collection[UUID]
) -> Sequence[KeptOut]:
    """The clicks of a browser on links of these contacts that K4 kept to their session."""
    rows = await conn.fetch(LIST_KEPT_OUT_SQL, list(browser), list(contact_ids))
    return [KeptOut(row["click_at"], row["message_id"]) for row in rows]
