"""Verb: take a batch of providers' items in, in one transaction (rules B2 to B8).

Order of work: find the numbers, drop what was seen before, find or make contacts and conversations, lock the
conversations, number and store everything in the order it came, append the events. What cannot be taken in is
quarantined and harms nobody else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from hub.actions import control
from hub.actions.account_news import find_places, take_news
from hub.actions.arrivals import Accepted, AccountNews, Arrival, Entry, News, Routed, sort_out
from hub.actions.batch import Batch, is_ours, provider_time
from hub.actions.change_identity import change_identities, find_customer, find_moved
from hub.actions.entries import Entries, is_filling_in
from hub.actions.hearing import Hearing
from hub.actions.lock_threads import find_threads, lock_threads
from hub.actions.resolve import Directory, Thread, ThreadKey
from hub.actions.sender_health import note_reported
from hub.actions.take_reports import Reports, unpark
from hub.domain.events import Event
from hub.store import conversations, event_log, inbound, routes
from hub.store.inbound import Quarantined, key_digest
from hub.store.pool import Connection, TryAgain
from hub.store.routes import Roster, Route
from providers.base import (
    ControlChanged,
    Customer,
    IdentityChanged,
    MessageReceived,
    PreferenceChanged,
    StatusReported,
    Unparsed,
)

_Item = Entry | PreferenceChanged | StatusReported
_Fresh = tuple[_Item, Route, str]


@dataclass(slots=True)
class Received:
    """What became of a batch. `learned` is for the directory, once the transaction is committed."""

    events: list[Event] = field(default_factory=list)
    learned: dict[ThreadKey, Thread] = field(default_factory=dict)
    roster: Roster = field(default_factory=Roster)
    fresh: int = 0
    duplicates: int = 0
    quarantined: list[Quarantined] = field(default_factory=list)

    def add(self, later: "Received") -> None:
        """What became of the part after this one, too."""
        self.events += later.events
        self.learned |= later.learned
        self.roster = later.roster
        self.fresh += later.fresh
        self.duplicates += later.duplicates
        self.quarantined += later.quarantined


async def receive(conn: Connection, directory: Directory, arrivals: Sequence[Arrival], now: datetime) -> Received:
    """Take the batch in. Raises `TryAgain` when it lost against another process: nothing is stored then."""
    result = Received()
    result.roster = await _find_roster(conn, arrivals)
    places = await find_places(conn, {a.item.account for a in arrivals if isinstance(a.item, News)})
    accepted, news, result.quarantined = sort_out(arrivals, result.roster.routes, places)
    await inbound.add_quarantined(conn, result.quarantined)
    fresh, told = await _drop_known(conn, accepted, news, result)
    if fresh or told:
        batch = Batch(conn, directory, now)
        await _take(batch, fresh, told, result)
        result.learned = batch.learned
    return result


async def _find_roster(conn: Connection, arrivals: Sequence[Arrival]) -> Roster:
    """Where each sender's items go; the account that a provider names with a sender is noted where it is new."""
    roster = Roster(await routes.find_version(conn))
    refs = {a.item.sender for a in arrivals if not isinstance(a.item, Unparsed | News)}
    roster.routes = await routes.find_routes(conn, refs)
    await routes.note_accounts(
        conn,
        {r.sender_id: ref.account for ref, r in roster.routes.items() if ref.account not in {None, r.seen_account}},
    )
    return roster


async def _drop_known(
    conn: Connection, accepted: Sequence[Accepted], news: Sequence[AccountNews], result: Received
) -> tuple[list[Accepted], list[AccountNews]]:
    """What was never taken in before, once each, in order (B4). That a message was told as history keeps nobody from
    hearing of it when its own webhook comes late; what is in the timeline is not taken in as history again.
    """
    live = {item.key for item, _, _ in accepted if not _is_old(item)}
    first: dict[bytes, Accepted] = {}
    for entry in accepted:
        item = entry[0]
        if _is_old(item) and item.key in live:
            continue  # said just now: it is more than history
        first.setdefault(key_digest(f"history:{item.key}" if _is_old(item) else item.key), entry)
    told = {key_digest(item.key): (item, places) for item, places in reversed(news)}
    new = await inbound.add_keys(conn, [*first, *told])
    result.fresh = len(new)
    result.duplicates = len(accepted) + len(news) - len(new)
    return (
        [entry for key, entry in first.items() if key in new],
        [entry for key, entry in reversed(told.items()) if key in new],
    )


def _is_old(item: Routed) -> bool:
    return isinstance(item, MessageReceived) and item.is_history


async def _take(batch: Batch, fresh: Sequence[Accepted], news: Sequence[AccountNews], result: Received) -> None:
    """Do all of it, and write it. The order of these steps is the order of locks."""
    reports = Reports(batch.conn, [(item, p) for item, _, p in fresh if isinstance(item, StatusReported)])
    wishes = await reports.find(_sent(fresh), batch.now)
    items, said = await _change_identities(batch, fresh)
    moved = await find_moved(batch.conn, said)
    items = [
        (replace(item, customer=moved[item.key]) if item.key in moved else item, route, p) for item, route, p in items
    ]
    placed = [(item, route, p) for item, route, p in items if not isinstance(item, StatusReported | PreferenceChanged)]
    heard = [(item, route, p) for item, route, p in items if not isinstance(item, ControlChanged)]
    hearing, entries = Hearing(batch.conn, heard), Entries(batch)
    for key, wish in wishes:
        hearing.add(key, wish)
    await hearing.lock(reports.found)
    await find_threads(batch, placed)
    if batch.found and await find_moved(batch.conn, said) != moved:
        raise TryAgain("a customer of this batch has another number or id just now")
    spoken = {conversation_id for targets in reports.found.values() for _, conversation_id in targets}
    spoken |= await hearing.find_conversations(batch.threads, reports.found)
    await lock_threads(batch, placed, spoken)
    await reports.open(batch)
    await entries.open(placed)
    await hearing.open(reports.found, batch.states, reports.contacts)
    _take_items(batch, items, reports, entries, hearing)
    await reports.save()
    await hearing.save()
    await entries.save()
    await unpark(batch, [draft for draft in batch.stored if draft.direction == "outbound" and draft.provider_id])
    await conversations.save(batch.conn, batch.changed_states())
    await control.release(batch.conn, batch.given_back)
    reported = [(route.sender_id, item) for item, route, _ in fresh if isinstance(item, StatusReported)]
    batch.drafts += await note_reported(batch.conn, reported, batch.now)
    batch.drafts += await take_news(batch.conn, news, batch.now)
    result.events = await event_log.append(batch.conn, batch.drafts)


def _take_items(
    batch: Batch, items: Sequence[_Fresh], reports: Reports, entries: Entries, hearing: Hearing
) -> None:  # fmt: skip
    """One item after the other, in the order they came."""
    for item, route, provider in items:
        message_id = None
        if isinstance(item, StatusReported):
            message_id = reports.take(item, provider, batch)
        elif not isinstance(item, PreferenceChanged):
            message_id = entries.take(item, route, provider)
        if not isinstance(item, ControlChanged) and not is_filling_in(item, batch, route):
            batch.drafts += hearing.take(item, route, batch.now, message_id)


def _sent(fresh: Sequence[Accepted]) -> Iterable[str]:
    """The provider's ids of what was sent past the hub."""
    for item, _, _ in fresh:
        if isinstance(item, MessageReceived) and item.provider_id and is_ours(item):
            yield item.provider_id


async def _change_identities(
    batch: Batch, fresh: Sequence[Accepted]
) -> tuple[list[_Fresh], dict[str, tuple[Customer, datetime]]]:
    """That a customer has another number or id holds from here on, and is an entry of their timeline. Gives, too, who
    said what else when: who did before such a change, though it comes now, is who they were then.
    """
    changes = [(item, route) for item, route, _ in fresh if isinstance(item, IdentityChanged)]
    if changes:
        batch.drafts += await change_identities(batch.conn, changes, batch.now)
    items = [
        (await _as_entry(batch, item) if isinstance(item, IdentityChanged) else item, route, provider)
        for item, route, provider in fresh
    ]
    return items, {item.key: (item.customer, at) for item, route, _ in items if (at := _said_at(item, route))}


def _said_at(item: _Item, route: Route) -> datetime | None:
    """When a customer of WhatsApp, where numbers and ids change, said or did something."""
    return None if isinstance(item, StatusReported) or route.medium != "whatsapp" else provider_time(item.at)


async def _as_entry(batch: Batch, item: IdentityChanged) -> MessageReceived:
    customer = await find_customer(batch.conn, item, batch.now)
    return MessageReceived(
        item.key, item.sender, customer, item.provider_id, item.at, "system", item.content, opens_window=False,
        cleaned=item.cleaned,
    )  # fmt: skip
