"""What a subscription's lanes are made of: values of the state machine in `hub.fanout.lanes`."""

import math
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from hub.domain.events import Event


@dataclass(slots=True)
class Parked:
    """A lane that waits. It covers its events from `first_id` to `last_id`; `loaded_id`: those in memory end here.

    `is_own_fault`: it failed while the endpoint was well, so that the endpoint's recovery is no reason to hurry.
    """

    first_id: int
    last_id: int
    attempts: int
    due: float
    error: str
    failed_at: float
    loaded_id: int = 0
    is_own_fault: bool = False
    is_loading: bool = False

    def wait(self, now: float) -> float | None:
        """Seconds until it is tried again; None: it is held."""
        return max(0.0, self.due - now) if self.due < math.inf else None


@dataclass(slots=True)
class ReplayRun:
    """A replay's part in one shard: a second cursor. `position` is settled up to, `read` is taken up to."""

    id: UUID
    shard: int
    position: int
    upto: int
    lane: UUID | None
    only_ids: frozenset[int] | None
    since: float | None
    until: float | None
    read: int = 0
    waiting: deque[int] = field(default_factory=deque)
    settled: set[int] = field(default_factory=set)
    delivered: int = 0
    failed: int = 0
    tries: int = 0
    is_cancelled: bool = False
    is_loading: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether all of it was tried."""
        return self.read >= self.upto and not self.waiting

    def wants(self, event: Event) -> bool:
        """Whether the replay is about this event."""
        if self.only_ids is not None and event.id not in self.only_ids:
            return False
        at = event.at.timestamp()
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)


@dataclass(slots=True)
class Lane:
    """One conversation's line. Busy: it stands in the queue, or a delivery is in flight."""

    key: UUID
    shard: int
    events: deque[Event] = field(default_factory=deque)
    replays: deque[tuple[Event, ReplayRun]] = field(default_factory=deque)
    parked: Parked | None = None
    failures: int = 0
    failed_at: float = 0.0
    is_busy: bool = False
    is_waiting: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery to make."""

    lane: Lane
    event: Event
    replay: ReplayRun | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up."""

    event_id: int
    shard: int
    attempts: int
    error: str


@dataclass(slots=True)
class Changes:
    """What is to be written down besides deliveries and cursors."""

    parked: dict[UUID, Lane] = field(default_factory=dict)
    freed: dict[UUID, int] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    revived: dict[int, int] = field(default_factory=dict)
    replays: dict[tuple[UUID, int], ReplayRun] = field(default_factory=dict)

    @property
    def shards(self) -> set[int]:
        """The shards that any of it is about."""
        found = {lane.shard for lane in self.parked.values()} | {letter.shard for letter in self.dead}
        return found | {shard for _, shard in self.replays} | {*self.freed.values(), *self.revived.values()}

    def without(self, shard: int) -> "Changes":
        """All that is about other shards."""
        return Changes(
            {key: lane for key, lane in self.parked.items() if lane.shard != shard},
            {key: at for key, at in self.freed.items() if at != shard},
            [letter for letter in self.dead if letter.shard != shard],
            {event_id: at for event_id, at in self.revived.items() if at != shard},
            {key: run for key, run in self.replays.items() if key[1] != shard},
        )
