"""The sender: hands queued messages to their providers, in order within a conversation (rules E8, E9).

One sender at a time owns the queue; what a dead one had claimed is settled as unknown, never sent again by itself.
One that lost the ownership hands nothing more to a provider, but still records what became of what it had handed over.
The owner alone sends, so that order and rate are kept here (E9).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Final
from uuid import UUID, uuid4

import structlog
from prometheus_client import Counter

from hub.actions.claim import Claim, claim
from hub.actions.record_send import From, record_send
from hub.domain.errors import Unavailable
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.domain.rates import PAIR_BURST, PAIR_RATE, Place, Rates, Ticket
from hub.domain.slots import Slots
from hub.domain.throttling import SPAM
from hub.store import leases, outbox, schedule
from hub.store.pool import Database, Dedicated, Record, TryAgain
from hub.workers.asker import Asker
from hub.workers.calls import Answer, Calls, Prepare, Review, as_it_is, as_it_was
from hub.workers.leftovers import Leftovers
from providers.base import NotTaken, Provider, Refused, Sent

log = structlog.get_logger()

POLL: Final = 0.1
"""Seconds between looks at the queue for what other processes accepted, or what has become due."""
GRACE: Final = 5.0
"""Seconds that sends in flight get when the sender is stopped; a later one ends as unknown (E8)."""
SILENCE: Final = 15.0
"""Seconds after which the database gives the ownership of a process that stands still to another."""
_SURE: Final = 10.0
"""Seconds after its last confirmation that the ownership is certain: later nothing more is handed to a provider."""
_RETRY: Final = 0.5
RATES: Final = {"whatsapp": 80.0, "sms": 10.0}
"""Messages a second that a sender of each medium may send, where it has no rate of its own."""

THROTTLED = Counter("partyline_throttled", "Answers of providers that took no more just then", ["provider", "scope"])


class Sender:
    """Claims, sends, records; `rates` are messages a second by medium, `pair_rate` of them go over WhatsApp to one
    customer, `pair_burst` at once.
    """

    def __init__(
        self,
        database: Database,
        providers: Mapping[str, Provider],
        publish: Callable[[Sequence[Event]], None],
        *,
        concurrency: int,
        rates: Mapping[str, float] = RATES,
        pair_rate: float = PAIR_RATE,
        pair_burst: float = PAIR_BURST,
        prepare: Prepare = as_it_is,
        review: Review = as_it_was,
    ) -> None:
        self._database = database
        self._calls = Calls(providers, prepare, review)
        self._publish = publish
        self._concurrency = concurrency
        self._usual = rates
        self._rates = Rates(pair_rate, pair_burst)
        self._slots = Slots(concurrency)
        self._asker = Asker(database, providers, prepare, publish)
        self._id = uuid4()
        self._leftovers = Leftovers(database, self._id, publish)
        self._wake = asyncio.Event()
        self._flying: dict[UUID, asyncio.Task[None]] = {}
        self._terms = 0
        self._confirmed = 0.0

    def wake(self) -> None:
        """A message was queued in this process."""
        self._wake.set()

    async def run(self) -> None:
        """Send, whenever this process owns the queue, until cancelled.

        Raises `Unavailable` where the database is away and nothing is in flight. What is in flight lives on without
        the ownership: its outcome is known here only, and is recorded once the database is back.
        """
        try:
            while True:
                try:
                    await self._serve()
                except Unavailable:
                    if not self._flying:
                        raise
                    log.warning("sender.ownership_lost", in_flight=len(self._flying))
                await asyncio.sleep(_RETRY)
        except asyncio.CancelledError:
            await self._land()
            raise

    async def _serve(self) -> None:
        """Wait for the ownership, then send until it is lost; when cancelled, keep it until all have landed."""
        owner = await self._database.dedicated()
        try:
            await leases.own(owner.conn, leases.SENDER)
            await leases.limit_silence(owner.conn, SILENCE)
            async with owner.transaction() as conn:
                await outbox.walk_indexes(conn)
            log.info("sender.started")
            await self._leftovers.settle_abandoned(0)
            await self._loop(owner)
        except asyncio.CancelledError:
            await self._land()
            raise
        finally:
            self._terms += 1
            await self._asker.close()
            await owner.close()

    async def _loop(self, owner: Dedicated) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):  # wait_for may lose a cancellation to a wake (Python 3.11)
                    await self._wake.wait()
            self._wake.clear()
            asked = monotonic()
            await leases.confirm(owner.conn)
            self._confirmed = asked
            await self._leftovers.settle_lost(self._flying)
            await self._leftovers.settle_late(asked)
            await self._asker.look()
            while (room := self._concurrency - len(self._flying)) > 0:
                heads = await self._heads(owner, room)
                started = [head for head in heads if self._start(head)]
                if len(started) == len(heads):
                    break  # else a sender or a pair had to wait: others may have been behind it

    async def _heads(self, owner: Dedicated, room: int) -> list[Record]:
        now = monotonic()
        waiting = [*self._rates.waiting(now), *self._slots.full()]
        async with owner.transaction() as conn:
            await outbox.release_held(conn)
            await schedule.queue_due(conn)
            held = await outbox.list_of_pairs(conn, self._rates.waiting_pairs(now))
            heads = await outbox.list_heads(conn, room + len(self._flying), waiting, held)
        return [head for head in heads if head["message_id"] not in self._flying][:room]

    def _start(self, head: Record) -> bool:
        """Send this one, if its sender's share and all its limits allow it (E9)."""
        if not self._slots.take(head["sender_id"]):
            return False
        ticket = self._rates.take(self._place(head), monotonic())
        if ticket is None:
            self._slots.put_back(head["sender_id"])
            return False
        self._fly(head, ticket)
        return True

    def _place(self, head: Record) -> Place:
        rate = head["rate"] or self._usual[head["medium"]]
        is_paired = head["medium"] == "whatsapp"
        return Place(head["sender_id"], rate, head["provider"], head["contact_id"], is_paired)

    def _fly(self, head: Record, ticket: Ticket) -> None:
        message_id = head["message_id"]
        task = asyncio.create_task(self._send(head, ticket, self._terms))
        self._flying[message_id] = task
        task.add_done_callback(lambda _: self._landed(message_id, ticket))

    def _landed(self, message_id: UUID, ticket: Ticket) -> None:
        self._flying.pop(message_id, None)
        self._slots.put_back(ticket.place.sender)
        self._rates.let_go(ticket)
        self._wake.set()

    def _owns(self, term: int) -> bool:
        """Whether the ownership is certainly still that of this term."""
        return term == self._terms and monotonic() - self._confirmed < _SURE

    async def _send(self, head: Record, ticket: Ticket, term: int) -> None:
        try:
            claimed = await self._claim(head)
            if claimed is None or claimed.message is None:
                self._rates.put_back(ticket)
                return
            self._leftovers.called.add(head["message_id"])
            answer = await self._calls.send(claimed.provider, claimed.message, may_go=lambda: self._owns(term))
            self._heed(ticket, answer)
            await self._record(head, answer, claimed.attempts)
            self._leftovers.called.discard(head["message_id"])
        except Unavailable:
            log.warning("send.database_away", message=public_id("msg", head["message_id"]))
        except Exception:
            log.exception("send.failed", message=public_id("msg", head["message_id"]))

    async def _claim(self, head: Record) -> Claim | None:
        while True:
            with suppress(TryAgain):
                async with self._database.transaction() as conn:
                    claimed = await claim(
                        conn,
                        self._id,
                        head["message_id"],
                        head["channel_id"],
                        head["conversation_id"],
                        datetime.now(UTC),
                    )
                if claimed:
                    self._publish(claimed.events)
                return claimed

    def _heed(self, ticket: Ticket, answer: Answer) -> None:
        """What the answer says of the limits that the next ones will meet (E9)."""
        outcome = answer.outcome
        self._rates.spend(ticket, max(0, answer.requests - 1))
        if isinstance(outcome, NotTaken) and outcome.code == "throttled":  # the message, or the upload of its file
            place, asked = ticket.place, outcome.retry_after or 0.0
            THROTTLED.labels(place.provider, outcome.scope).inc()
            is_spam = (place.provider, outcome.provider_code) in SPAM
            self._rates.throttled(ticket, outcome.scope, asked, monotonic(), is_spam=is_spam)
            log.warning(
                "sender.throttled", sender=place.sender, scope=outcome.scope, code=outcome.provider_code, asked=asked
            )
        elif not answer.requests:  # the provider was not asked to send
            self._rates.put_back(ticket)
        elif isinstance(outcome, Sent | Refused):
            self._rates.went_through(ticket)

    async def _record(self, head: Record, answer: Answer, attempts: int) -> None:
        """Write the outcome down, however long the database is away: it is known only here."""
        message_id, conversation_id = head["message_id"], head["conversation_id"]
        is_repeat, answered_at = False, datetime.now(UTC)
        while True:
            is_written = False
            try:
                async with self._database.transaction() as conn:
                    now = datetime.now(UTC)
                    events = await record_send(
                        conn, message_id, conversation_id, answer.outcome, attempts, now, is_repeat=is_repeat,
                        sent_to=answer.phone, sender=From(head["sender_id"], head["is_unwell"]),
                        answered_at=answered_at, call=answer.call,
                    )  # fmt: skip
                    is_written = True
                self._publish(events)
                return
            except (TryAgain, Unavailable):
                is_repeat |= is_written  # the commit's answer was lost
                await asyncio.sleep(_RETRY)

    async def _land(self) -> None:
        """Let sends that are with the provider finish and be recorded, within the time a shutdown has."""
        flying = list(self._flying.values())
        if flying:
            _, late = await asyncio.wait(flying, timeout=GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
