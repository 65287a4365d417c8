"""What each service asked to see and shared, from when on (rule C2)."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from hub.domain.masking import Policy, PolicyBook, Sharing
from hub.store.pool import Connection

ADD_VISIBILITY_SQL = """
insert into visibility (channel_id, service_id, display, share, share_with, since) values ($1, $2, $3, $4, $5, $6)"""


async def add_visibility(
    conn: Connection, channel_id: UUID, service_id: UUID, display: str, share: str, share_with: Sequence[UUID],
    since: datetime,
) -> None:  # fmt: skip
    """From `since` on a service asks for this and shares that; the caller has resolved the channel's default."""
    await conn.execute(ADD_VISIBILITY_SQL, channel_id, service_id, display, share, share_with, since)


LIST_POLICIES_SQL = """
select channel_id, service_id, display, share, share_with, since from visibility
where $1::uuid[] is null or channel_id = any($1) order by id"""


async def read_policies(conn: Connection, channels: Collection[UUID] | None = None) -> PolicyBook:
    """All policies of these channels, or of all channels, those of services that left included (C2)."""
    book: dict[tuple[UUID, UUID], list[Policy]] = {}
    for row in await conn.fetch(LIST_POLICIES_SQL, None if channels is None else list(channels)):
        policy = Policy(row["since"], row["display"], Sharing(row["share"], frozenset(row["share_with"])))
        book.setdefault((row["channel_id"], row["service_id"]), []).append(policy)
    return book
