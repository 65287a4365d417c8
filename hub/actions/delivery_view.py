"""Looking at deliveries: how each subscription does, and what was attempted (rule G3)."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.domain.ids import event_id, public_id
from hub.store import attempts, delivery_health
from hub.store.deliveries import find_packed, unpack
from hub.store.pool import Connection, Record

LAST_EVENT: Final = 2**63 - 1
NO_SUBSCRIPTION: Final = UUID(int=0)
CHUNK: Final = 25
"""Flushes of accepted deliveries that are read at a time."""
MOST_CHUNKS: Final = 80
"""How many times for one page, so that none costs more than this."""
_OUTCOMES: Final = ("delivered", "refused", "failed", "gone")


# How a subscription does --------------------------------------------------------------------------------------------


async def view_deliveries(conn: Connection, subscription_ids: Collection[UUID]) -> list[dict[str, Any]]:
    """Current subscriptions as the operator sees them: who, where, and how their deliveries go."""
    expired: dict[UUID, list[Record]] = defaultdict(list)
    for row in await delivery_health.list_expired(conn, subscription_ids):
        expired[row["subscription_id"]].append(row)
    rows = await delivery_health.list_health(conn, subscription_ids)
    return [
        {
            "id": public_id("sub", row["id"]),
            "service": {"id": public_id("svc", row["service_id"]), "name": row["service_name"]},
            "number": row["e164"],
            "channel_id": public_id("chn", row["channel_id"]),
            "role": "standalone" if row["kind"] == "standalone" else "parent" if row["is_parent"] else "subscriber",
            "endpoint_url": row["endpoint_url"],
            "on_exhausted": row["on_exhausted"],
            "connected_at": row["connected_at"],
            "delivery": _delivery(row, expired[row["id"]]),
        }
        for row in rows
    ]


def _delivery(row: Record, expired: Sequence[Record]) -> dict[str, Any]:
    """`breaker` and `lag` are null where no process delivers to it just now."""
    is_live = row["dispatchers"] > 0
    return {
        **{name: row[name] for name in ("state", "paused_reason", "paused_at", "breaker", "retry_at")},
        "in_flight": row["in_flight"] or 0,
        "lag": {"events": row["events"], "seconds": round(max(row["seconds"] or 0.0, 0.0), 3)} if is_live else None,
        "parked_lanes": row["parked"],
        "attempts": {outcome: row[outcome] or 0 for outcome in _OUTCOMES},
        **{name: row[name] for name in ("last_delivered_at", "last_error", "last_error_at", "failing_since")},
        "expired": [
            {
                "after_event_id": event_id(gap["after_event_id"]),
                "upto_event_id": event_id(gap["upto_event_id"]),
                "noted_at": gap["noted_at"],
            }
            for gap in expired
        ],
    }


# What was attempted -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in the list of attempts, which is ordered by time, event and subscription (of several, one event may be
    delivered in the same instant): a page holds what lies below it.
    """

    at: datetime
    event_id: int
    subscription_id: UUID = NO_SUBSCRIPTION


@dataclass(frozen=True, slots=True)
class Page:
    """Attempts, newest first, and where the next page begins; a page may be short and yet have a next one. `owners`:
    of each attempt the subscription it was for.
    """

    items: list[dict[str, Any]]
    next: Mark | None
    owners: Sequence[UUID] = ()


async def list_attempts(
    conn: Connection,
    subscription_ids: Collection[UUID],
    before: Mark,
    limit: int,
    outcome: str | None,
    *,
    most_chunks: int | None = None,
) -> Page:
    """What was attempted for these subscriptions, newest first; `outcome` None: all. `most_chunks`: how much of what
    was accepted is read for the page; None: `MOST_CHUNKS`.
    """
    if not subscription_ids:
        return Page([], None)
    found: list[Mapping[str, Any]] = []
    horizon = None
    if outcome != "delivered":
        place = before.at, before.event_id, before.subscription_id
        failed = await attempts.list_failed(conn, subscription_ids, place, outcome, limit)
        found += map(dict, failed)
    if outcome in {None, "delivered"}:
        accepted, horizon = await _accepted_before(conn, subscription_ids, before, limit, most_chunks or MOST_CHUNKS)
        found += accepted
    found.sort(key=_mark, reverse=True)
    page = [row for row in found if horizon is None or _mark(row) > horizon][:limit]
    return await _page(conn, page, _mark(page[-1]) if len(page) == limit else horizon)


def _mark(row: Mapping[str, Any]) -> Mark:
    return Mark(row["at"], row["event_id"], row["subscription_id"])


async def _accepted_before(
    conn: Connection, wanted: Collection[UUID], before: Mark, limit: int, most_chunks: int
) -> tuple[list[dict[str, Any]], Mark | None]:
    """Accepted deliveries below a mark, and how far down they are complete; None: to the end."""
    found: list[dict[str, Any]] = []
    at = before.at
    for _ in range(most_chunks):
        rows = await attempts.list_packed_before(conn, at, CHUNK)
        is_last = len(rows) < CHUNK
        at = rows[-1]["at"] if rows else at
        for row in rows:
            if is_last or row["at"] > at:  # others of the same instant may be in the next chunk
                found += [item for item in _unpacked(row, wanted) if _mark(item) < before]
        if is_last:
            return found, None
        if len(found) >= limit:
            break
    return found, Mark(at, LAST_EVENT)


async def list_attempts_of(
    conn: Connection, subscription_ids: Collection[UUID], number: int, before: Mark, limit: int, outcome: str | None
) -> Page:
    """What was attempted of one event, newest first.

    That it was accepted is looked for in what was delivered after it was made, and after it failed last: for minutes
    of full load, and for days of little.
    """
    event = await attempts.find_event(conn, number)
    if event is None:
        return Page([], None)
    wanted = await attempts.list_hearers(conn, subscription_ids, event["channel_id"])
    most = limit + len(wanted) + 2
    failed = await attempts.list_failed_of_event(conn, wanted, event["shard"], number, before.at, most)
    starts = {event["created_at"], *(row["at"] for row in failed[:1])}
    accepted = {}
    for start in starts:
        for item in await _accepted_after(conn, wanted, number, start):
            accepted[item["at"], item["subscription_id"]] = item
    found = sorted([*map(dict, failed), *accepted.values()], key=_mark, reverse=True)
    rows = [row for row in found if _mark(row) < before and outcome in {None, row["outcome"]}]
    return await _page(conn, rows[:limit], _mark(rows[limit - 1]) if len(rows) > limit else None)


async def _page(conn: Connection, rows: Sequence[Mapping[str, Any]], following: Mark | None) -> Page:
    return Page(await _items(conn, rows), following, [row["subscription_id"] for row in rows])


async def _accepted_after(
    conn: Connection, wanted: Collection[UUID], number: int, at: datetime
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    asked = dict.fromkeys(wanted, (number,))
    for _ in range(MOST_CHUNKS):
        rows = await attempts.list_packed_after(conn, at, CHUNK)
        for row in rows:
            found += [_accepted(row, entry) for entry in find_packed(row["entries"], asked)]
        if len(rows) < CHUNK or {item["subscription_id"] for item in found}.issuperset(wanted):
            break
        at = rows[-1]["at"]
    return found


def _unpacked(row: Record, wanted: Collection[UUID]) -> list[dict[str, Any]]:
    return [_accepted(row, entry) for entry in unpack(row["entries"], wanted)]


def _accepted(row: Record, entry: tuple[UUID, int, int, int]) -> dict[str, Any]:
    """A delivery of this flush that was accepted, as `attempt` has those that were not."""
    subscription_id, number, status, duration = entry
    return {
        "subscription_id": subscription_id,
        "event_id": number,
        "at": row["at"],
        "outcome": "delivered",
        "http_status": status,
        "duration_ms": duration,
        "detail": None,
    }


async def _items(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    types = await attempts.find_types(conn, {row["event_id"] for row in rows})
    return [
        {
            "event_id": event_id(row["event_id"]),
            "type": types.get(row["event_id"]),
            **{name: row[name] for name in ("at", "outcome", "http_status", "duration_ms", "detail")},
        }
        for row in rows
    ]
