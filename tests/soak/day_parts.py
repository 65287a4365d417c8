"""Those who take part in a day: services that hear, agents who answer, and the providers who post."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from providers.simulator import Simulator
from providers.simulator.traffic import Delivery as Webhook
from providers.simulator.traffic import Item
from tests.support.subscriber import Delivery
from tests.support.wire import until
from tests.support.world import Service

POSTERS: Final = 12
"""Webhooks in flight at once."""


@dataclass
class Ear:
    """What one service heard, each event once; `on_message` is called for each message that is new."""

    on_message: Callable[[Mapping[str, Any]], None] = lambda _: None
    seen: set[str] = field(default_factory=set)
    repeats: int = 0
    disorder: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    received: set[str] = field(default_factory=set)
    statuses: dict[str, str] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    reconciled: int = 0

    def note(self, delivery: Delivery) -> int:
        """Keep the books; always content."""
        if delivery.id in self.seen:
            self.repeats += 1
            return 200
        self.seen.add(delivery.id)
        self.kinds[delivery.type] += 1
        message = delivery.data.get("message") or {}
        if conversation := delivery.data.get("conversation"):
            sequence = conversation["sequence"]
            self.disorder += sequence != self.last.get(conversation["id"], 0) + 1
            self.last[conversation["id"]] = sequence
        if delivery.type == "message.received":
            # A call's entries have no id of the provider's.
            call = message.get("call")
            self.received.add(f"{call['id']}:{call['event']}" if call else message["provider_id"])
            self.reconciled += bool(message.get("reconciled"))
            self.on_message(delivery.data)
        if delivery.type == "message.status":
            self.statuses[message["id"]] = message["status"]
        return 200


@dataclass
class Agents:
    """Answers some of the messages, each exactly once, however often it has to be asked for."""

    service: Service
    wanted: set[str]
    accepted: dict[str, str] = field(default_factory=dict)
    refused: list[Any] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(6))

    def hear(self, data: Mapping[str, Any]) -> None:
        """Answer, if this one is to be answered."""
        if data["message"]["provider_id"] in self.wanted:
            task = asyncio.create_task(self._answer(data["conversation"]["id"], data["message"]["provider_id"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, conversation: str, provider_id: str) -> None:
        async with self._slots:
            while provider_id not in self.accepted:
                try:
                    answer = await self.service.reply(
                        conversation, f"answer to {provider_id}", headers={"Idempotency-Key": provider_id}
                    )
                except (aiohttp.ClientError, OSError, TimeoutError):
                    await asyncio.sleep(0.2)
                    continue
                if answer.status == 202:
                    self.accepted[provider_id] = answer.json["message"]["id"]
                elif answer.status in (429, 500, 502, 503):
                    await asyncio.sleep(0.2)
                else:
                    self.refused.append((provider_id, answer.status, answer.json))
                    return

    async def settle(self) -> None:
        """Until everything that was to be answered is."""
        while self._tasks:
            await asyncio.gather(*self._tasks)


@dataclass
class Load:
    """The providers: Meta repeats until it is answered 200, Twilio once and only where nobody listened."""

    simulator: Simulator
    webhooks: Sequence[Webhook]
    rate: float
    """Items a second, at most."""
    taken: dict[str, asyncio.Event] = field(default_factory=dict)
    done: int = 0
    lost: int = 0
    """Twilio's webhooks that nobody took."""
    _next: int = 0
    _began: float = 0.0

    async def run(self) -> None:
        """Post all of it."""
        self._began = time.monotonic()
        self.taken = {part.id: asyncio.Event() for hook in self.webhooks for item in hook.items for part in item.parts}
        await asyncio.gather(*(self._post() for _ in range(POSTERS)))

    async def reaches(self, share: float) -> None:
        """Wait until this much is posted."""
        total = sum(len(item.parts) for hook in self.webhooks for item in hook.items)
        await until(lambda: self.done >= share * total, 1200)

    async def _post(self) -> None:
        while self._next < len(self.webhooks):
            hook = self.webhooks[self._next]
            self._next += 1
            for key in hook.after:
                await self.taken[key].wait()
            await asyncio.sleep(self._began + self.done / self.rate - time.monotonic())
            if hook.body is not None:
                posted = await self.simulator.post_meta(hook.body)
                assert posted.status == 200, posted
            elif hook.form is not None:
                await self._post_twilio(hook.items[0], hook.form)
            for item in hook.items:
                self.done += len(item.parts)
                for part in item.parts:
                    self.taken[part.id].set()

    async def _post_twilio(self, item: Item, form: Sequence[tuple[str, str]]) -> None:
        if not item.is_repeat:
            self.simulator.twilio_api.add_inbound(form)
        posted = await self.simulator.post_twilio(form)
        self.lost += posted.status != 200
