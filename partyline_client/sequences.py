"""Detect gaps: every event of a conversation takes the next number (rule B6).

A missing number is an event that never came: dead-lettered, skipped at a resume, expired. That is promised only to a
subscription without an `event_types` filter, which leaves numbers out by itself.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from partyline_client.events import Event

CONVERSATIONS: Final = 10_000
"""Conversations that are remembered, those heard of last."""
RANGES: Final = 64
"""Missing ranges that are remembered of one conversation, the newest."""


class Place(Enum):
    """Where an event stands in its conversation."""

    IN_ORDER = "in order"
    """The next number, or the first we hear of this conversation; also an event without a conversation."""
    GAP = "gap"
    """Numbers before it never came."""
    LATE = "late"
    """An old number that we have not had, as far as we remember: a replay that fills a gap, mostly."""
    REPEAT = "repeat"
    """A number that we have had."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Numbers of a conversation that never came, the last included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class Observation:
    """Where an event stands, and the numbers `missing` before it where that is a gap."""

    place: Place
    missing: Missing | None = None


@dataclass(slots=True)
class Numbers:
    """What is known of one conversation: `oldest` to `highest`, of which all came but for `missing`, ascending."""

    oldest: int
    highest: int
    missing: list[Missing] = field(default_factory=list)

    def note(self, sequence: int, *, is_replay: bool = False) -> Observation:
        """Say where a number stands, and remember it."""
        return self._fill(sequence) if is_replay or sequence <= self.highest else self._go_on(sequence)

    def _go_on(self, sequence: int) -> Observation:
        """A number above all others."""
        expected, self.highest = self.highest + 1, sequence
        if sequence == expected:
            return Observation(Place.IN_ORDER)
        gap = Missing(expected, sequence - 1)
        self.missing.append(gap)
        self._forget()
        return Observation(Place.GAP, gap)

    def _fill(self, sequence: int) -> Observation:
        """An old number, or a replay of one that is yet to come."""
        if not self.oldest <= sequence <= self.highest:
            return Observation(Place.LATE)
        for index, gap in enumerate(self.missing):
            if gap.first <= sequence <= gap.last:
                halves = (Missing(gap.first, sequence - 1), Missing(sequence + 1, gap.last))
                self.missing[index : index + 1] = [half for half in halves if half.first <= half.last]
                self._forget()
                return Observation(Place.LATE)
        return Observation(Place.REPEAT)

    def _forget(self) -> None:
        """Keep the newest ranges; what is below them is not known any more."""
        if len(self.missing) > RANGES:
            self.oldest = self.missing.pop(0).last + 1


class Sequences:
    """Watches the numbers of up to `limit` conversations. Safe to share between threads and tasks."""

    def __init__(self, *, limit: int = CONVERSATIONS) -> None:
        self._limit = limit
        self._known: OrderedDict[str, Numbers] = OrderedDict()
        self._lock = threading.Lock()

    def observe(self, event: Event) -> Observation:
        """Say where an event stands, and remember it."""
        if event.conversation_id is None or event.sequence is None:
            return Observation(Place.IN_ORDER)
        return self.note(event.conversation_id, event.sequence, is_replay=event.is_replay)

    def note(self, conversation_id: str, sequence: int, *, is_replay: bool = False) -> Observation:
        """The same for a number alone. After a start, note the last one that the database has of a conversation."""
        with self._lock:
            known = self._known.get(conversation_id)
            if known is not None:
                self._known.move_to_end(conversation_id)
                return known.note(sequence, is_replay=is_replay)
            if is_replay:  # an old number says nothing about the next one
                return Observation(Place.LATE)
            self._known[conversation_id] = Numbers(sequence, sequence)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
            return Observation(Place.IN_ORDER)

    def missing(self, conversation_id: str) -> tuple[Missing, ...]:
        """What is still missing of a conversation: ask the hub for a replay, or live with it."""
        with self._lock:
            known = self._known.get(conversation_id)
            return tuple(known.missing) if known else ()
