"""Which pages of the console are out of date: topics, told to those who may see what changed (rules C1, A4)."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final
from uuid import UUID

from hub.domain.ids import public_id
from hub.domain.positions import SHARDS
from hub.store import event_log, presence, pulse
from hub.store.pool import Connection, Record

MOST: Final = 1000
"""Events looked at in one go."""
_PRESENCES: Final = 500
_BY_TYPE: Final = {
    "service.": "roster",
    "channel.": "roster",
    "subscription.": "roster",
    "sender.": "roster",
    "template.": "roster",
    "profile.": "contacts",
    "visitor.": "contacts",
    "consent.": "contacts",
    "link.": "campaigns",
}

Hint = tuple[UUID | None, Collection[UUID] | None, frozenset[str]]
"""A channel (None: none in particular), the only services that may know (None: all of the channel), and topics."""


def topics_of(row: Record | Mapping[str, object]) -> frozenset[str]:
    """What an event of the log makes out of date."""
    topics = {"traffic", "events"}
    for name, prefix in (("conversation", "cnv"), ("message", "msg"), ("contact", "con")):
        value = row[f"{name}_id"]
        if isinstance(value, UUID):
            topics |= {f"{name}:{public_id(prefix, value)}", f"{name}s"}
    kind = str(row["type"])
    topics |= {topic for start, topic in _BY_TYPE.items() if kind.startswith(start)}
    return frozenset(topics)


class Lookout:
    """Looks at the database for all viewers of a process together, and knows where it looked last."""

    def __init__(self) -> None:
        self._at: list[int] | None = None
        self._change = 0
        self._marks: dict[str, int] = {}
        self._deliveries: dict[UUID, frozenset[tuple[object, ...]]] = {}
        self._is_first = True

    async def look(self, conn: Connection) -> list[Hint]:
        """What happened in conversations since the last look, in whichever process: the log tells, and presences."""
        if self._at is None:
            heads = await event_log.find_heads(conn)
            self._at = [heads[shard] for shard in range(SHARDS)]
            _, self._change = await presence.find_pulse(conn)
        rows = await pulse.list_hints(conn, self._at, MOST)
        for row in rows:
            self._at[row["shard"]] = row["id"]
        hints: list[Hint] = [(row["channel_id"], row["audience"], topics_of(row)) for row in rows]
        _, drawn = await presence.find_pulse(conn)
        if drawn > self._change:
            there, self._change = await presence.list_changes(conn, self._change, drawn, _PRESENCES)
            hints += [(row["channel_id"], None, _where(row)) for row in there]
        return hints

    async def look_around(self, conn: Connection) -> tuple[set[str], dict[UUID, set[str]]]:
        """What else changed: topics for everybody and for the operator, and topics by service. Less often."""
        marks, deliveries = await pulse.find_marks(conn), await pulse.list_delivery_marks(conn)
        changed = {name for name, value in marks.items() if self._marks.get(name) != value}
        moved = [key for key in {*deliveries, *self._deliveries} if deliveries.get(key) != self._deliveries.get(key)]
        self._marks, self._deliveries = marks, deliveries
        is_first, self._is_first = self._is_first, False
        if is_first:
            return set(), {}
        topics = {_TOPIC_OF_MARK[name] for name in changed} | ({"deliveries"} if moved else set())
        return topics, {service: {"deliveries"} for service in moved}


_TOPIC_OF_MARK: Final = {
    "roster": "roster",
    "audit": "audit",
    "quarantined": "quarantine",
    "quarantine_open": "quarantine",
    "delivered": "deliveries",
}
FOR_ALL: Final = frozenset({"roster"})
"""Topics of `look_around` that are no operator's secret."""


def _where(row: Record) -> frozenset[str]:
    return frozenset({f"conversation:{public_id('cnv', row['conversation_id'])}", "conversations"})


def seen_by(hints: Iterable[Hint], service_id: UUID | None, channels: Collection[UUID]) -> set[str]:
    """The topics among these hints that a viewer may know of; the operator (None) of all."""
    found: set[str] = set()
    for channel, audience, topics in hints:
        is_within = channel in channels and (audience is None or service_id in audience)
        if service_id is None or is_within:
            found |= topics
    return found
