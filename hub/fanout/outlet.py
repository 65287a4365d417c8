"""One subscription's deliveries: takes jobs from its lanes, posts them, and reports what became of them (G1 to G3)."""

import asyncio
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import Counter, Gauge, Histogram

from hub.domain.breaker import Breaker, Verdict, judge
from hub.domain.events import Event
from hub.domain.ids import event_id, public_id
from hub.domain.signing import sign
from hub.fanout.client import Answer, DeliveryClient
from hub.fanout.lane import Job
from hub.fanout.lanes import Lanes
from hub.fanout.receivers import Receiver
from hub.store.deliveries import Attempt, Delivered, State, Tally

log = structlog.get_logger()

SECRET_HEAD_START: Final = 0.2
"""Seconds between connecting and the first delivery: the secret is in the answer to the connect, and must be first."""
ATTEMPTS = Counter("partyline_delivery_attempts", "Delivery attempts by outcome", ["subscription", "outcome"])
LATENCY = Histogram(
    "partyline_delivery_seconds", "One delivery attempt", buckets=(0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 15)
)
LAG_EVENTS = Gauge(
    "partyline_subscription_lag_events", "Events not delivered yet", ["subscription"], multiprocess_mode="livesum"
)
LAG_SECONDS = Gauge(
    "partyline_subscription_lag_seconds", "Age of the oldest of them", ["subscription"], multiprocess_mode="livemax"
)
IN_FLIGHT = Gauge(
    "partyline_subscription_in_flight", "Deliveries in flight", ["subscription"], multiprocess_mode="livesum"
)
BREAKER = Gauge(
    "partyline_subscription_breaker_open",
    "1: the endpoint is left alone",
    ["subscription"],
    multiprocess_mode="livemax",
)
PARKED = Gauge(
    "partyline_subscription_parked_lanes", "Conversations that wait on their own schedule", ["subscription"],
    multiprocess_mode="livesum",
)  # fmt: skip
_GAUGES: Final = (LAG_EVENTS, LAG_SECONDS, IN_FLIGHT, BREAKER, PARKED)
_BROKE: Final = Answer(None, "internal")


@dataclass(slots=True)
class Report:
    """Where outlets put what happened, for the dispatcher to write down in batches."""

    delivered: list[Delivered] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def without(self, shards: Collection[int]) -> "Report":
        """All that is about other shards."""
        return Report(
            [d for d in self.delivered if d.shard not in shards], [a for a in self.attempts if a.shard not in shards]
        )


class Permit:
    """Whether deliveries may start: rosters are up to date, and the shards are this process's for long enough."""

    def __init__(self, timeout: float) -> None:
        self.ready = asyncio.Event()
        self.lease_until = 0.0
        self._timeout = timeout

    def is_given(self, now: float) -> bool:
        """A delivery must be over before somebody else may have the shard."""
        return now + self._timeout < self.lease_until


class Outlet:
    """Delivers to one subscription. `body` renders an event for it."""

    def __init__(
        self,
        receiver: Receiver,
        client: DeliveryClient,
        body: Callable[[Event, Receiver], bytes],
        permit: Permit,
        report: Report,
        *,
        concurrency: int,
    ) -> None:
        random_ = random.Random()  # noqa: S311  jitter, no secret
        self.receiver = receiver
        self.lanes = Lanes(Breaker(random_), random_, holds=receiver.holds)
        self.tally = Tally()
        self.is_gone = False
        self.report = report
        self._client = client
        self._body = body
        self._permit = permit
        self._concurrency = concurrency
        self._told: State | None = None
        self._workers = 0
        self._is_draining = False
        self._opens_at = time.monotonic() + max(0.0, SECRET_HEAD_START - receiver.age)
        self._tasks: set[asyncio.Task[None]] = set()
        self._name = public_id("sub", receiver.id)
        self._count = {verdict: ATTEMPTS.labels(self._name, verdict.outcome) for verdict in Verdict}

    def offer(self, event: Event) -> None:
        """See an event at the tail of the log."""
        self.lanes.offer(event, is_wanted=self.receiver.viewer.wants(event))
        if self.lanes.queued:
            self.staff()

    def catch_up(self, event: Event) -> None:
        """Take an event that was read again from the log."""
        self.lanes.catch_up(event, is_wanted=self.receiver.viewer.wants(event))

    def staff(self) -> None:
        """As many workers as there are lanes to serve, up to the budget."""
        if self._is_draining or self.is_gone or not self.lanes.breaker.may_try(time.monotonic()):
            return
        for _ in range(min(self.lanes.queued, self._concurrency - self._workers)):
            self._workers += 1
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        """One of at most `concurrency` workers; counted out in the same step in which it finds nothing more to do, so
        that whatever becomes runnable from then on gets a new one.
        """
        try:
            while not self._is_draining and not self.is_gone:
                if not self._permit.ready.is_set():
                    await self._permit.ready.wait()
                    continue
                now = time.monotonic()
                if self._opens_at:
                    await asyncio.sleep(max(0.0, self._opens_at - now))
                    self._opens_at = 0.0
                    continue
                if not self._permit.is_given(now):
                    return
                job = self.lanes.next(now)
                if job is None:
                    return
                await self._deliver(job)
        finally:
            self._workers -= 1

    async def _deliver(self, job: Job) -> None:
        started = time.perf_counter()
        try:
            answer = await self._post(job)
        except asyncio.CancelledError:
            self.lanes.abandon(job, time.monotonic())
            raise
        except Exception:
            log.exception("delivery.broke", event_id=event_id(job.event.id))
            answer = _BROKE
        seconds = time.perf_counter() - started
        verdict = judge(answer.status, answer.retry_after, is_unreachable=answer.is_unreachable)
        self._count[verdict].inc()
        LATENCY.observe(seconds)
        self._note(job, answer, verdict, int(seconds * 1000))
        error = answer.problem or f"http_{answer.status}"
        was_closed = self.lanes.breaker.state == "closed"
        self.lanes.settle(
            job, verdict, time.monotonic(), status=answer.status, error=error, retry_after=answer.retry_after
        )
        if verdict is not Verdict.DELIVERED:
            self._tell(job, error)
        elif not was_closed:
            log.info("endpoint.recovered", subscription=self._name)
            self.staff()

    async def _post(self, job: Job) -> Answer:
        receiver = self.receiver
        body = self._body(job.event, receiver)
        name, stamp = event_id(job.event.id), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(stamp),
            "webhook-signature": sign(receiver.keys, name, stamp, body),
        }
        if job.replay is not None:
            headers["webhook-replay"] = "true"
        return await self._client.post(receiver.endpoint_url, body, headers)

    def _note(self, job: Job, answer: Answer, verdict: Verdict, milliseconds: int) -> None:
        event, now = job.event, datetime.now(UTC)
        tally = self.tally
        tally.counts[verdict.outcome] += 1
        if verdict is Verdict.DELIVERED:
            assert answer.status is not None
            tally.last_delivered_at = now
            self.report.delivered.append(
                Delivered(self.receiver.id, event.shard, event.id, answer.status, milliseconds)
            )
            return
        tally.last_error, tally.last_error_at = answer.problem or f"http_{answer.status}", now
        self.is_gone |= verdict is Verdict.GONE
        failed = Attempt(
            self.receiver.id, event.shard, event.id, now, verdict.outcome, answer.status, milliseconds, answer.problem
        )
        self.report.attempts.append(failed)

    def _tell(self, job: Job, error: str) -> None:
        log.warning(
            "delivery.failed",
            subscription=self._name,
            event_id=event_id(job.event.id),
            problem=error,
            attempts=job.lane.parked.attempts if job.lane.parked else job.lane.failures,
            breaker=self.lanes.breaker.state,
        )

    def state(self, now: float) -> State:
        """How the subscription does, for people to see."""
        lanes = self.lanes
        breaker = lanes.breaker
        return State(
            breaker.state,
            max(0.0, breaker.until - now) if breaker.state == "open" else None,
            sum(front.flying for front in lanes.fronts.values()),
            lanes.undone,
            lanes.behind,
            lanes.oldest(),
            len(lanes.parked),
        )

    def news(self, now: float) -> State | None:
        """The state, if it is another than this gave last."""
        state = self.state(now)
        if state == self._told:
            return None
        self._told = state
        return state

    def show(self, now: float) -> None:
        """The same as metrics."""
        state = self.state(now)
        lag = max(0.0, time.time() - state.oldest) if state.oldest is not None else 0.0
        values = (state.waiting + state.behind, lag, state.in_flight, state.breaker != "closed", state.parked)
        for gauge, value in zip(_GAUGES, values, strict=True):
            gauge.labels(self._name).set(value)

    def forget_metrics(self) -> None:
        """The subscription is nobody's any more here."""
        for gauge in _GAUGES:
            gauge.labels(self._name).set(0)

    def take_tally(self) -> Tally:
        """What happened since this was asked last."""
        tally, self.tally = self.tally, Tally()
        return tally

    def start_draining(self) -> None:
        """From now on nothing more is started; what is in flight goes on."""
        self._is_draining = True

    async def drain(self) -> None:
        """Wait for what is in flight."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """End every delivery at once: what was in flight is repeated by whoever comes next."""
        self._is_draining = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
