"""Verb: take in messages of customers this process knows, the common case, in one round trip (rules B4, B6 to B8).

Whatever needs a look-up first (a new customer, a status, an edit, an answer to buttons) goes through `receive`; both
store the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson

from hub.actions import describe
from hub.actions.arrivals import Arrival
from hub.actions.resolve import Directory, Thread, identity, match_keys
from hub.domain import window
from hub.domain.events import Event
from hub.domain.ids import new_id, public_id, shard_of
from hub.store.contacts import MatchKey
from hub.store.inbound import key_digest
from hub.store.intake import Rows, take_messages
from hub.store.pool import Connection
from hub.store.routes import Roster, Route
from providers.base import Customer, MessageReceived

_LOOKS_BACK: Final = frozenset({"button", "interactive"})
"""Types that may answer a message of ours, whose author must be known (C1)."""
_JSON: Final = orjson.OPT_UTC_Z


@dataclass(slots=True)
class Batch:
    """Messages ready to be stored; grows webhook by webhook."""

    rows: Rows = field(default_factory=Rows)
    events: list[Event] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch."""

    events: list[Event]
    fresh: int
    duplicates: int


def add_webhook(
    batch: Batch,
    roster: Roster,
    directory: Directory,
    arrivals: Sequence[Arrival],
    waiting: set[MatchKey],
    now: datetime,
) -> bool:
    """Put a webhook's items into the batch, if all of them are plain messages of known customers, none of whom has
    something else `waiting`. False: nothing was put in; it has to go the long way.
    """
    found: dict[tuple[str, UUID], tuple[MessageReceived, str, Route, bool, UUID, Thread]] = {}
    for arrival in arrivals:
        item = arrival.item
        if not isinstance(item, MessageReceived) or item.origin != "customer" or not _is_plain(item):
            return False
        route = roster.routes.get(item.sender)
        who = identity(item.customer)
        if route is None or (waiting and waiting & match_keys(item.customer)):
            return False
        for channel in route.channels:
            thread = directory.find((channel.id, route.medium, who))
            if thread is None or not _is_current(thread, item.customer):
                return False
            entry = item, arrival.provider, route, channel.is_unrouted, channel.id, thread
            found.setdefault((item.key, channel.id), entry)  # the same item twice in one batch is one (B4)
    for (key, _), entry in found.items():
        if key not in batch.keys:
            _add(batch, *entry, now)
    batch.keys |= {key for key, _ in found}
    batch.messages += len(arrivals)
    return True


def _is_plain(item: MessageReceived) -> bool:
    return item.raw is None and not (item.type in _LOOKS_BACK and "reply_to" in item.content)


def _is_current(thread: Thread, customer: Customer) -> bool:
    """Whether the customer's name and the address replies go to are what we have."""
    reply_to = thread.conversation.reply_to
    reported = customer.phone or customer.user_id or customer.sender_id
    return reply_to.value == reported and customer.name in {None, thread.contact.name}


def _add(
    batch: Batch, item: MessageReceived, provider: str, route: Route, is_unrouted: bool, channel_id: UUID,
    thread: Thread, now: datetime,
) -> None:  # fmt: skip
    rows, ref, message_id = batch.rows, thread.conversation, new_id()
    provider_time = datetime.fromtimestamp(item.at, UTC) if item.at is not None else None
    message: dict[str, Any] = {
        "id": public_id("msg", message_id),
        "direction": "inbound",
        "medium": route.medium,
        "type": item.type,
        "origin": "customer",
        "author": None,
        "agent": None,
        "provider_id": item.provider_id,
        "provider_time": provider_time,
        "created_at": now,
        **item.content,
    }
    if is_unrouted:
        message["unrouted"] = True
    data = {
        "number": route.e164,
        "channel_id": public_id("chn", channel_id),
        "conversation": describe.conversation(ref.id, route.medium),
        "contact": describe.contact(thread.contact),
        "message": message,
    }
    text = orjson.dumps(data, option=_JSON).decode()
    rows.keys.append(key_digest(item.key))
    rows.ids.append(message_id)
    rows.conversations.append(ref.id)
    rows.generations.append(ref.generation)
    rows.number_ids.append(route.number_id)
    rows.channels.append(channel_id)
    rows.media.append(route.medium)
    rows.types.append(item.type)
    rows.contents.append(orjson.dumps(item.content).decode())
    rows.providers.append(provider)
    rows.provider_ids.append(item.provider_id)
    rows.provider_times.append(provider_time)
    rows.customer_times.append(min(provider_time, now) if provider_time else now)
    rows.unrouted.append(is_unrouted)
    rows.datas.append(text)
    batch.events.append(
        Event(0, shard_of(ref.id), 0, "message.received", now, channel_id, ref.id, None, None, None, None, text)
    )


async def store(conn: Connection, roster: Roster, batch: Batch, now: datetime) -> Taken:
    """Store the batch; durable when it returns. Raises `OutOfDate`: then nothing of it is stored."""
    events, keys = [], set()
    for row in await take_messages(conn, roster.version, now, batch.rows):
        place = row["n"] - 1
        event = batch.events[place]
        event.id, event.prev_id, event.sequence = row["event_id"], row["prev_id"], row["sequence"]
        event.reply_window_expires_at = window.expires_at(batch.rows.media[place], row["window_from"])
        events.append(event)
        keys.add(batch.rows.keys[place])
    return Taken(events, len(keys), batch.messages - len(keys))
