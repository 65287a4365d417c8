"""Clicks on tracked links: stored many at a time, or kept on disk while the database is away."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.store.pool import Connection
from hub.store.spool import EntrySpool


@dataclass(slots=True)
class Click:
    """One request to a tracked link, with its verdict. `receipt_hash`, `key_hash`: SHA-256 of what the browser got;
    `prefix`: the /24 or /48 it came from; `makes_suspect`: the link is, from now on (K4).
    """

    id: UUID
    at: datetime
    link_id: UUID
    kind: str
    reason: str
    counts: bool
    visitor_id: UUID | None
    receipt_hash: bytes | None
    key_hash: bytes | None
    site: str | None
    opted_out: bool
    user_agent: str | None
    prefix: str
    makes_suspect: bool


class ClickSpool(EntrySpool[Click]):
    """Clicks that the database has not, or may not have."""

    def pack(self, entry: Click) -> dict[str, Any]:
        """The click as JSON holds it."""
        return {
            "id": entry.id.hex,
            "at": entry.at.isoformat(),
            "link": entry.link_id.hex,
            "kind": entry.kind,
            "reason": entry.reason,
            "counts": entry.counts,
            "visitor": entry.visitor_id and entry.visitor_id.hex,
            "receipt": entry.receipt_hash and entry.receipt_hash.hex(),
            "key": entry.key_hash and entry.key_hash.hex(),
            "site": entry.site,
            "opted_out": entry.opted_out,
            "agent": entry.user_agent,
            "prefix": entry.prefix,
            "suspect": entry.makes_suspect,
        }

    def unpack(self, kept: dict[str, Any]) -> Click:
        """The click again."""
        visitor, receipt, key = kept["visitor"], kept["receipt"], kept["key"]
        return Click(
            id=UUID(kept["id"]),
            at=datetime.fromisoformat(kept["at"]),
            link_id=UUID(kept["link"]),
            kind=kept["kind"],
            reason=kept["reason"],
            counts=kept["counts"],
            visitor_id=UUID(visitor) if visitor else None,
            receipt_hash=bytes.fromhex(receipt) if receipt else None,
            key_hash=bytes.fromhex(key) if key else None,
            site=kept["site"],
            opted_out=kept["opted_out"],
            user_agent=kept["agent"],
            prefix=kept["prefix"],
            makes_suspect=kept["suspect"],
        )


_COLUMNS: Final = """id, at, link_id, kind, reason, counts, visitor_id, receipt_hash, key_hash, site, opted_out,
                   user_agent"""
_GIVEN: Final = f"""
    from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::boolean[], $7::uuid[],
                $8::bytea[], $9::bytea[], $10::text[], $11::boolean[], $12::text[], $13::text[])
        as given({_COLUMNS}, prefix)"""
# Links and visitors are in order, lest two batches wait for each other's.
_ALONG: Final = """visitors as (
    insert into visitor (id, created_at, seen_at)
    select visitor_id, min(at), min(at) from given where visitor_id is not null group by visitor_id order by visitor_id
    on conflict do nothing
), suspects as (
    update tracked_link l set suspect_at = found.at
    from (select id, $15::timestamptz as at from tracked_link where id = any($14::uuid[]) order by id
          for no key update) found
    where l.id = found.id and l.suspect_at is null
)"""

# The ids of new clicks are new, and so nothing has to be looked for.
ADD_CLICKS_SQL = f"""
with given as (
    select * {_GIVEN}
), origins as (
    insert into click_origin (click_id, at, prefix) select id, at, prefix::cidr from given
), untold as (
    insert into click_untold (click_id, at, link_id) select id, at, link_id from given where counts
), {_ALONG}
insert into click ({_COLUMNS})
select {_COLUMNS}
from given"""


async def add_clicks(conn: Connection, clicks: Sequence[Click]) -> None:
    """Store new clicks. One statement, durable when it returns if no transaction is open."""
    await conn.execute(ADD_CLICKS_SQL, *_columns(clicks))


# Those that the database has after all are left alone, with all that was written along with them.
REPLAY_CLICKS_SQL = f"""
with given as materialized (
    select distinct on (id) * {_GIVEN}
), stored as (
    insert into click ({_COLUMNS})
    select {_COLUMNS}
    from given order by id
    on conflict (id, at) do nothing
    returning id, at, link_id, counts
), origins as (
    insert into click_origin (click_id, at, prefix)
    select s.id, s.at, g.prefix::cidr from stored s join given g on g.id = s.id
), untold as (
    insert into click_untold (click_id, at, link_id) select id, at, link_id from stored where counts
), {_ALONG}
select id from stored"""


async def replay_clicks(conn: Connection, clicks: Sequence[Click]) -> int:
    """Store clicks of which some may be stored already, each once; gives how many were not."""
    return len(await conn.fetch(REPLAY_CLICKS_SQL, *_columns(clicks)))


LIST_AWAITED_SQL = "select distinct receipt_hash from page_receipt where receipt_hash = any($1::bytea[])"


async def list_awaited(conn: Connection, clicks: Sequence[Click]) -> list[UUID]:
    """Those of these clicks whose page was there before them."""
    proofs = proofs_of(clicks)
    rows = await conn.fetch(LIST_AWAITED_SQL, list(proofs)) if proofs else []
    return [proofs[row["receipt_hash"]] for row in rows]


def proofs_of(clicks: Sequence[Click]) -> dict[bytes, UUID]:
    """The clicks that browsers can prove, by the hashes of what they got for it."""
    return {proof: click.id for click in clicks for proof in (click.receipt_hash, click.key_hash) if proof}


MAKE_CLICK_DAYS_SQL = """
select make_partition(parent::regclass, parent || '_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00',
                      day + 1 || ' 00:00:00+00')
from unnest(array['click', 'click_origin']) parent, unnest($1::date[]) day"""


async def make_click_days(conn: Connection, clicks: Sequence[Click]) -> None:
    """The partitions these clicks need: those that waited for long may be of days that were never made."""
    await conn.execute(MAKE_CLICK_DAYS_SQL, sorted({click.at.date() for click in clicks}))


def _columns(clicks: Sequence[Click]) -> tuple[Any, ...]:
    return (
        [click.id for click in clicks],
        [click.at for click in clicks],
        [click.link_id for click in clicks],
        [click.kind for click in clicks],
        [click.reason for click in clicks],
        [click.counts for click in clicks],
        [click.visitor_id for click in clicks],
        [click.receipt_hash for click in clicks],
        [click.key_hash for click in clicks],
        [click.site for click in clicks],
        [click.opted_out for click in clicks],
        [click.user_agent for click in clicks],
        [click.prefix for click in clicks],
        sorted({click.link_id for click in clicks if click.makes_suspect}),
        max(click.at for click in clicks),
    )
