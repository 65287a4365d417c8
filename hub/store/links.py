"""Tracked links: where they lead, whom they were made for, and what they were sent in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.link_tokens import digest
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class LinkDraft:
    """A link to be stored. With a `contact_id` it says who it was made for, and `destination` to which address it went.
    `created_at`: when its days begin; those of a scheduled message when it is due.
    """

    id: UUID
    target: str
    created_at: datetime
    service_id: UUID | None
    number_id: int | None = None
    channel_id: UUID | None = None
    conversation_id: UUID | None = None
    message_id: UUID | None = None
    place: str | None = None
    medium: str | None = None
    campaign: str | None = None
    contact_id: UUID | None = None
    destination: Address | None = None


# A token that another link has is drawn again by the caller: of eight characters it may happen.
ADD_SQL = """
insert into tracked_link (id, token_hash, target, created_at, service_id, number_id, channel_id, conversation_id,
                          message_id, place, medium, campaign, contact_id, destination_type, destination_value)
select * from unnest($1::uuid[], $2::bytea[], $3::text[], $4::timestamptz[], $5::uuid[], $6::bigint[], $7::uuid[],
                     $8::uuid[], $9::uuid[], $10::text[], $11::text[], $12::text[], $13::uuid[], $14::text[],
                     $15::text[])
on conflict (token_hash) do nothing
returning id"""


async def add(conn: Connection, drafts: Sequence[LinkDraft], tokens: Mapping[UUID, str]) -> set[UUID]:
    """Store links under their tokens, of which only a hash is kept; gives those that were stored: the token of the
    others is taken.
    """
    if not drafts:
        return set()
    rows = [
        (
            d.id, digest(tokens[d.id]), d.target, d.created_at, d.service_id, d.number_id, d.channel_id,
            d.conversation_id, d.message_id, d.place, d.medium, d.campaign, d.contact_id,
            d.destination and d.destination.type, d.destination and d.destination.value,
        )
        for d in drafts
    ]  # fmt: skip
    return {row["id"] for row in await conn.fetch(ADD_SQL, *map(list, zip(*rows, strict=True)))}


LIST_OF_MESSAGE_SQL = "select id, target, place from tracked_link where message_id = $1 order by id"


async def list_of_message(conn: Connection, message_id: UUID) -> list[Record]:
    """The links of a message, in the order in which they stand in it."""
    return await conn.fetch(LIST_OF_MESSAGE_SQL, message_id)
