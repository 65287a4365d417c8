"""From what a provider's notice is about to the senders it concerns, and the channels of their numbers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from hub.domain.addresses import phone_key
from hub.store.pool import Connection, Record
from providers.base import AccountRef, Medium


@dataclass(frozen=True, slots=True)
class SenderPlace:
    """A sender, its number, and every channel that hears of it: the shared one, and those somebody is connected to."""

    sender_id: int
    number_id: int
    e164: str
    medium: Medium
    provider: str
    channels: tuple[UUID, ...]


_PLACE = """
s.id as sender_id, s.medium, s.provider, s.external_id, s.is_active, n.id as number_id, n.e164, array(
    select c.id from channel c where c.number_id = n.id and (c.kind = 'shared'
       or exists (select from subscription u where u.channel_id = c.id and u.disconnected_at is null))
    order by c.id
) as channels"""
# Forms of one number have their last digits in common; which of them are the same number is decided by `phone_key`.
FIND_PLACES_SQL = f"""
select w.place, {_PLACE}
from unnest($1::text[], $2::text[], $3::text[], $4::text[]) with ordinality
    as w (provider, account, external_id, phone, place)
join sender s on s.provider = w.provider
join number n on n.id = s.number_id
where s.external_id = w.external_id or (s.is_active and case
    when w.phone is not null then right(n.e164, 7) = right(w.phone, 7)
    else w.external_id is null and w.account in (s.account, s.seen_account) end)
order by s.id"""


async def find_places(conn: Connection, refs: Collection[AccountRef]) -> dict[AccountRef, Sequence[SenderPlace]]:
    """The senders each of these is about; those that fit none are left out.

    A notice that names a sender is about no other, even where that sender is not registered here.
    """
    wanted = list(dict.fromkeys(refs))
    if not wanted:
        return {}
    keys = [(ref.provider, ref.account, ref.external_id, ref.phone) for ref in wanted]
    found: dict[AccountRef, list[Record]] = {}
    for row in await conn.fetch(FIND_PLACES_SQL, *map(list, zip(*keys, strict=True))):
        found.setdefault(wanted[row["place"] - 1], []).append(row)
    chosen = {ref: _chosen(ref, rows) for ref, rows in found.items()}
    return {ref: [_place(row) for row in rows] for ref, rows in chosen.items() if rows}


def _chosen(ref: AccountRef, rows: Sequence[Record]) -> Sequence[Record]:
    """By id where that is known, else by number, else the whole account."""
    named = [row for row in rows if row["external_id"] == ref.external_id]
    if named or (ref.external_id and not ref.phone):
        return named
    if ref.phone:
        return [row for row in rows if phone_key(row["e164"]) == phone_key(ref.phone)]
    return rows


def _place(row: Record) -> SenderPlace:
    return SenderPlace(
        row["sender_id"], row["number_id"], row["e164"], row["medium"], row["provider"], tuple(row["channels"])
    )


FIND_PLACE_SQL = f"select {_PLACE} from sender s join number n on n.id = s.number_id where s.id = $1"


async def find_place(conn: Connection, sender_id: int) -> SenderPlace | None:
    """Where a sender belongs; None where there is no such sender."""
    row = await conn.fetchrow(FIND_PLACE_SQL, sender_id)
    return _place(row) if row else None
