"""What is done with a webhook, whatever the web framework: verify, drop repeats, see gaps, work, answer.

The adapters for aiohttp and ASGI are a few lines around it.
"""

import asyncio
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypedDict, Unpack

from partyline_client.answers import DONE, Answer, answer_for
from partyline_client.errors import BadSignature, InProgress, Malformed, NotTaken, TooOld
from partyline_client.events import Event
from partyline_client.receiver import Receiver
from partyline_client.seen import Memory, Seen
from partyline_client.sequences import Missing, Observation

LOG: Final = logging.getLogger("partyline_client")
TOO_LARGE: Final = Answer(413)
MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes of a body; the hub's events are smaller."""
CONCURRENCY: Final = 100
"""Events worked on at a time. The others wait for their turn, and the hub for its answer."""

Work = Callable[[Event], Awaitable[object]]
"""What a service does with an event. It may come again if this raises, or takes longer than the hub waits."""
OnGap = Callable[[Event, Missing], object]
"""Told of the numbers that never came before an event; may be asynchronous."""


class Watch(Protocol):
    """What watches the numbers of conversations: `Sequences`, or `Store.sequences`."""

    def observe(self, event: Event) -> Observation:
        """Say where an event stands, and remember it."""
        ...


class Options(TypedDict, total=False):
    """`seen`: what remembers the events that are done, in memory unless given. `sequences`: what sees gaps; `on_gap` is
    told of them, and the log where there is none. `concurrency`: events worked on at a time.
    """

    seen: Memory
    sequences: Watch
    on_gap: OnGap
    concurrency: int
    max_bytes: int


class Inbox:
    """Takes webhooks as bytes and headers, and says what to answer."""

    def __init__(self, receiver: Receiver, work: Work, **options: Unpack[Options]) -> None:
        self.max_bytes = options.get("max_bytes", MAX_BYTES)
        self._receiver = receiver
        self._work = work
        self._seen = options.get("seen") or Seen()
        self._sequences = options.get("sequences")
        self._on_gap = options.get("on_gap")
        self._turns = asyncio.Semaphore(options.get("concurrency", CONCURRENCY))

    async def take(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Have the work done on what the hub sent; nothing that goes wrong is raised."""
        event: Event | None = None
        try:
            event = self._receiver.receive(body, headers)
            async with self._turns:
                with self._seen.handling(event.id) as is_new:
                    if is_new:
                        await tell_gap(event, self._sequences, self._on_gap)
                        await self._work(event)
        except Exception as error:
            answer = answer_for(error)
            _log(event, error, answer)
            return answer
        return DONE


async def tell_gap(event: Event, sequences: Watch | None, on_gap: OnGap | None) -> None:
    """Say what never came before this event, if something did not."""
    missing = sequences.observe(event).missing if sequences else None
    if missing and on_gap:
        await told(on_gap, event, missing)
    elif missing:
        LOG.warning("%s of %s never came before %s", missing, event.conversation_id, event.id)


async def told(callback: Callable[..., object], *what: Any) -> None:
    """Call it, and wait for it where it is asynchronous."""
    result = callback(*what)
    if inspect.isawaitable(result):
        await result


def _log(event: Event | None, error: Exception, answer: Answer) -> None:
    """What failed and where; not in the words of the service's own errors, which may hold what the customer wrote."""
    if isinstance(error, BadSignature | TooOld | Malformed | InProgress):
        LOG.warning("%s answered %d: %s: %s", _named(event), answer.status, type(error).__name__, error)
        return
    if isinstance(error, NotTaken):
        LOG.warning("%s answered %d: %s", _named(event), answer.status, type(error).__name__)
        return
    where = "".join(traceback.format_tb(error.__traceback__))
    LOG.error("%s answered %d: %s\n%s", _named(event), answer.status, type(error).__name__, where)


def _named(event: Event | None) -> str:
    return f"{event.type} {event.id}" if event else "a webhook"
