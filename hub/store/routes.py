"""From a provider's name for our side to the number and its channels."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from hub.store.pool import Connection, Record
from providers.base import Medium, SenderRef


@dataclass(frozen=True, slots=True)
class ChannelRoute:
    """A channel that hears a number's inbound items; nobody is connected where `is_unrouted` (A7)."""

    id: UUID
    is_unrouted: bool


@dataclass(frozen=True, slots=True)
class Route:
    """Where the items of one sender go: every channel of its number (B7)."""

    number_id: int
    e164: str
    sender_id: int
    medium: Medium
    channels: tuple[ChannelRoute, ...]
    seen_account: str | None = None
    """The account that the provider's webhooks named with the sender."""
    since: datetime | None = None
    """When the number was first registered with this provider and medium."""


@dataclass(slots=True)
class Roster:
    """Senders and channels as this process last read them, good while the version stands."""

    version: int = -1
    routes: dict[SenderRef, Route] = field(default_factory=dict)


# A Twilio messaging service may serve several numbers: the number itself names the sender before the service does. A
# number may have had other senders before: what is active counts, as the last.
FIND_ROUTES_SQL = """
with wanted as (
    select provider, medium, external_id from unnest($1::text[], $2::text[], $3::text[])
        as w (provider, medium, external_id)
)
select w.provider, w.medium, w.external_id, s.id as sender_id, s.seen_account, s.created_at, n.id as number_id,
       n.e164, c.id as channel_id,
       not exists (select from subscription u where u.channel_id = c.id and u.disconnected_at is null) as is_unrouted
from wanted w
join sender s on s.provider = w.provider and s.medium = w.medium
join number n on n.id = s.number_id
    and (s.external_id = w.external_id or (s.provider = 'twilio' and n.e164 = w.external_id))
join channel c on c.number_id = n.id
where c.kind = 'shared'
   or exists (select from subscription u where u.channel_id = c.id and u.disconnected_at is null)
order by s.is_active, c.id"""


async def find_routes(conn: Connection, refs: Collection[SenderRef]) -> dict[SenderRef, Route]:
    """The routes of all senders that are registered; a name that fits several numbers is as good as unknown."""
    wanted = {(ref.provider, ref.medium, external_id) for ref in refs for external_id in ref.external_ids}
    if not wanted:
        return {}
    found: dict[tuple[str, str, str], dict[int, Route]] = {}
    for row in await conn.fetch(FIND_ROUTES_SQL, *map(list, zip(*wanted, strict=True))):
        numbers = found.setdefault((row["provider"], row["medium"], row["external_id"]), {})
        numbers[row["number_id"]] = _route(row, numbers.get(row["number_id"]))
    return {ref: route for ref in refs if (route := _first(ref, found))}


def _route(row: Record, known: Route | None) -> Route:
    """A number's route with one more row of it: each channel is in it once, however many senders lead there."""
    channel = ChannelRoute(row["channel_id"], row["is_unrouted"])
    return Route(
        row["number_id"],
        row["e164"],
        row["sender_id"],
        row["medium"],
        tuple(dict.fromkeys((*known.channels, channel) if known else (channel,))),
        row["seen_account"],
        min(known.since, row["created_at"]) if known and known.since else row["created_at"],
    )


def _first(ref: SenderRef, found: dict[tuple[str, str, str], dict[int, Route]]) -> Route | None:
    for external_id in ref.external_ids:
        numbers = found.get((ref.provider, ref.medium, external_id), {})
        if len(numbers) == 1:
            return next(iter(numbers.values()))
    return None


NOTE_ACCOUNTS_SQL = """
with named as (
    select s.id, w.account from unnest($1::bigint[], $2::text[]) as w (id, account) join sender s on s.id = w.id
    where s.seen_account is distinct from w.account
    order by s.id for no key update of s)
update sender set seen_account = named.account from named where sender.id = named.id"""


async def note_accounts(conn: Connection, accounts: Mapping[int, str | None]) -> None:
    """Note which account a provider named with each of these senders."""
    if accounts:
        await conn.execute(NOTE_ACCOUNTS_SQL, list(accounts), list(accounts.values()))


VERSION_SQL = "select version from roster_version"


async def find_version(conn: Connection) -> int:
    """Goes up whenever senders, channels or subscriptions change."""
    version: int = await conn.fetchval(VERSION_SQL)
    return version
