"""Reading: where events went, service by service (rules C1, G2, G3)."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.actions.audience import viewer_of
from hub.domain.events import Event
from hub.domain.ids import event_id, public_id
from hub.domain.masking import PolicyBook, may_see_content
from hub.store import attempts, event_lives
from hub.store.deliveries import find_packed
from hub.store.pool import Connection, Record

MOST_HEARERS: Final = 100
"""Subscriptions of a channel that are looked at."""
_MOST_ATTEMPTS: Final = 30
"""Failed attempts at one event for one service that are told of, the last ones."""
_CHUNK: Final = 25
_MOST_CHUNKS: Final = 40
"""How many flushes are read at a time, and how often: what was accepted is packed, and has no index by event."""
_PATIENCE: Final = 10
"""So many chunks are read from where a delivery may have been accepted first, so that one which never was leaves enough
for later ones: a service may wait for hours, while the others hear of every status.
"""

Pair = tuple[UUID, int]


@dataclass(slots=True)
class _Search:
    """Accepted deliveries that are looked for: from when on each, and what was found."""

    since: dict[Pair, datetime]
    found: dict[Pair, dict[str, Any]] = field(default_factory=dict)
    tries: Counter[Pair] = field(default_factory=Counter)

    def take(self, row: Record) -> None:
        """Look into one flush."""
        wanted: dict[UUID, list[int]] = {}
        for (subscription_id, number), since in self.since.items():
            if since <= row["at"]:
                wanted.setdefault(subscription_id, []).append(number)
        for subscription_id, number, status, duration in find_packed(row["entries"], wanted):
            pair = subscription_id, number
            if pair in self.since:
                self.found[pair] = _accepted(row["at"], status, duration)
                del self.since[pair]

    def note_chunk(self, upto: datetime) -> None:
        """Give up those that were looked for often enough."""
        self.tries.update(pair for pair, since in self.since.items() if since <= upto)
        for pair in [pair for pair in self.since if self.tries[pair] >= _PATIENCE]:
            del self.since[pair]


def _accepted(at: datetime, status: int, duration: int) -> dict[str, Any]:
    return {"at": at, "outcome": "delivered", "http_status": status, "duration_ms": duration, "detail": None}


async def view_events(
    conn: Connection, viewer: UUID | None, events: Sequence[Event], policies: PolicyBook
) -> list[dict[str, Any]]:
    """Events of one conversation, or one channel, with what became of each for every service that was to hear it; a
    service sees its own deliveries only.
    """
    if not events:
        return []
    channel_id, shard, lane = events[0].channel_id, events[0].shard, events[0].lane
    assert channel_id is not None
    hearers = await event_lives.list_hearers(conn, channel_id, viewer, events[0].at, MOST_HEARERS)
    heard = [(row, event) for event in events for row in hearers if _was_to_hear(row, event)]
    pairs = [(row["id"], event.id) for row, event in heard]
    standings = await event_lives.list_standings(conn, pairs, shard, lane)
    failed = await event_lives.list_failed(conn, pairs, shard, _MOST_ATTEMPTS)
    accepted = await _find_accepted(conn, heard, failed)
    views: dict[int, list[dict[str, Any]]] = {event.id: [] for event in events}
    for row, event in heard:
        pair = row["id"], event.id
        tried = [_failed(one) for one in failed.get(pair, ())]
        view = _delivery(row, event, standings[pair], tried, accepted.get(pair))
        views[event.id].append(view | {"masked": _is_masked(row, event, policies)})
    return [_event(event) | {"deliveries": views[event.id]} for event in events]


def _event(event: Event) -> dict[str, Any]:
    return {"event_id": event_id(event.id), "type": event.type, "at": event.at, "sequence": event.sequence}


def _was_to_hear(row: Record, event: Event) -> bool:
    """Whether a subscription was there when the event was logged, and may hear it at all (A10)."""
    starts = row["start_positions"]
    has_begun = event.id > starts[event.shard] if starts else event.at >= row["connected_at"]
    is_over = row["disconnected_at"] is not None and row["disconnected_at"] <= event.at
    return has_begun and not is_over and (event.audience is None or row["service_id"] in event.audience)


def _is_masked(row: Record, event: Event, policies: PolicyBook) -> bool:
    return not may_see_content(
        policies, row["channel_id"], row["service_id"], event.author_service_id, event.written_at or event.at
    )


async def _find_accepted(
    conn: Connection, heard: Iterable[tuple[Record, Event]], failed: Mapping[Pair, Sequence[Record]]
) -> dict[Pair, dict[str, Any]]:
    """When each was accepted: after it was logged, and after it failed last; in what was written down soon after."""
    search = _Search({})
    for row, event in heard:
        pair = row["id"], event.id
        if row["endpoint_url"] is not None and viewer_of(row).wants(event):
            search.since[pair] = max([event.at, *(one["at"] for one in failed.get(pair, ()))])
    at = min(search.since.values(), default=None)
    for _ in range(_MOST_CHUNKS):
        if at is None or not search.since:
            break
        at = max(at, min(search.since.values()))
        rows = await attempts.list_packed_after(conn, at, _CHUNK)
        for row in rows:
            search.take(row)
        if len(rows) < _CHUNK:
            break
        at = rows[-1]["at"]
        search.note_chunk(at)
    return search.found


def _failed(row: Record) -> dict[str, Any]:
    return {name: row[name] for name in ("at", "outcome", "http_status", "duration_ms", "detail")}


def _delivery(
    row: Record, event: Event, standing: Record, tried: Sequence[dict[str, Any]], accepted: dict[str, Any] | None
) -> dict[str, Any]:
    is_first = standing["first_event_id"] == event.id
    parked = None
    if standing["first_event_id"] is not None and accepted is None:
        parked = {
            "since": standing["parked_at"],
            "attempts": standing["parked_attempts"],
            "next_attempt_at": standing["next_attempt_at"],
            "held": bool(standing["is_held"]),
            "last_error": standing["parked_error"] if is_first else None,
            "behind_event_id": None if is_first else event_id(standing["first_event_id"]),
        }
    dead = None
    if standing["dead_at"] is not None:
        dead = {name: standing[f"dead_{name}"] for name in ("at", "attempts", "last_error")}
    return {
        "service": {"id": public_id("svc", row["service_id"]), "name": row["name"]},
        "subscription_id": public_id("sub", row["id"]),
        "number": row["e164"],
        "outcome": _outcome(row, event, standing, accepted is not None),
        "attempts": [*tried, *([accepted] if accepted else [])],
        "parked": parked,
        "dead": dead,
    }


def _outcome(row: Record, event: Event, standing: Record, is_accepted: bool) -> str:
    """What became of one event for one subscription, the surest first. `settled`: it is behind its cursor, and when it
    was accepted, or skipped, is kept no longer.
    """
    outcomes: tuple[tuple[str, Any], ...] = (
        ("delivered", is_accepted),
        ("dead", standing["dead_at"]),
        ("filtered", not viewer_of(row).wants(event)),
        ("expired", standing["is_expired"]),
        ("parked", standing["first_event_id"] is not None),
        ("disconnected", row["disconnected_at"]),
        ("pull", row["endpoint_url"] is None),
        ("settled", standing["is_settled"]),
        ("paused", row["state"] == "paused"),
    )
    return next((name for name, holds in outcomes if holds), "waiting")


def channels_of(events: Collection[Event]) -> set[UUID]:
    """The channels whose policies are needed to tell who sees these events masked."""
    return {event.channel_id for event in events if event.channel_id and event.author_service_id}
