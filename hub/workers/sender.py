"""The sender: hands queued messages to their providers, in order within a conversation (rules E8, E9).

One sender at a time owns the queue; what a dead one had claimed is settled as unknown, never sent again by itself.
One that lost the ownership hands nothing more to a provider, but still records what became of what it had handed over.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import structlog
from prometheus_client import Counter, Histogram

from hub.actions.record_send import Outcome, abandon, record_send
from hub.actions.send import Claim, claim
from hub.domain.errors import Unavailable
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.store import leases, outbox
from hub.store.pool import Connection, Database, Dedicated, Record, TryAgain
from providers.base import NotTaken, OutboundMessage, OutcomeUnknown, Provider, Refused, SendError

log = structlog.get_logger()

POLL: Final = 0.1
"""Seconds between looks at the queue for what other processes accepted, or what has become due."""
GRACE: Final = 5.0
"""Seconds that sends in flight get when the sender is stopped; a later one ends as unknown (E8)."""
_RETRY: Final = 0.5

SENDS = Counter("partyline_sends", "Messages handed to providers by outcome", ["provider", "outcome"])
SEND_SECONDS = Histogram(
    "partyline_send_seconds", "One provider call", ["provider"], buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
)


class Sender:
    """Claims, sends, records."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[str, Provider],
        publish: Callable[[Sequence[Event]], None],
        *,
        concurrency: int,
    ) -> None:
        self._database = database
        self._providers = providers
        self._publish = publish
        self._concurrency = concurrency
        self._id = uuid4()
        self._wake = asyncio.Event()
        self._flying: dict[UUID, asyncio.Task[None]] = {}
        self._called: set[UUID] = set()
        self._terms = 0

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
            log.info("sender.started")
            await self._settle_abandoned()
            await self._loop(owner)
        except asyncio.CancelledError:
            await self._land()
            raise
        finally:
            self._terms += 1
            await owner.close()

    async def _loop(self, owner: Dedicated) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):  # wait_for may lose a cancellation to a wake (Python 3.11)
                    await self._wake.wait()
            self._wake.clear()
            await leases.confirm(owner.conn)
            await self._settle_lost()
            room = self._concurrency - len(self._flying)
            if room > 0:
                for head in await self._heads(room):
                    self._fly(head)

    async def _heads(self, room: int) -> list[Record]:
        async with self._database.transaction() as conn:
            await outbox.release_held(conn)
            heads = await outbox.list_heads(conn, room + len(self._flying))
        return [head for head in heads if head["message_id"] not in self._flying][:room]

    def _fly(self, head: Record) -> None:
        message_id = head["message_id"]
        task = asyncio.create_task(self._send(head, self._terms))
        self._flying[message_id] = task
        task.add_done_callback(lambda _: self._landed(message_id))

    def _landed(self, message_id: UUID) -> None:
        self._flying.pop(message_id, None)
        self._wake.set()

    async def _send(self, head: Record, term: int) -> None:
        try:
            claimed = await self._claim(head)
            if claimed is None or claimed.message is None:
                return
            self._called.add(head["message_id"])
            outcome = await self._call(claimed.provider, claimed.message) if term == self._terms else _not_handed_over()
            await self._record(head, outcome, claimed.attempts)
            self._called.discard(head["message_id"])
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

    async def _call(self, provider: str, message: OutboundMessage) -> Outcome:
        adapter = self._providers.get(provider)
        if adapter is None:
            return Refused("no_provider", f"{provider} is not configured")
        with SEND_SECONDS.labels(provider).time():
            try:
                outcome: Outcome = await adapter.send(message)
            except SendError as error:
                outcome = error
            except Exception as error:
                log.exception("send.provider_broke", provider=provider, message=message.hub_id)
                outcome = OutcomeUnknown("internal", type(error).__name__)
        SENDS.labels(provider, _name(outcome)).inc()
        log.info("send.attempted", provider=provider, message=message.hub_id, outcome=_name(outcome))
        return outcome

    async def _record(self, head: Record, outcome: Outcome, attempts: int) -> None:
        """Write the outcome down, however long the database is away: it is known only here."""
        message_id, conversation_id = head["message_id"], head["conversation_id"]
        is_repeat = False
        while True:
            is_written = False
            try:
                async with self._database.transaction() as conn:
                    now = datetime.now(UTC)
                    events = await record_send(
                        conn, message_id, conversation_id, outcome, attempts, now, is_repeat=is_repeat
                    )
                    is_written = True
                self._publish(events)
                return
            except (TryAgain, Unavailable):
                is_repeat |= is_written  # the commit's answer was lost
                await asyncio.sleep(_RETRY)

    async def _settle_lost(self) -> None:
        """Messages that are claimed here and that nobody works on: the answer to the claim's commit was lost, so
        nothing was sent and they go back; or the record failed after the call, so the outcome is unknown (E8).
        """
        async with self._database.reading() as conn:
            claimed = await outbox.list_claimed(conn, self._id)
        for row in claimed:
            message_id = row["message_id"]
            if message_id in self._flying:
                continue
            async with self._database.transaction() as conn:  # a flight that ended since has settled it: no change
                events = await self._settle(conn, row)
            self._called.discard(message_id)
            self._publish(events)

    async def _settle(self, conn: Connection, row: Record) -> list[Event]:
        message_id = row["message_id"]
        log.warning("send.lost", message=public_id("msg", message_id), was_called=message_id in self._called)
        if message_id in self._called:
            return await abandon(conn, message_id, row["conversation_id"], row["attempts"], datetime.now(UTC))
        await outbox.postpone(conn, message_id, row["attempts"], 0)
        return []

    async def _settle_abandoned(self) -> None:
        """What other senders had claimed: nobody but they could tell. What is claimed here is known here."""
        async with self._database.reading() as conn:
            abandoned = await outbox.list_abandoned(conn, self._id)
        for row in abandoned:
            async with self._database.transaction() as conn:
                events = await abandon(
                    conn, row["message_id"], row["conversation_id"], row["attempts"], datetime.now(UTC)
                )
            self._publish(events)
            log.warning("send.abandoned", message=public_id("msg", row["message_id"]))

    async def _land(self) -> None:
        """Let sends that are with the provider finish and be recorded, within the time a shutdown has."""
        flying = list(self._flying.values())
        if flying:
            _, late = await asyncio.wait(flying, timeout=GRACE)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _not_handed_over() -> NotTaken:
    return NotTaken("sender_lost", "the process that claimed this lost the queue before it called the provider")


def _name(outcome: Outcome) -> str:
    if isinstance(outcome, Refused):
        return "refused"
    if isinstance(outcome, NotTaken):
        return "not_taken"
    return "unknown" if isinstance(outcome, SendError) else "taken"
