"""Verb: take in messages of customers this process knows, the common case, in one round trip (rules B4, B6 to B8).

Whatever needs a look-up first (a new customer, a status, an edit, an answer to buttons, a STOP) goes through
`receive`; both store the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from hub.actions.arrivals import Arrival
from hub.actions.consent_book import wish_of
from hub.actions.resolve import Directory, Thread, identity, match_keys
from hub.domain.events import Event
from hub.domain.ids import new_hex
from hub.store.contacts import MatchKey
from hub.store.inbound import key_digest
from hub.store.intake import Rows, take_messages
from hub.store.pool import Connection, Record
from hub.store.routes import ChannelRoute, Roster, Route
from providers.base import Customer, MessageReceived

_LOOKS_BACK: Final = frozenset({"button", "interactive"})
"""Types that may answer a message of ours, whose author must be known (C1)."""
_JSON: Final = orjson.OPT_UTC_Z

Placed = Record
_Found = tuple[MessageReceived, str, Route, list[tuple[ChannelRoute, Thread]]]


@dataclass(slots=True)
class Batch:
    """Messages ready to be stored, accepted at one time, for the roster of one version; grows webhook by webhook."""

    at: datetime
    version: int
    rows: Rows = field(default_factory=Rows)
    keys: set[str] = field(default_factory=set)
    messages: int = 0


def add_webhook(
    batch: Batch, roster: Roster, directory: Directory, arrivals: Sequence[Arrival], waiting: set[MatchKey]
) -> bool:
    """Put a webhook's items into the batch, if all of them are plain messages of known customers, none of whom has
    something else `waiting`. False: nothing was put in; it has to go the long way.
    """
    ready: list[_Found] = []
    for arrival in arrivals:
        item = arrival.item
        if not isinstance(item, MessageReceived) or not _is_plain(item):
            return False
        if wish_of(item, arrival.provider):  # what holds for the customer changes (E5)
            return False
        route = roster.routes.get(item.sender)
        if route is None or (waiting and waiting & match_keys(item.customer)):
            return False
        threads = _find_threads(directory, route, item.customer)
        if threads is None:
            return False
        ready.append((item, arrival.provider, route, threads))
    for item, provider, route, threads in ready:
        if item.key not in batch.keys:  # the same item twice in one batch is one (B4)
            batch.keys.add(item.key)
            _add(batch, item, provider, route, threads)
    batch.messages += len(ready)
    return True


def _is_plain(item: MessageReceived) -> bool:
    """Whether it is what customers write every day, with nothing to it that has to be looked up or taken along."""
    return (
        item.origin == "customer"
        and item.raw is None
        and item.opens_window
        and not item.is_history
        and not item.is_reconciled
        and "media" not in item.content
        and not (item.type in _LOOKS_BACK and "reply_to" in item.content)
    )


def _find_threads(directory: Directory, route: Route, customer: Customer) -> list[tuple[ChannelRoute, Thread]] | None:
    """The customer's conversation in every channel of the number, if all of them are known and up to date."""
    who, threads = identity(customer), []
    for channel in route.channels:
        thread = directory.find((channel.id, route.medium, who))
        if thread is None or not _is_current(thread, customer):
            return None
        threads.append((channel, thread))
    return threads


def _is_current(thread: Thread, customer: Customer) -> bool:
    """Whether the customer's name and the address replies go to are what we have, and the conversation is ours."""
    if thread.conversation.held_by:
        return False
    reply_to = thread.conversation.reply_to
    reported = customer.phone or customer.user_id or customer.sender_id
    return reply_to.value == reported and (customer.name is None or customer.name == thread.contact.name)


def _add(
    batch: Batch, item: MessageReceived, provider: str, route: Route, threads: list[tuple[ChannelRoute, Thread]]
) -> None:
    rows, key, provider_time = batch.rows, key_digest(item.key), _time(item.at)
    content = orjson.dumps(item.content).decode()
    for channel, thread in threads:
        message_id, ref = new_hex(), thread.conversation
        rows.keys.append(key)
        rows.ids.append(message_id)
        rows.places.append(rows.place(ref.id, ref.generation, thread.shard))
        rows.kinds.append(
            rows.kind((route.number_id, channel.id, route.medium, provider, channel.is_unrouted, item.type))
        )
        rows.contents.append(content)
        rows.provider_ids.append(item.provider_id)
        rows.provider_times.append(provider_time)
        rows.datas.append(_data(batch, item, message_id, route.medium, provider_time, channel, thread))


def _data(
    batch: Batch, item: MessageReceived, message_id: str, medium: str, provider_time: datetime | None,
    channel: ChannelRoute, thread: Thread,
) -> str:  # fmt: skip
    """The event's data: what is the same for every message of a conversation is written already."""
    message: dict[str, Any] = {
        "id": f"msg_{message_id}",
        "direction": "inbound",
        "medium": medium,
        "type": item.type,
        "origin": "customer",
        "author": None,
        "agent": None,
        "provider_id": item.provider_id,
        "provider_time": provider_time,
        "created_at": batch.at,
        **item.content,
    }
    if channel.is_unrouted:
        message["unrouted"] = True
    return f"{thread.frame}{orjson.dumps(message, option=_JSON).decode()}}}"


@lru_cache(1024)
def _time(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


async def store(conn: Connection, batch: Batch) -> Placed:
    """Store the batch; durable when it returns. Raises `OutOfDate`: then nothing of it is stored."""
    return await take_messages(conn, batch.version, batch.at, batch.rows)


def outcome_of(batch: Batch, placed: Placed) -> tuple[list[Event], int]:
    """The events of a batch that was stored, and how many of its messages were new."""
    rows, at, events, keys = batch.rows, batch.at, [], set()
    prev_ids, sequences, expiries = placed["prev_ids"], placed["sequences"], placed["expiries"]
    holders = placed["holders"]
    conversations, shards, kinds = list(rows.conversations), list(rows.shards), list(rows.shared)
    for n, event_id in enumerate(placed["event_ids"]):
        if event_id is None:
            continue
        place = rows.places[n] - 1
        keys.add(rows.keys[n])
        events.append(
            Event(
                event_id, shards[rows.shard_places[place] - 1], prev_ids[n], "message.received", at,
                kinds[rows.kinds[n] - 1][1], conversations[place][0], sequences[n], expiries[place], None, None,
                rows.datas[n], None, holders[place],
            )
        )  # fmt: skip
    return events, len(keys)
