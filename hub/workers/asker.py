"""Asks providers that can tell what became of sends of unknown outcome (rule E8); a part of the sender."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter

from hub.actions.settle_unknown import Settled, read_unknown, settle_unknown
from hub.domain.errors import Unavailable
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.store import outbox
from hub.store.pool import Database, Record, TryAgain
from hub.workers.calls import Prepare
from providers.base import Provider, SendError

log = structlog.get_logger()

ASK_AFTER: Final = (2.0, 8.0, 25.0, 300.0)
"""Seconds after a send became unknown at which its provider is asked: while its conversation waits, and once later."""
REMEMBERED: Final = 600.0
"""Seconds after which nobody asks any more; until then whoever takes the queue over makes up for a missed time."""
_LOOK: Final = 0.5
"""Seconds between looks for new ones."""
_AT_ONCE: Final = 3

ASKED = Counter("partyline_unknown_asked", "Asks about sends of unknown outcome", ["provider", "outcome"])


@dataclass(slots=True)
class _Question:
    """A message to ask about; `began` is the monotonic time at which it became unknown."""

    conversation_id: UUID
    provider: str
    began: float
    step: int = 0
    task: "asyncio.Task[None] | None" = None

    def is_due(self, now: float) -> bool:
        return self.task is None and self.step < len(ASK_AFTER) and now >= self.began + ASK_AFTER[self.step]

    def go_on(self, now: float) -> None:
        """To the next time that is not past yet; after the last one nothing is due any more."""
        while self.step < len(ASK_AFTER) and self.began + ASK_AFTER[self.step] <= now:
            self.step += 1


class Asker:
    """Keeps the sends of late whose outcome is unknown, and asks about each at its times; a part of who owns the queue.

    Whoever comes after it finds them again, and asks about each at once where a time was missed.
    """

    def __init__(
        self,
        database: Database,
        providers: Mapping[str, Provider],
        prepare: Prepare,
        publish: Callable[[Sequence[Event]], None],
    ) -> None:
        self._database = database
        self._providers = providers
        self._prepare = prepare
        self._publish = publish
        able = {name: {m for m, can in p.supports.items() if "find_sent" in can} for name, p in providers.items()}
        self._able = {name: media for name, media in able.items() if media}
        self._questions: dict[UUID, _Question] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._next_look = 0.0

    async def look(self) -> None:
        """Note what has become unknown and ask about what is due; the answers are settled by tasks of their own.

        Raises `Unavailable`.
        """
        now = monotonic()
        if not self._able or now < self._next_look:
            return
        self._next_look = now + _LOOK
        async with self._database.reading() as conn:
            unknown = await outbox.list_unknown(conn, list(self._able), REMEMBERED)
        for row in unknown:
            self._note(row, now)
        for message_id in self._questions.keys() - {row["id"] for row in unknown}:
            if self._questions[message_id].task is None:
                del self._questions[message_id]
        for message_id, question in self._questions.items():
            if question.is_due(now):
                question.task = asyncio.create_task(self._ask(message_id, question))
                question.task.add_done_callback(partial(self._asked, message_id))

    def _note(self, row: Record, now: float) -> None:
        if row["id"] not in self._questions and row["medium"] in self._able[row["provider"]]:
            self._questions[row["id"]] = _Question(row["conversation_id"], row["provider"], now - row["age"])

    def _asked(self, message_id: UUID, _: "asyncio.Task[None]") -> None:
        question = self._questions.get(message_id)
        if question is not None:
            question.task = None
            question.go_on(monotonic())

    async def _ask(self, message_id: UUID, question: _Question) -> None:
        outcome = "failed"
        try:
            async with self._slots:
                outcome = await self._settle(message_id, question)
        except (SendError, Unavailable, TryAgain) as error:
            log.info("unknown.not_asked", message=public_id("msg", message_id), error=type(error).__name__)
        except Exception:
            log.exception("unknown.ask_failed", message=public_id("msg", message_id))
        if outcome == "settled":
            question.step = len(ASK_AFTER)
        ASKED.labels(question.provider, outcome).inc()
        log.info("unknown.asked", message=public_id("msg", message_id), outcome=outcome)

    async def _settle(self, message_id: UUID, question: _Question) -> str:
        async with self._database.transaction() as conn:
            unknown = await read_unknown(conn, message_id, question.conversation_id)
        if unknown is None:
            return "settled"
        message = await self._prepare(unknown.provider, unknown.message)
        found = await self._providers[unknown.provider].find_sent(message, unknown.since, unknown.until)
        settled = Settled("none")
        async with self._database.transaction() as conn:
            settled = await settle_unknown(conn, message_id, question.conversation_id, found, datetime.now(UTC))
        self._publish(settled.events)
        return settled.outcome

    async def close(self) -> None:
        """Forget everything; what is under way is broken off."""
        tasks = [question.task for question in self._questions.values() if question.task]
        self._questions.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
