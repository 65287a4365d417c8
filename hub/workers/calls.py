"""One call of a provider: a message is made ready and handed over; whatever comes of it is an outcome (rule E8)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
from prometheus_client import Counter, Histogram

from hub.actions.record_send import Outcome
from providers.base import NotTaken, OutboundMessage, OutcomeUnknown, Provider, Refused, SendError

log = structlog.get_logger()

Prepare = Callable[[str, OutboundMessage], Awaitable[OutboundMessage]]
"""Makes a message ready for its provider (given by name): files get ids or URLs. May raise `SendError`."""

SENDS = Counter("partyline_sends", "Messages handed to providers by outcome", ["provider", "outcome"])
SEND_SECONDS = Histogram(
    "partyline_send_seconds", "One provider call", ["provider"], buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
)


async def as_it_is(provider: str, message: OutboundMessage) -> OutboundMessage:
    """A message that needs nothing more before it is handed over."""
    return message


@dataclass(frozen=True, slots=True)
class Calls:
    """The providers by name, and what makes messages ready for them."""

    providers: Mapping[str, Provider]
    prepare: Prepare

    async def send(self, provider: str, message: OutboundMessage, *, may_go: Callable[[], bool]) -> Outcome:
        """Hand one message over, once, unless it may not go any more when it is ready. Raises nothing."""
        outcome = await self._send(provider, message, may_go)
        SENDS.labels(provider, _name(outcome)).inc()
        log.info("send.attempted", provider=provider, message=message.hub_id, outcome=_name(outcome))
        return outcome

    async def _send(self, provider: str, message: OutboundMessage, may_go: Callable[[], bool]) -> Outcome:
        adapter = self.providers.get(provider)
        if adapter is None:
            return Refused("no_provider", f"{provider} is not configured")
        ready = await self._ready(provider, message) if may_go() else message
        if isinstance(ready, SendError):
            return ready
        if not may_go():
            return NotTaken("sender_lost", "the process that claimed this lost the queue before it called the provider")
        return await _hand_over(adapter, ready)

    async def _ready(self, provider: str, message: OutboundMessage) -> OutboundMessage | SendError:
        """Whatever fails here, the provider was not asked to send."""
        try:
            return await self.prepare(provider, message)
        except SendError as error:
            return error
        except Exception as error:
            log.exception("send.not_prepared", provider=provider, message=message.hub_id)
            return NotTaken("internal", type(error).__name__)


async def _hand_over(provider: Provider, message: OutboundMessage) -> Outcome:
    with SEND_SECONDS.labels(provider.name).time():
        try:
            return await provider.send(message)
        except SendError as error:
            return error
        except Exception as error:
            log.exception("send.provider_broke", provider=provider.name, message=message.hub_id)
            return OutcomeUnknown("internal", type(error).__name__)


def _name(outcome: Outcome) -> str:
    if isinstance(outcome, Refused):
        return "refused"
    if isinstance(outcome, NotTaken):
        return "not_taken"
    return "unknown" if isinstance(outcome, SendError) else "taken"
