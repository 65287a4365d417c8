"""What one subscription has yet to get, in one process: a state machine without a clock, a network or a database.

A lane is a conversation: at most one delivery in flight, the next event only after the one before is settled. Within a
shard the cursor is the last event up to which all is settled: delivered, passed over, given up, or covered by a parked
lane. A parked lane is one that failed: it waits on its own schedule, its events stay in the log, and the cursor passes.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Final
from uuid import UUID

from hub.domain.backoff import DELIVERY_SCHEDULE, delay
from hub.domain.breaker import REFUSAL_WINDOW, Breaker, Verdict
from hub.domain.events import Event
from hub.fanout.front import Front
from hub.fanout.lane import Changes, DeadLetter, Job, Lane, Parked, ReplayRun

WINDOW: Final = 2000
"""Events a subscription may have read and not settled: bounds memory; beyond it the log keeps them."""
WINDOW_BYTES: Final = 16 * 1024 * 1024
"""The same in bytes of their data."""
PAGE: Final = 50
"""Events of a parked lane, or of a replay, that are read at a time."""
SECOND_LOOK: Final = DELIVERY_SCHEDULE[0]
"""Seconds after which a lane is tried again whose failure may be the endpoint's; only then is it parked."""
SOON: Final = 0.05
"""Seconds until a lane is looked at again whose first event was not reached yet after a takeover."""
QUEUE: Final = 200
"""Lanes that stand in the queue, beyond which no parked ones are read again."""
SAVE_EVERY: Final = 100
"""Events a cursor moves before it is worth writing down; a checkpoint writes all of them."""
REPLAY_TRIES: Final = 3


class Lanes:
    """All lanes of one subscription in the shards this process owns."""

    def __init__(self, breaker: Breaker, random_: random.Random, *, holds: bool = False) -> None:
        self.breaker = breaker
        self.holds = holds
        self.fronts: dict[int, Front] = {}
        self.late: set[int] = set()
        self.changes = Changes()
        self.undone = 0
        self.size = 0
        self.parked: dict[UUID, Lane] = {}
        self.replays: dict[tuple[UUID, int], ReplayRun] = {}
        self._random = random_
        self._lanes: dict[UUID, Lane] = {}
        self._runnable: deque[Lane] = deque()
        self._hurried: set[UUID] = set()
        self._leaving: set[int] = set()
        self._aside: list[Lane] = []
        self._aside_alarms: list[tuple[float, Lane]] = []
        self._alarms: list[tuple[float, int, Lane]] = []
        self._count = 0

    # Shards ---------------------------------------------------------------------------------------------------------

    def add_shard(self, shard: int, position: int, done: Iterable[int] = (), behind: int = 0) -> None:
        """Begin with a shard where its last owner left it: `done` is what was settled above the position."""
        self.fronts[shard] = Front(position, done, behind)
        self.late.add(shard)

    def add_parked(
        self, key: UUID, shard: int, first_id: int, attempts: int, due: float, error: str, now: float
    ) -> None:
        """A lane that the last owner of its shard had parked."""
        lane = self._lane(key, shard)
        lane.parked = Parked(first_id, max(first_id, self.fronts[shard].position), attempts, due, error, now)
        self.parked[key] = lane
        self._alarm(due, lane)

    def add_replay(self, run: ReplayRun) -> None:
        """Work on a replay in a shard."""
        run.read = run.position
        self.replays[run.id, run.shard] = run
        if run.is_finished:
            self._note(run)

    def keep_replays(self, alive: Collection[tuple[UUID, int]]) -> None:
        """Drop the replays that somebody has cancelled."""
        for key in [key for key in self.replays if key not in alive]:
            self.replays.pop(key).is_cancelled = True

    def leave(self, shards: Collection[int]) -> None:
        """Start nothing more in these shards, and in those of before again; what is in flight goes on."""
        self._leaving = set(shards) & self.fronts.keys()
        aside, self._aside = self._aside, []
        for lane in aside:
            (self._aside if lane.shard in self._leaving else self._runnable).append(lane)
        alarms, self._aside_alarms = self._aside_alarms, []
        for at, lane in alarms:
            self._alarm(at, lane)

    def is_idle(self, shard: int) -> bool:
        """Whether nothing is in flight in a shard."""
        return shard not in self.fronts or not self.fronts[shard].flying

    def drop_shard(self, shard: int) -> None:
        """Forget a shard: it is somebody else's."""
        if self.fronts.pop(shard, None) is None:
            return
        for key in [key for key, lane in self._lanes.items() if lane.shard == shard]:
            lane = self._lanes.pop(key)
            self._forget_events(lane)
            self.parked.pop(key, None)
            self._hurried.discard(key)
        for run in [key for key in self.replays if key[1] == shard]:
            del self.replays[run]
        self.late.discard(shard)
        self.changes = self.changes.without(shard)
        self._leaving.discard(shard)
        self._runnable = deque(lane for lane in self._runnable if lane.shard != shard)
        self._aside = [lane for lane in self._aside if lane.shard != shard]
        self._aside_alarms = [(at, lane) for at, lane in self._aside_alarms if lane.shard != shard]

    def _forget_events(self, lane: Lane) -> None:
        if lane.parked is None:
            self.undone -= len(lane.events)
            self.size -= sum(len(event.data) for event in lane.events)
        lane.events.clear()
        lane.replays.clear()

    # Reading the log ------------------------------------------------------------------------------------------------

    @property
    def behind(self) -> int:
        """Events for it that are in the log and were not read yet."""
        return sum(front.behind for front in self.fronts.values())

    @property
    def has_room(self) -> bool:
        """Whether it may read more."""
        return self.undone < WINDOW and self.size < WINDOW_BYTES

    def offer(self, event: Event, *, is_wanted: bool) -> None:
        """See an event at the tail of the log; taken if it is the very next of its shard here."""
        front = self.fronts.get(event.shard)
        if front is None:
            return
        if event.prev_id == front.read and self.has_room:
            front.behind = 0
            self._take(front, event, is_wanted=is_wanted)
            return
        self.late.add(event.shard)
        front.behind += is_wanted

    def catch_up(self, event: Event, *, is_wanted: bool) -> None:
        """Take an event that was seen at the tail before, or written before this process had the shard."""
        front = self.fronts.get(event.shard)
        if front is None or event.id <= front.read:
            return
        front.behind = max(0, front.behind - is_wanted)
        self._take(front, event, is_wanted=is_wanted)

    def _take(self, front: Front, event: Event, *, is_wanted: bool) -> None:
        """Read the next event of a shard: to be delivered, or passed over."""
        if front.pass_over(event) or not is_wanted:
            front.advance()
            return
        lane = self._lane(event.lane, event.shard)
        if lane.parked is not None:
            _cover(lane, lane.parked, event)
            front.advance()
            return
        front.wait_for(event)
        lane.events.append(event)
        self.undone += 1
        self.size += len(event.data)
        self._wake(lane)

    # Working --------------------------------------------------------------------------------------------------------

    def next(self, now: float) -> Job | None:
        """The next delivery to make, if there is one and the endpoint may be asked."""
        if not self.breaker.may_try(now):
            return None
        while self._runnable:
            lane = self._runnable.popleft()
            if lane.shard in self._leaving:
                self._aside.append(lane)
                continue
            job = self._head(lane)
            if job is None:
                self._rest(lane)
                continue
            self.breaker.started()
            self.fronts[lane.shard].flying += 1
            return job
        return None

    @property
    def queued(self) -> int:
        """Lanes that stand in the queue."""
        return len(self._runnable)

    def _head(self, lane: Lane) -> Job | None:
        if lane.events:
            return Job(lane, lane.events[0])
        while lane.replays:
            event, run = lane.replays[0]
            if not run.is_cancelled and (lane.parked is None or event.id < lane.parked.first_id):
                return Job(lane, event, run)
            lane.replays.popleft()  # a parked lane will deliver it itself, in its turn
            self._settle_replay(run, event.id)
        return None

    def settle(
        self, job: Job, verdict: Verdict, now: float, *, status: int | None, error: str, retry_after: float | None
    ) -> None:
        """What became of a delivery."""
        lane = job.lane
        if self._lanes.get(lane.key) is not lane:
            self.breaker.given_up(now)
            return
        self.fronts[lane.shard].flying -= 1
        if verdict is Verdict.DELIVERED:
            self.breaker.succeeded(now)
            self._delivered(job, now)
        elif verdict is Verdict.GONE:
            self.breaker.given_up(now)
            self._runnable.append(lane)
        elif verdict is Verdict.REFUSED:
            assert status is not None
            was_closed = self.breaker.state == "closed"
            if self.breaker.refused(lane.key, status, now):
                self._blame_endpoint(lane)
                if was_closed:
                    self._absolve(error, now)
            else:
                self._failed(job, error, now, is_endpoint=False)
        elif self.breaker.failed(lane.key, verdict, now, retry_after):
            self._blame_endpoint(lane)
        else:
            self._failed(job, error, now, is_endpoint=True)

    def abandon(self, job: Job, now: float) -> None:
        """A delivery was broken off; it starts over."""
        lane = job.lane
        self.breaker.given_up(now)
        if self._lanes.get(lane.key) is lane:
            self.fronts[lane.shard].flying -= 1
            self._runnable.append(lane)

    def _delivered(self, job: Job, now: float) -> None:
        lane, parked = job.lane, job.lane.parked
        if job.replay is not None:
            lane.replays.popleft()
            job.replay.delivered += 1
            self.changes.revived[job.event.id] = lane.shard
            job.replay.tries = 0
            self._settle_replay(job.replay, job.event.id)
        else:
            lane.events.popleft()
            if parked is not None:
                self.changes.revived[job.event.id] = lane.shard  # it may have been a dead letter while it was held
                self._move_on(lane, parked, job.event.id, now)
            else:
                lane.failures = 0
                self._finish(job.event)
                self.fronts[lane.shard].settle(job.event.id)
        self._rest(lane)
        if self._hurried:
            self._hurry(now)

    def _finish(self, event: Event) -> None:
        self.undone -= 1
        self.size -= len(event.data)

    def _rest(self, lane: Lane) -> None:
        """A lane's delivery is settled: on with its next one, or out of the queue."""
        lane.is_busy = bool(lane.events or lane.replays) and not lane.is_waiting
        if lane.is_busy:
            self._runnable.append(lane)
        elif lane.parked is None and not lane.is_waiting:
            self._lanes.pop(lane.key, None)

    def _blame_endpoint(self, lane: Lane) -> None:
        """The breaker is open: nobody's attempt is used up, and who waited for a second look waits for the breaker."""
        self._runnable.append(lane)
        for other in self._lanes.values():
            if other.is_waiting:
                other.is_waiting, other.is_busy = False, True
                self._runnable.append(other)

    def _absolve(self, error: str, now: float) -> None:
        """So many lanes were refused in the same way that it was not their fault: their attempts are given back."""
        for lane in self.parked.values():
            parked = lane.parked
            if parked and parked.error == error and now - parked.failed_at < REFUSAL_WINDOW and parked.due < math.inf:
                parked.attempts, parked.due = max(0, parked.attempts - 1), now
                self._note_parked(lane)
                self._alarm(now, lane)

    def _failed(self, job: Job, error: str, now: float, *, is_endpoint: bool) -> None:
        lane, parked = job.lane, job.lane.parked
        if job.replay is not None:
            self._replay_failed(job, job.replay, error, now, is_endpoint=is_endpoint)
            return
        lane.failures += 1
        lane.failed_at = lane.failed_at if lane.failures > 1 else now
        if parked is not None:
            self._park_again(lane, parked, error, now, is_endpoint=is_endpoint)
        elif is_endpoint and lane.failures == 1:
            self._wait(lane, now + SECOND_LOOK)
        else:
            self._park(lane, error, now, is_endpoint=is_endpoint)

    def _wait(self, lane: Lane, until: float) -> None:
        lane.is_waiting, lane.is_busy = True, False
        self._alarm(until, lane)

    # Parked lanes ---------------------------------------------------------------------------------------------------

    def _park(self, lane: Lane, error: str, now: float, *, is_endpoint: bool) -> None:
        """Take a lane out of the way: the cursor passes over its events, which stay in the log."""
        first, last = lane.events[0], lane.events[-1]
        wait = delay(DELIVERY_SCHEDULE, lane.failures, self._random)
        assert wait is not None
        lane.parked = Parked(first.id, last.id, lane.failures, now + wait, error, now)
        lane.parked.is_own_fault = not is_endpoint or self.breaker.last_success > lane.failed_at
        self.parked[lane.key] = lane
        for event in lane.events:
            self._finish(event)
            self.fronts[lane.shard].cover(event.id)
        lane.events.clear()
        self._note_parked(lane)
        self._set_aside(lane, lane.parked)

    def _park_again(self, lane: Lane, parked: Parked, error: str, now: float, *, is_endpoint: bool) -> None:
        parked.attempts += 1
        parked.error = error
        is_own_fault = not is_endpoint or self.breaker.last_success > parked.failed_at
        parked.is_own_fault |= is_own_fault
        wait = delay(DELIVERY_SCHEDULE, parked.attempts, self._random)
        if wait is None and not is_own_fault:
            wait = DELIVERY_SCHEDULE[-1]  # nothing was taken since the last time: the endpoint's fault, no dead letter
        parked.failed_at = now
        if wait is None:
            self._give_up(lane, parked, now)
        else:
            parked.due = now + wait
            lane.events.clear()
            self._set_aside(lane, parked)
        self._note_parked(lane)

    def _set_aside(self, lane: Lane, parked: Parked) -> None:
        parked.loaded_id = 0
        self._alarm(parked.due, lane)
        if not parked.is_own_fault:
            self._hurried.add(lane.key)
        self._rest(lane)

    def _give_up(self, lane: Lane, parked: Parked, now: float) -> None:
        """The schedule is used up: a dead letter, and on with a visible gap; or the lane is held."""
        event = lane.events[0]
        self.changes.dead.append(DeadLetter(event.id, lane.shard, parked.attempts, parked.error))
        if self.holds:
            parked.due = math.inf
            lane.events.clear()
            parked.loaded_id = 0
            self._rest(lane)
            return
        lane.events.popleft()
        self._move_on(lane, parked, event.id, now)
        self._rest(lane)

    def _move_on(self, lane: Lane, parked: Parked, event_id: int, now: float) -> None:
        """A parked lane's head is settled: the next one's schedule begins, or the lane is free."""
        parked.first_id, parked.attempts, parked.is_own_fault = event_id + 1, 0, False
        parked.due = now
        lane.failures = 0
        self.fronts[lane.shard].note_done(event_id)
        self._hurried.discard(lane.key)
        if not lane.events:
            if event_id >= parked.last_id or parked.loaded_id >= parked.last_id:
                self._free(lane)
                return
            self._alarm(now, lane)
        self._note_parked(lane)

    def _free(self, lane: Lane) -> None:
        lane.parked = None
        lane.failures = 0
        self._hurried.discard(lane.key)
        self.parked.pop(lane.key, None)
        self.changes.parked.pop(lane.key, None)
        self.changes.freed[lane.key] = lane.shard

    def _note_parked(self, lane: Lane) -> None:
        if lane.parked is not None:
            self.changes.freed.pop(lane.key, None)
            self.changes.parked[lane.key] = lane

    def due(self, now: float, limit: int) -> list[Lane]:
        """Parked lanes whose events are to be read again now, through `load`. Wakes lanes that have waited."""
        found: list[Lane] = []
        if not self.breaker.may_try(now) or len(self._runnable) > QUEUE:
            return found
        while self._alarms and self._alarms[0][0] <= now and len(found) < limit:
            at, _, lane = heapq.heappop(self._alarms)
            if self._lanes.get(lane.key) is not lane:
                continue
            parked = lane.parked
            if lane.shard in self._leaving:
                self._aside_alarms.append((at, lane))
            elif lane.is_waiting:
                lane.is_waiting = False
                self._wake(lane)
            elif parked is None or parked.due > now or parked.is_loading or lane.events:
                continue
            elif parked.first_id > self.fronts[lane.shard].read:
                self._alarm(now + SOON, lane)  # taken over, and its first event is not reached again yet
            else:
                parked.is_loading = True
                found.append(lane)
        return found

    def load(self, lane: Lane, events: Sequence[Event], wanted: Sequence[bool], upto: int, now: float) -> None:
        """The events of a parked lane from its first on: all of them up to this id."""
        parked = lane.parked
        if self._lanes.get(lane.key) is not lane or parked is None:
            return
        parked.is_loading = False
        pairs = zip(events, wanted, strict=True)
        lane.events.extend(event for event, is_wanted in pairs if is_wanted and event.id >= parked.first_id)
        parked.loaded_id = upto
        if lane.events:
            self._wake(lane)
        elif upto >= parked.last_id:
            self._free(lane)
            if not lane.is_busy:
                self._rest(lane)
        else:
            parked.first_id = upto + 1
            self._note_parked(lane)
            self._alarm(now, lane)

    def _hurry(self, now: float) -> None:
        """The endpoint is well again: lanes that failed while nothing else went through need not wait."""
        for key in self._hurried:
            lane = self.parked.get(key)
            if lane and lane.parked and lane.parked.due < math.inf:
                lane.parked.due = now
                self._alarm(now, lane)
        self._hurried.clear()

    # Replays --------------------------------------------------------------------------------------------------------

    def hungry(self) -> list[ReplayRun]:
        """Replays that may read more, through `feed`; each at most as far as the subscription itself has read."""
        return [
            run
            for run in self.replays.values()
            if not (run.is_loading or run.is_cancelled)
            and run.shard not in self._leaving
            and len(run.waiting) < PAGE
            and run.read < min(run.upto, self.fronts[run.shard].read)
        ]

    def feed(self, run: ReplayRun, events: Sequence[Event], wanted: Sequence[bool], read: int) -> None:
        """Events of a replay, read up to `read`."""
        run.is_loading = False
        if self.replays.get((run.id, run.shard)) is not run:
            return
        run.read = read
        for event, is_wanted in zip(events, wanted, strict=True):
            if is_wanted and run.wants(event):
                run.waiting.append(event.id)
                lane = self._lane(event.lane, event.shard)
                lane.replays.append((event, run))
                self._wake(lane)
        if not run.waiting:
            run.position = run.read
        self._note(run)

    def _settle_replay(self, run: ReplayRun, event_id: int) -> None:
        run.settled.add(event_id)
        while run.waiting and run.waiting[0] in run.settled:
            run.position = run.waiting.popleft()
            run.settled.discard(run.position)
        if not run.waiting:
            run.position = run.read
        self._note(run)

    def _replay_failed(self, job: Job, run: ReplayRun, error: str, now: float, *, is_endpoint: bool) -> None:
        lane = job.lane
        run.tries += 1
        if is_endpoint and run.tries < REPLAY_TRIES:
            self._wait(lane, now + SECOND_LOOK)
            return
        self.changes.dead.append(DeadLetter(job.event.id, lane.shard, run.tries, error))
        run.tries = 0
        lane.replays.popleft()
        run.failed += 1
        self._settle_replay(run, job.event.id)
        self._rest(lane)

    def _note(self, run: ReplayRun) -> None:
        self.changes.replays[run.id, run.shard] = run
        if run.is_finished:
            self.replays.pop((run.id, run.shard), None)

    @property
    def has_held(self) -> bool:
        """Whether a lane waits for somebody to let it go on."""
        return any(lane.parked and lane.parked.due == math.inf for lane in self.parked.values())

    def release_held(self, key: UUID, first_id: int, attempts: int, now: float) -> None:
        """Somebody has let a lane go on that was held: from this event on."""
        lane = self.parked.get(key)
        if lane and lane.parked and lane.parked.due == math.inf:
            parked = lane.parked
            parked.first_id, parked.attempts, parked.due = max(parked.first_id, first_id), attempts, now
            self._alarm(now, lane)

    # Cursors --------------------------------------------------------------------------------------------------------

    def moved(self, *, is_checkpoint: bool) -> list[int]:
        """Shards whose cursor is worth writing down; at a checkpoint, all where it is not the whole truth."""
        if is_checkpoint:
            return sorted(shard for shard, front in self.fronts.items() if not front.is_plain)
        return sorted(shard for shard, front in self.fronts.items() if front.moved >= SAVE_EVERY)

    def oldest(self) -> float | None:
        """When the oldest event was logged that is read and not settled, as a Unix time."""
        heads = [event.at.timestamp() for front in self.fronts.values() if (event := front.oldest)]
        return min(heads, default=None)

    # Lanes ----------------------------------------------------------------------------------------------------------

    def _lane(self, key: UUID, shard: int) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, shard)
        return lane

    def _wake(self, lane: Lane) -> None:
        if not lane.is_busy and not lane.is_waiting:
            lane.is_busy = True
            if self.breaker.state != "closed" and lane.parked is None and not lane.failures:
                self._runnable.appendleft(lane)  # who has not failed asks first: one that is ill alone delays nobody
            else:
                self._runnable.append(lane)

    def _alarm(self, at: float, lane: Lane) -> None:
        if at < math.inf:
            self._count += 1
            heapq.heappush(self._alarms, (at, self._count, lane))


def _cover(lane: Lane, parked: Parked, event: Event) -> None:
    """A parked lane covers one event more; if it is just catching up, it may have it at once."""
    is_at_end = parked.loaded_id >= parked.last_id and bool(lane.events) and len(lane.events) < PAGE
    parked.last_id = event.id
    if is_at_end:
        lane.events.append(event)
        parked.loaded_id = event.id
