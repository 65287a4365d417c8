"""What both simulated APIs share: numbers, people, what was asked and taken, ids, faults, and waiting for it."""

import asyncio
import base64
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from providers.simulator.faults import Fault

ProviderName = Literal["meta", "twilio"]
Medium = Literal["whatsapp", "sms"]


@dataclass(frozen=True, slots=True)
class Number:
    """A business number. Twilio sends from any of them, over SMS and WhatsApp; Meta where `phone_number_id` is set."""

    e164: str
    phone_number_id: str | None = None
    waba_id: str = "100000000000001"
    messaging_service: str | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """A customer; on WhatsApp the phone may be hidden, then only the business-scoped `user_id` is known."""

    phone: str | None = None
    user_id: str | None = None
    parent_user_id: str | None = None
    username: str | None = None
    name: str | None = None

    @property
    def addresses(self) -> frozenset[str]:
        """What the business can send to."""
        return frozenset(address for address in (self.phone, self.user_id) if address)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request to send, whatever became of it. `to` is as in `SimulatedSend`, or None where it was missing."""

    provider: ProviderName
    sender: str
    to: str | None
    at: float


@dataclass(frozen=True, slots=True)
class SimulatedSend:
    """A message that the simulated provider took.

    `sender` is the id the hub sent from (phone_number_id, E.164 or messaging service), `to` the customer's E.164
    number with a plus or business-scoped id, on either medium; `at` is in unix seconds; `body` the request's fields.
    """

    provider: ProviderName
    medium: Medium
    number: Number
    sender: str
    to: str
    type: str
    text: str | None
    provider_id: str
    hub_id: str | None
    at: float
    status_url: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadMark:
    """A customer's message (`message_id`) that was marked as read, perhaps with a typing indicator."""

    provider: ProviderName
    sender: str
    message_id: str
    is_typing: bool
    at: float


class Ledger:
    """The record of both APIs; `clock` gives unix seconds, ids follow from `seed`."""

    def __init__(self, seed: int, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.sent: list[SimulatedSend] = []
        self.attempts: list[Attempt] = []
        self.in_flight = 0
        self.peak = 0
        self.read_marks: list[ReadMark] = []
        self.faults: deque[Fault] = deque()
        self.faults_when_asked: deque[Fault] = deque()
        self.stopping = asyncio.Event()
        self._random = random.Random(seed)  # noqa: S311 - ids must repeat, not be secret
        self._gate = asyncio.Event()
        self._gate.set()
        self._pulse = asyncio.Event()

    def wamid(self) -> str:
        """A new message id of Meta's form."""
        return f"wamid.{base64.b64encode(self._random.randbytes(36)).decode()}"

    def sid(self, prefix: str = "SM") -> str:
        """A new id of Twilio's form."""
        return f"{prefix}{self._random.randbytes(16).hex()}"

    def media_id(self) -> str:
        """A new id of an upload, of Meta's form."""
        return str(self._random.randrange(10**14, 10**15))

    def hold(self) -> None:
        """Let requests wait, unanswered, until `release`."""
        self._gate.clear()

    def release(self) -> None:
        """Answer the requests that wait."""
        self._gate.set()

    @asynccontextmanager
    async def admitted(self, attempt: Attempt) -> AsyncIterator[Fault | None]:
        """Record a request and hold it while the gate is closed; gives the fault it is to meet."""
        self.attempts.append(attempt)
        async with self._gated(self.faults) as fault:
            yield fault

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Fault | None]:
        """The same for a request that sends nothing: its faults are lined up by themselves."""
        async with self._gated(self.faults_when_asked) as fault:
            yield fault

    @asynccontextmanager
    async def _gated(self, faults: deque[Fault]) -> AsyncIterator[Fault | None]:
        fault = faults.popleft() if faults else None
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self.changed()
        try:
            await self._gate.wait()
            yield fault
        finally:
            self.in_flight -= 1
            self.changed()

    def take(self, send: SimulatedSend) -> None:
        """Record an accepted message."""
        self.sent.append(send)
        self.changed()

    def mark(self, mark: ReadMark) -> None:
        """Record a read mark."""
        self.read_marks.append(mark)
        self.changed()

    def changed(self) -> None:
        """Wake whoever waits."""
        self._pulse.set()
        self._pulse = asyncio.Event()

    async def wait_for(self, predicate: Callable[[], bool], seconds: float) -> None:
        """Return once `predicate` holds; it is asked at every change of the record. Raises `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while not predicate():
                await self._pulse.wait()
