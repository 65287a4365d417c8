"""Verbs: ask for events once more, cancel that, drop what was given up (rules A7, G3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from hub.actions.announce import Place, add_audit
from hub.actions.retained import check_id, find_start
from hub.actions.roster import lock_connection
from hub.domain.errors import Conflict, Invalid, NotFound
from hub.domain.ids import event_id, new_id, public_id, shard_of
from hub.store import audit, conversations, dead_letters, event_log, replays, retention, subscriptions
from hub.store.pool import Connection, Record
from hub.store.replays import ReplayDraft

MOST_FAILED: Final = 10_000
"""Dead letters one replay takes."""

Spans = dict[int, tuple[int, int]]
"""For each shard the position behind which a replay begins and the last id it may reach."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events: those named; a range of ids; a span of time; those given up (of a span of time); each of one
    conversation only, where it is named; a conversation alone: all the log has of it.
    """

    event_ids: Sequence[int] | None = None
    first: int | None = None
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_failed: bool = False
    conversation_id: UUID | None = None

    def view(self) -> dict[str, Any]:
        """As the API shows it."""
        view = {
            "event_ids": [event_id(number) for number in self.event_ids] if self.event_ids is not None else None,
            "from_event_id": event_id(self.first) if self.first is not None else None,
            "to_event_id": event_id(self.last) if self.last is not None else None,
            "since": self.since,
            "until": self.until,
            "failed": self.is_failed or None,
            "conversation_id": public_id("cnv", self.conversation_id) if self.conversation_id else None,
        }
        return {name: value for name, value in view.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What a selection means: where to look in the log, and if only for certain events, which."""

    spans: Spans
    only_ids: Sequence[int] | None = None
    expired: int = 0


async def request_replay(
    conn: Connection, service_id: UUID, e164: str | None, wanted: Selection, actor: str, now: datetime
) -> dict[str, Any]:
    """Have events delivered once more to a service, live order kept (G3); gives the replay.

    `e164` may be None where the service is connected to one number only. Events of before the connection are in the
    channel's log too (A7). Raises `NotFound`, `Invalid` (`number_required`, `too_many_events`), `Conflict`
    (`not_connected`, `no_endpoint`, `events_expired`).
    """
    e164 = e164 or await _only_number(conn, service_id)
    number, subscription = await lock_connection(conn, e164, service_id)
    if subscription["endpoint_url"] is None:
        raise Conflict("without an endpoint nothing is delivered; read the feed, GET /v1/events", code="no_endpoint")
    await retention.keep_log(conn)
    chosen = await _choose(conn, subscription, wanted)
    selection = wanted.view() | ({"expired_events": chosen.expired} if chosen.expired else {})
    draft = ReplayDraft(
        id=new_id(),
        subscription_id=subscription["id"],
        asked_by=actor,
        selection=orjson.dumps(selection, option=orjson.OPT_UTC_Z).decode(),
        spans=chosen.spans,
        lane=wanted.conversation_id,
        only_ids=chosen.only_ids,
        since=wanted.since,
        until=wanted.until,
        created_at=now,
    )
    await replays.add_replay(conn, draft)
    await dead_letters.free_lanes(conn, draft.id)
    place = Place(number["id"], e164, subscription["channel_id"])
    if wanted.event_ids is not None:
        selection["event_ids"] = len(wanted.event_ids)
    await add_audit(conn, actor, "replay.requested", place, replay=public_id("rpl", draft.id), selection=selection)
    return await view_replay(conn, None, draft.id)


async def _only_number(conn: Connection, service_id: UUID) -> str:
    own: list[str] = [row["e164"] for row in await subscriptions.list_of_service(conn, service_id)]
    if not own:
        raise Conflict("this service is not connected to any number", code="not_connected")
    if len(own) > 1:
        raise Invalid("this service is connected to several numbers: say which", code="number_required", numbers=own)
    return own[0]


async def _choose(conn: Connection, subscription: Record, wanted: Selection) -> _Chosen:
    if wanted.conversation_id:
        reached = await conversations.find_in_reach(conn, wanted.conversation_id, subscription["service_id"])
        if reached is None or reached["channel_id"] != subscription["channel_id"]:
            raise NotFound("there is no such conversation on this connection's channel")
    if wanted.event_ids is not None:
        return await _choose_named(conn, subscription, wanted.event_ids, wanted.conversation_id)
    if wanted.is_failed:
        return await _choose_failed(conn, subscription["id"], wanted)
    spans = await _find_spans(conn, wanted)
    if wanted.conversation_id:
        shard = shard_of(wanted.conversation_id)
        spans = {shard: spans[shard]} if shard in spans else {}
    return _Chosen(spans)


async def _choose_named(conn: Connection, subscription: Record, ids: Sequence[int], lane: UUID | None) -> _Chosen:
    await check_id(conn, min(ids))
    found = await replays.find_events(conn, ids, subscription["channel_id"], subscription["service_id"], lane)
    missing = sorted(set(ids) - set(found))
    if missing:
        raise NotFound(f"there is no event {event_id(missing[0])} on this connection's channel")
    return _Chosen(_around(found), sorted(found))


async def _choose_failed(conn: Connection, subscription_id: UUID, wanted: Selection) -> _Chosen:
    rows = await dead_letters.list_failed(
        conn, subscription_id, wanted.since, wanted.until, wanted.conversation_id, MOST_FAILED + 1
    )
    if len(rows) > MOST_FAILED:
        raise Invalid(
            f"there are more than {MOST_FAILED} dead letters: replay them in parts, by since and until or by"
            " conversation_id, or replay a span of time as a whole",
            code="too_many_events",
            most=MOST_FAILED,
        )
    found = {row["event_id"]: row["shard"] for row in rows if row["shard"] is not None}
    return _Chosen(_around(found), sorted(found), len(rows) - len(found))


def _around(events: Mapping[int, int]) -> Spans:
    """The narrowest spans that hold these events."""
    spans: Spans = {}
    for number, shard in sorted(events.items()):
        position, _ = spans.get(shard, (number - 1, number))
        spans[shard] = (position, number)
    return spans


async def _find_spans(conn: Connection, wanted: Selection) -> Spans:
    """From the first event that was asked for to the last, or to the last there is now."""
    heads = await event_log.find_heads(conn)
    starts, ends = dict.fromkeys(heads, 0), heads
    if wanted.first is not None:
        await check_id(conn, wanted.first)
        starts = dict.fromkeys(heads, wanted.first - 1)
        last = wanted.last
        ends = heads if last is None else {shard: min(head, last) for shard, head in heads.items()}
    elif wanted.since is not None:
        starts = await find_start(conn, wanted.since)
        ends = heads if wanted.until is None else await replays.find_ends(conn, wanted.until)
    return {shard: (starts[shard], ends[shard]) for shard in heads if starts[shard] < ends[shard]}


# Replays that were asked for ----------------------------------------------------------------------------------------


async def view_replay(conn: Connection, service_id: UUID | None, replay_id: UUID) -> dict[str, Any]:
    """One replay; `service_id` None: of any service. Raises `NotFound`."""
    return replay_view(await _find(conn, service_id, replay_id))


async def cancel_replay(
    conn: Connection, service_id: UUID | None, replay_id: UUID, actor: str, now: datetime
) -> dict[str, Any]:
    """End a replay; one that has ended stays as it is. Raises `NotFound`."""
    row = await _find(conn, service_id, replay_id)
    if row["shards_left"]:
        await replays.cancel_replay(conn, replay_id, now)
        await audit.add_audit(conn, actor, "replay.cancelled", subject=public_id("rpl", replay_id))
        row = await _find(conn, service_id, replay_id)
    return replay_view(row)


async def _find(conn: Connection, service_id: UUID | None, replay_id: UUID) -> Record:
    row = await replays.find_replay(conn, service_id, replay_id)
    if row is None:
        raise NotFound("there is no such replay")
    return row


def replay_view(row: Record) -> dict[str, Any]:
    """A replay as the API shows it."""
    state = "cancelled" if row["cancelled_at"] else "running" if row["shards_left"] else "finished"
    return {
        "id": public_id("rpl", row["id"]),
        "service_id": public_id("svc", row["service_id"]),
        "number": row["e164"],
        "state": state,
        "selection": orjson.Fragment(row["selection"]),
        "progress": {
            "events_delivered": row["delivered"],
            "failed": row["failed"],
            "shards_left": row["shards_left"],
        },
        "asked_by": row["asked_by"],
        "created_at": row["created_at"],
        "finished_at": None if row["shards_left"] else row["finished_at"] or row["created_at"],
    }


# Dead letters -------------------------------------------------------------------------------------------------------


async def drop_dead_letters(
    conn: Connection, service_id: UUID, actor: str, *, e164: str | None = None, number: int | None = None
) -> int:
    """Give up one event for good, or all of a service (on one of its numbers); lanes held for one go on behind it. The
    audit trail names the service where somebody else does it.
    """
    dropped = await dead_letters.drop_dead(conn, service_id, e164, number)
    if dropped:
        details: dict[str, Any] = {"events": dropped}
        details |= {"event_id": event_id(number)} if number is not None else {}
        details |= {"service_id": owner} if (owner := public_id("svc", service_id)) != actor else {}
        await audit.add_audit(conn, actor, "dead_letters.dropped", subject=e164, details=orjson.dumps(details).decode())
    return dropped
