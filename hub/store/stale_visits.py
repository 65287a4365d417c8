"""What browsers left behind, and when it is forgotten (rule H6)."""

from datetime import timedelta
from typing import Final

from hub.store.pool import Connection

PRUNE_BATCH: Final = 1000
"""Rows that one prune deletes at most: who gets fewer is done."""
RECEIPT_AGE: Final = timedelta(days=1)
"""How long the spool may keep a click back that a page has shown the receipt of."""
VISITOR_AGE: Final = timedelta(days=400)
"""As long as a cookie lives."""

PRUNE_RECEIPTS_SQL = """
delete from page_receipt where (receipt_hash, visitor_id) in (
    select receipt_hash, visitor_id from page_receipt where received_at < now() - $1::interval limit $2)"""
PRUNE_TOKENS_SQL = """
delete from used_token where hash in (select hash from used_token where expires_at < now() limit $1)"""
# Who is looked at just now is left for the next time.
PRUNE_VISITORS_SQL = """
with old as materialized (
    select v.id from visitor v
    where v.seen_at < now() - $1::interval
      and not exists (select from visitor_binding b where b.visitor_id = v.id)
    order by v.seen_at limit $2 for update skip locked
), landings as (
    delete from landing where visitor_id in (select id from old)
), twins as (
    delete from visitor_twin where visitor_id in (select id from old)
), others as (
    delete from visitor_twin where twin_id in (select id from old)
)
delete from visitor where id in (select id from old)"""


async def prune_receipts(conn: Connection) -> int:
    """Forget one batch of receipts that no click came for; gives how many."""
    return _count(await conn.execute(PRUNE_RECEIPTS_SQL, RECEIPT_AGE, PRUNE_BATCH))


async def prune_tokens(conn: Connection) -> int:
    """Forget one batch of handles, keys and nonces that would not be taken any more anyway; gives how many."""
    return _count(await conn.execute(PRUNE_TOKENS_SQL, PRUNE_BATCH))


async def prune_visitors(conn: Connection) -> int:
    """Forget one batch of browsers that have not been seen for longer than a cookie lives and never were anybody's,
    with their landings; gives how many.
    """
    return _count(await conn.execute(PRUNE_VISITORS_SQL, VISITOR_AGE, PRUNE_BATCH))


def _count(tag: str) -> int:
    return int(tag.split()[-1])
