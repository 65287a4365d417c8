"""The engine's state machine against a model: whatever is acknowledged, refused, taken over: nothing is lost (G2, G3).

The model is the log and, per conversation, what the receiver has accepted. Dispatchers come and go; a new one knows
what the last one wrote down, and nothing else.
"""

import math
import random
from collections import defaultdict
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.domain.breaker import Breaker, Verdict
from hub.domain.events import Event
from hub.fanout.lane import Changes, Job
from hub.fanout.lanes import PAGE, Lanes

SHARD = 0
LANES = [UUID(int=n * 256) for n in range(1, 5)]


def event(number: int, prev: int, lane: UUID) -> Event:
    return Event(number, SHARD, prev, "message.received", datetime.now(UTC), lane, lane, number, None, None, None, "{}")


class Machine:
    """A log, a database that remembers what was flushed, a receiver, and one dispatcher's lanes at a time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.log: list[Event] = []
        self.accepted: dict[UUID, list[int]] = defaultdict(list)
        self.dead: set[int] = set()
        self.position, self.done = 0, set[int]()
        self.parked: dict[UUID, tuple[int, int, float, str]] = {}
        self.unflushed: list[int] = []
        self.flying: list[Job] = []
        self.lanes = self.started()

    def started(self) -> Lanes:
        lanes = Lanes(Breaker(self.random), self.random)
        lanes.add_shard(SHARD, self.position, self.done)
        for key, (first, attempts, due, error) in self.parked.items():
            lanes.add_parked(key, SHARD, first, attempts, due, error, self.now)
        return lanes

    def ingest(self, lane: int) -> None:
        last = self.log[-1].id if self.log else 0
        self.log.append(event(last + self.random.randint(1, 3), last, LANES[lane]))
        self.lanes.offer(self.log[-1], is_wanted=True)

    def read(self) -> None:
        for entry in [e for e in self.log if e.id > self.lanes.fronts[SHARD].read][:7]:
            self.lanes.catch_up(entry, is_wanted=True)

    def start(self) -> None:
        self.load()
        job = self.lanes.next(self.now)
        if job is not None:
            assert all(other.lane.key != job.lane.key for other in self.flying), "two in flight in one lane"
            self.flying.append(job)

    def load(self) -> None:
        for lane in self.lanes.due(self.now, 10):
            assert lane.parked is not None
            found = [e for e in self.log if e.lane == lane.key and lane.parked.first_id <= e.id <= lane.parked.last_id][
                :PAGE
            ]
            upto = found[-1].id if len(found) == PAGE else lane.parked.last_id
            if self.random.random() < 0.3:  # more is covered while the log is read
                self.ingest(LANES.index(lane.key))
            self.lanes.load(lane, found, [True] * len(found), upto, self.now)

    def answer(self, which: int, verdict: Verdict) -> None:
        if not self.flying:
            self.start()
        if not self.flying:
            return
        job = self.flying.pop(which % len(self.flying))
        if verdict is Verdict.DELIVERED:
            before = [e.id for e in self.log if e.lane == job.lane.key and e.id < job.event.id]
            settled = set(self.accepted[job.lane.key]) | self.dead | {d.event_id for d in self.lanes.changes.dead}
            assert settled.issuperset(before), "delivered before its predecessors were"
            self.accepted[job.lane.key].append(job.event.id)
            self.unflushed.append(job.event.id)
        status = {Verdict.DELIVERED: 200, Verdict.REFUSED: 422, Verdict.FAILING: 500}.get(verdict)
        self.lanes.settle(job, verdict, self.now, status=status, error=f"http_{status}", retry_after=None)

    def flush(self, is_checkpoint: bool) -> None:
        changes, self.lanes.changes = self.lanes.changes, Changes()
        self.done |= set(self.unflushed)
        self.unflushed = []
        for key in changes.freed:
            self.parked.pop(key, None)
        for key, lane in changes.parked.items():
            assert lane.parked is not None
            self.parked[key] = (lane.parked.first_id, lane.parked.attempts, lane.parked.due, lane.parked.error)
        self.dead |= {letter.event_id for letter in changes.dead}
        if SHARD in self.lanes.moved(is_checkpoint=is_checkpoint):
            front = self.lanes.fronts[SHARD]
            self.position, self.done = front.position, set(front.done_above())
            front.moved = 0

    def take_over(self) -> None:
        """Killed: what was in flight and what was not flushed is forgotten."""
        self.flying, self.unflushed = [], []
        self.lanes = self.started()

    def deliver(self, count: int) -> None:
        for _ in range(count):
            self.start()
            self.answer(0, Verdict.DELIVERED)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def check_cursor(self) -> None:
        for entry in self.log:
            if entry.id <= self.position:
                is_covered = entry.lane in self.parked and entry.id >= self.parked[entry.lane][0]
                is_known = entry.id in self.accepted[entry.lane] or entry.id in self.dead
                assert is_covered or is_known, "the cursor passed over an event that nobody has"

    def settle_down(self) -> None:
        """The endpoint is well for as long as it takes."""
        for _ in range(20 + 20 * len(self.log)):
            self.now += 100_000.0
            self.read()
            self.start()
            while self.flying:
                self.answer(0, Verdict.DELIVERED)
                self.start()
            self.flush(True)


INGEST = st.tuples(st.just("ingest"), st.integers(0, len(LANES) - 1))
DELIVER = st.tuples(st.just("deliver"), st.integers(1, 6))
ANSWER = st.tuples(
    st.just("answer"),
    st.integers(0, 7),
    st.sampled_from([Verdict.DELIVERED, Verdict.REFUSED, Verdict.FAILING, Verdict.UNREACHABLE, Verdict.LIMITED]),
)
STEPS = st.one_of(
    INGEST,
    INGEST,
    INGEST,
    DELIVER,
    ANSWER,
    ANSWER,
    st.tuples(st.just("start")),
    st.tuples(st.just("read")),
    st.tuples(st.just("flush"), st.booleans()),
    st.tuples(st.just("pass_time"), st.sampled_from([0.5, 6.0, 40.0, 4000.0, 90_000.0])),
    st.tuples(st.just("take_over")),
)


@settings(max_examples=400)
@given(st.lists(STEPS, min_size=10, max_size=80), st.integers(0, 2**16))
def test_g2_nothing_is_lost_and_order_holds_whatever_happens(steps: list[tuple[object, ...]], seed: int) -> None:
    machine = Machine(seed)
    for name, *arguments in steps:
        getattr(machine, str(name))(*arguments)
        machine.check_cursor()
    machine.settle_down()
    for entry in machine.log:
        assert entry.id in machine.accepted[entry.lane] or entry.id in machine.dead
    for ids in machine.accepted.values():
        firsts = list(dict.fromkeys(ids))
        assert firsts == sorted(firsts)
    assert machine.lanes.undone == 0
    assert not machine.lanes.parked
    assert not any(due < math.inf for _, _, due, _ in machine.parked.values())
