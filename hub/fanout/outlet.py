"""One subscription's deliveries: lanes in order, in parallel up to its own budget (rules G1 to G3).

A lane is a conversation: at most one POST in flight, its next event only after the one before is done. A failing lane
waits on its own schedule; the others go on. The cursor of a shard is the last event up to which everything is done.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram

from hub.domain.backoff import DELIVERY_SCHEDULE, delay
from hub.domain.events import Event
from hub.domain.ids import event_id
from hub.domain.signing import sign
from hub.fanout.client import Answer, DeliveryClient
from hub.fanout.receivers import Receiver
from hub.store.deliveries import Attempt, Progress

log = structlog.get_logger()

WINDOW: Final = 2000
"""Events a subscription may have read and not done: bounds memory; beyond it the log keeps them."""
SECRET_HEAD_START: Final = 0.2
"""Seconds between connecting and the first delivery: the secret is in the answer to the connect, and must be first."""
ATTEMPTS = Counter("partyline_delivery_attempts", "Delivery attempts by outcome", ["outcome"])
LATENCY = Histogram(
    "partyline_delivery_seconds", "One delivery attempt", buckets=(0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 15)
)


@dataclass(slots=True)
class _Lane:
    key: UUID
    events: deque[Event] = field(default_factory=deque)
    attempts: int = 0
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that this subscription will not get."""

    subscription_id: UUID
    event_id: int
    attempts: int
    last_error: str


@dataclass(slots=True)
class Report:
    """Where outlets put what happened, for the dispatcher to write down in batches."""

    attempts: list[Attempt] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class Outlet:
    """Delivers to one subscription. `body` renders an event for it; `ready` is set while rosters are up to date."""

    def __init__(
        self,
        receiver: Receiver,
        progress: Progress,
        client: DeliveryClient,
        body: Callable[[Event, Receiver], bytes],
        ready: asyncio.Event,
        report: Report,
        *,
        concurrency: int,
    ) -> None:
        self.receiver = receiver
        self.positions = progress.positions
        self.read = dict(progress.positions)
        self.dirty: set[int] = set()
        self._done_before = progress.done
        self._client = client
        self._body = body
        self._ready = ready
        self._report = report
        self._concurrency = concurrency
        self._lanes: dict[UUID, _Lane] = {}
        self._runnable: deque[_Lane] = deque()
        self._open: dict[int, deque[int]] = {shard: deque() for shard in progress.positions}
        self._finished: set[int] = set()
        self._undone = 0
        self._workers = 0
        self._is_draining = False
        self._opens_at = time.monotonic() + max(0.0, SECRET_HEAD_START - receiver.age)
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.Random()  # noqa: S311  jitter, no secret

    @property
    def undone(self) -> int:
        """Events read and not yet done."""
        return self._undone

    @property
    def has_room(self) -> bool:
        """Whether it may read more."""
        return self._undone < WINDOW

    def take_dirty(self) -> list[tuple[int, int]]:
        """Shards whose cursor moved since the last call, with where it is now."""
        shards, self.dirty = self.dirty, set()
        return [(shard, self.positions[shard]) for shard in sorted(shards)]

    def offer(self, event: Event) -> None:
        """Take an event from the tail, if it is the very next of its shard for this subscription."""
        if event.prev_id == self.read[event.shard] and self.has_room:
            self.take(event)

    def take(self, event: Event) -> None:
        """Read the next event of a shard: deliver it, or pass over it."""
        self.read[event.shard] = event.id
        waiting = self._open[event.shard]
        if not self.receiver.viewer.wants(event) or event.id in self._done_before:
            self._done_before.discard(event.id)
            if waiting:
                waiting.append(event.id)
                self._finished.add(event.id)
            else:
                self._advance(event.shard, event.id)
            return
        waiting.append(event.id)
        self._undone += 1
        lane = self._lanes.get(event.lane)
        if lane is None:
            lane = self._lanes[event.lane] = _Lane(event.lane)
        lane.events.append(event)
        if not lane.is_busy:
            self._make_runnable(lane)

    def _make_runnable(self, lane: _Lane) -> None:
        lane.is_busy = True
        self._runnable.append(lane)
        if self._workers < self._concurrency:
            self._workers += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        """One of at most `concurrency` workers; counted out in the same step in which it finds nothing more to do, so
        that whatever becomes runnable from then on gets a new one.
        """
        try:
            await self._deliver_runnable()
        finally:
            self._workers -= 1

    async def _deliver_runnable(self) -> None:
        """Take one event of one lane after another until none is runnable."""
        while self._runnable:
            await self._ready.wait()
            if self._opens_at:
                await asyncio.sleep(max(0.0, self._opens_at - time.monotonic()))
                self._opens_at = 0.0
            if self._is_draining or not self._runnable:
                return
            lane = self._runnable.popleft()
            event = lane.events[0]
            try:
                answer = await self._attempt(event)
            except Exception:
                log.exception("delivery.broke", event_id=event_id(event.id))
                answer = Answer(None, "internal")
            if answer.is_accepted:
                self._done(lane, event)
            else:
                self._failed(lane, event, answer)

    async def _attempt(self, event: Event) -> Answer:
        receiver = self.receiver
        body = self._body(event, receiver)
        name, stamp = event_id(event.id), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(stamp),
            "webhook-signature": sign(receiver.keys, name, stamp, body),
        }
        started = time.perf_counter()
        answer = await self._client.post(receiver.endpoint_url, body, headers)
        duration = time.perf_counter() - started
        outcome = _outcome(answer)
        ATTEMPTS.labels(outcome).inc()
        LATENCY.observe(duration)
        self._report.attempts.append(
            Attempt(
                subscription_id=receiver.id,
                shard=event.shard,
                event_id=event.id,
                at=datetime.now(UTC),
                outcome=outcome,
                http_status=answer.status,
                duration_ms=int(duration * 1000),
                detail=answer.problem,
            )
        )
        return answer

    def _done(self, lane: _Lane, event: Event) -> None:
        lane.events.popleft()
        lane.attempts = 0
        self._undone -= 1
        self._finished.add(event.id)
        self._settle(event.shard)
        if lane.events:
            self._runnable.append(lane)
        else:
            lane.is_busy = False
            del self._lanes[lane.key]

    def _failed(self, lane: _Lane, event: Event, answer: Answer) -> None:
        lane.attempts += 1
        problem = answer.problem or f"http_{answer.status}"
        wait = delay(DELIVERY_SCHEDULE, lane.attempts, self._random)
        log.warning(
            "delivery.failed",
            subscription=self.receiver.id.hex,
            event_id=event_id(event.id),
            problem=problem,
            attempts=lane.attempts,
            retry_in=wait and round(wait, 1),
        )
        if wait is None:
            self._report.dead_letters.append(DeadLetter(self.receiver.id, event.id, lane.attempts, problem))
            self._done(lane, event)
            return
        asyncio.get_running_loop().call_later(max(wait, answer.retry_after or 0), self._again, lane)

    def _again(self, lane: _Lane) -> None:
        if self._lanes.get(lane.key) is lane:
            self._make_runnable(lane)

    def _settle(self, shard: int) -> None:
        """Move the shard's cursor over everything done at its front."""
        waiting, last = self._open[shard], None
        while waiting and waiting[0] in self._finished:
            last = waiting.popleft()
            self._finished.discard(last)
        if last is not None:
            self._advance(shard, last)

    def _advance(self, shard: int, position: int) -> None:
        self.positions[shard] = position
        self.dirty.add(shard)

    async def stop(self) -> None:
        """End every delivery at once: what was in flight is repeated by whoever comes next."""
        self._lanes.clear()
        self._runnable.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start_draining(self) -> None:
        """From now on nothing more is started; what is in flight goes on."""
        self._is_draining = True

    async def drain(self) -> None:
        """Wait for what is in flight."""
        if self._tasks:
            await asyncio.wait(self._tasks)


def _outcome(answer: Answer) -> str:
    if answer.is_accepted:
        return "delivered"
    if answer.status == 410:
        return "gone"
    status = answer.status or 0
    is_refused = 400 <= status < 500 and status not in {408, 425, 429}
    return "refused" if is_refused else "failed"
