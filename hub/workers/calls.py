"""One call of a provider: a message is made ready and handed over; whatever comes of it is an outcome (rule E8)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Final

import structlog
from prometheus_client import Counter, Histogram

from hub.actions.record_send import Call, Outcome, outcome_name
from hub.domain.addresses import variants
from providers.base import NotTaken, OutboundMessage, OutcomeUnknown, Provider, Refused, SendError

log = structlog.get_logger()

Prepare = Callable[[str, OutboundMessage], Awaitable[OutboundMessage]]
"""Makes a message ready for its provider (given by name): files get ids or URLs. May raise `SendError`."""

_NOBODY_THERE: Final = frozenset({"bad_recipient", "undeliverable"})
"""Refusals after which the same number may be known to the provider in another form."""

SENDS = Counter("partyline_sends", "Messages handed to providers by outcome", ["provider", "outcome"])
SEND_SECONDS = Histogram(
    "partyline_send_seconds", "One provider call", ["provider"], buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
)


Review = Callable[[str, OutboundMessage, Refused], Awaitable[SendError]]
"""What a refusal of a message, as it was made ready, comes to. Raises nothing."""


async def as_it_is(provider: str, message: OutboundMessage) -> OutboundMessage:
    """A message that needs nothing more before it is handed over."""
    return message


async def as_it_was(provider: str, message: OutboundMessage, refusal: Refused) -> SendError:
    """A refusal that stands."""
    return refusal


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a message, the form of the customer's number this is about, how many requests it took, and when."""

    outcome: Outcome
    phone: str | None
    requests: int = 1
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Calls:
    """The providers by name, and what makes messages ready for them."""

    providers: Mapping[str, Provider]
    prepare: Prepare
    review: Review = as_it_was

    async def send(self, provider: str, message: OutboundMessage, *, may_go: Callable[[], bool]) -> Answer:
        """Hand one message over, unless it may not go any more when it is ready: once, and once more in each other form
        of the customer's number as long as the provider refuses the number itself, so that none was taken. Where all
        are refused, the first refusal counts. Raises nothing.
        """
        began_at, began = datetime.now(UTC), monotonic()
        answer = await self._send(provider, message, may_go)
        took_ms = round((monotonic() - began) * 1000)
        SENDS.labels(provider, outcome_name(answer.outcome)).inc()
        log.info(
            "send.attempted",
            provider=provider,
            message=message.hub_id,
            outcome=outcome_name(answer.outcome),
            requests=answer.requests,
        )
        return replace(answer, call=Call(began_at, took_ms, answer.requests))

    async def _send(self, provider: str, message: OutboundMessage, may_go: Callable[[], bool]) -> Answer:
        adapter = self.providers.get(provider)
        if adapter is None:
            return Answer(Refused("no_provider", f"{provider} is not configured"), None, 0)
        ready = await self._ready(provider, message) if may_go() else message
        if isinstance(ready, SendError):
            return Answer(ready, None, 0)
        forms = variants(message.phone) if message.phone else (None,)
        refused: Outcome | None = None
        for count, phone in enumerate(forms, 1):
            outcome = await _hand_over(adapter, replace(ready, phone=phone), may_go)
            if not (isinstance(outcome, Refused) and outcome.code in _NOBODY_THERE):
                reviewed = await self.review(provider, ready, outcome) if isinstance(outcome, Refused) else outcome
                return Answer(reviewed, phone, count)
            refused = refused or outcome
        assert refused is not None
        return Answer(refused, forms[0], len(forms))

    async def _ready(self, provider: str, message: OutboundMessage) -> OutboundMessage | SendError:
        """Whatever fails here, the provider was not asked to send."""
        try:
            return await self.prepare(provider, message)
        except SendError as error:
            return error
        except Exception as error:
            log.exception("send.not_prepared", provider=provider, message=message.hub_id)
            return NotTaken("internal", type(error).__name__)


async def _hand_over(provider: Provider, message: OutboundMessage, may_go: Callable[[], bool]) -> Outcome:
    if not may_go():
        return NotTaken("sender_lost", "the process that claimed this lost the queue before it called the provider")
    with SEND_SECONDS.labels(provider.name).time():
        try:
            return await provider.send(message)
        except SendError as error:
            return error
        except Exception as error:
            log.exception("send.provider_broke", provider=provider.name, message=message.hub_id)
            return OutcomeUnknown("internal", type(error).__name__)
