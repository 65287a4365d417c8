"""Fetches what webhooks left out, from the lists of providers that have one (rule B3)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Final

import structlog
from prometheus_client import Counter

from hub.actions.arrivals import Arrival
from hub.actions.reconcile import Outcome, Round, find_missing
from hub.domain.errors import Unavailable
from hub.domain.reconciliation import span
from hub.store import leases, reconciliations
from hub.store.pool import Database, Dedicated, Record, TryAgain
from hub.workers.intake import Intake
from providers.base import Provider, SendError, WebhookRequest

log = structlog.get_logger()

FIRST: Final = (2.0, 13.0, 45.0)
"""Seconds before the first rounds, each after the last: an outage is what a start often ends."""
RETRY: Final = 30.0
"""Seconds after which a round that failed is tried again, where rounds are further apart."""
SPOOLED: Final = 1.0
"""Seconds between looks at whether the spool is empty."""
PATIENCE: Final = 240.0
"""Seconds a provider has to tell its list."""
TOO_MANY: Final = "too_many"
"""A provider's word for a list that is longer than it can be asked for at once."""
LEAST: Final = timedelta(minutes=1)
"""A time that is not halved any more."""
TOGETHER: Final = 200
"""Webhooks handed to the intake at once."""
_SILENCE: Final = 900.0
"""Seconds without a word after which the database ends our connection: another process reconciles then."""
_BREATH: Final = 60.0

ROUNDS: Final = Counter(
    "partyline_reconciliations", "Comparisons of a provider's list with ours", ["provider", "outcome"]
)
TAKEN: Final = Counter("partyline_reconciled_items", "Messages and statuses that no webhook had brought", ["provider"])


class Reconciler:
    """One at a time, whichever process gets there first; it hands what is missing to its own process's intake."""

    def __init__(
        self, database: Database, providers: Sequence[Provider], intake: Intake, is_spooled: Callable[[], bool], *,
        interval: float, lookback: timedelta,
    ) -> None:  # fmt: skip
        """`is_spooled` tells whether webhooks wait in the spool; `interval` in seconds, 0: never by itself."""
        self._database = database
        self._providers = [provider for provider in providers if provider.listing]
        self._intake = intake
        self._is_spooled = is_spooled
        self._interval = interval
        self._lookback = lookback
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        """Wait for the ownership, then compare until cancelled."""
        if not self._providers:
            await asyncio.Event().wait()
        await self._begin()
        if not self._interval:
            await asyncio.Event().wait()
        owner = await self._database.dedicated()
        try:
            await leases.own(owner.conn, leases.RECONCILER)
            await leases.limit_silence(owner.conn, _SILENCE)
            for pause in chain(FIRST, repeat(self._interval)):
                await self._rest(owner, pause)
                while again := self._again(await self.reconcile()):
                    await self._rest(owner, again)
        finally:
            await owner.close()

    def _again(self, rounds: Sequence[Round]) -> float:
        """After how many seconds to try again what did not succeed; 0 where all did."""
        outcomes = {done.outcome for done in rounds} - {"done", "not_configured"}
        if not outcomes:
            return 0.0
        return SPOOLED if outcomes == {"waiting"} else min(RETRY, self._interval)

    async def _rest(self, owner: Dedicated, seconds: float) -> None:
        """Wait, and say now and then that we are here. Raises `Unavailable` where the ownership is lost."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _BREATH))
            await leases.confirm(owner.conn)

    async def _begin(self) -> None:
        """The very first time, nothing is fetched: what was before the hub is none of its affairs."""
        async with self._database.transaction() as conn:
            await reconciliations.begin(conn, [provider.name for provider in self._providers], datetime.now(UTC))

    async def reconcile(self) -> list[Round]:
        """Compare every provider's list now; what fails is told in its round."""
        async with self._busy:
            return [await self._compare(provider) for provider in self._providers]

    async def _compare(self, provider: Provider) -> Round:
        try:
            done = await self._try(provider)
        except (Unavailable, TryAgain):
            done = Round(provider.name, "unavailable", detail="the database could not take it")
        except Exception as error:
            log.exception("reconciliation.failed", provider=provider.name)
            done = Round(provider.name, "failed", detail=type(error).__name__)
        ROUNDS.labels(provider.name, done.outcome).inc()
        if done.outcome == "done" and done.taken:
            log.info("reconciliation.done", provider=provider.name, listed=done.listed, taken=done.taken)
        elif done.outcome not in {"done", "not_configured", "waiting"}:
            log.warning("reconciliation.not_done", provider=provider.name, outcome=done.outcome, detail=done.detail)
        with suppress(Unavailable, TryAgain):
            await self._record(done)
        return done

    async def _try(self, provider: Provider) -> Round:
        """Raises what the database, or a fault of ours, raises; then the mark stays where it was."""
        if self._is_spooled():  # those came first (B6)
            return Round(provider.name, "waiting", detail="webhooks of an outage are being taken in")
        now = datetime.now(UTC)
        mark = await self._find_mark(provider.name, now)
        since, until = span(mark["begun_at"], mark["until"], now, self._lookback)
        if mark["until"] < since:
            log.warning("reconciliation.gap", provider=provider.name, since=mark["until"], until=since)
        try:
            listed, taken = await self._take_span(provider, since, until)
        except TimeoutError:
            return Round(provider.name, "provider_unavailable", since, until, detail="timeout")
        except SendError as error:
            outcome: Outcome = "not_configured" if error.code == "not_configured" else "provider_unavailable"
            return Round(provider.name, outcome, since, until, detail=error.code)
        return Round(provider.name, "done", since, until, listed, taken)

    async def _take_span(self, provider: Provider, since: datetime, until: datetime) -> tuple[int, int]:
        """Take in what is missing of this time; gives how much was listed, and how much taken. What is too much for one
        list, or takes too long, is asked for in halves, the earlier one first. Raises `SendError`, `TimeoutError`.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                listed = await provider.list_received(since, until)
        except (SendError, TimeoutError) as error:
            is_too_much = isinstance(error, TimeoutError) or error.code == TOO_MANY
            if not is_too_much or until - since <= LEAST:
                raise
            middle = since + (until - since) / 2
            earlier = await self._take_span(provider, since, middle)
            later = await self._take_span(provider, middle, until)
            return earlier[0] + later[0], earlier[1] + later[1]
        return len(listed), sum([count async for count in self._take(provider, listed)])

    async def _find_mark(self, provider: str, now: datetime) -> Record:
        async with self._database.transaction() as conn:
            await reconciliations.begin(conn, [provider], now)
            return next(row for row in await reconciliations.list_marks(conn) if row["provider"] == provider)

    async def _take(self, provider: Provider, listed: Sequence[WebhookRequest]) -> AsyncIterator[int]:
        """Hand on what is missing, in the provider's order; gives how much, portion by portion."""
        for portion in _portions(listed):
            arrivals = _arrivals(provider, portion)
            async with self._database.reading() as conn:
                missing = await find_missing(conn, arrivals)
            async with asyncio.timeout(PATIENCE):
                whole = await asyncio.gather(*(provider.fill_in(arrival.request) for arrival in missing))
            await self._intake.submit(_arrivals(provider, whole))
            TAKEN.labels(provider.name).inc(len(missing))
            yield len(missing)

    async def _record(self, done: Round) -> None:
        async with self._database.transaction() as conn:
            await reconciliations.record(
                conn, done.provider, datetime.now(UTC), done.outcome, detail=done.detail, listed=done.listed,
                taken=done.taken, until=done.until if done.outcome == "done" else None,
            )  # fmt: skip


def _portions(listed: Sequence[WebhookRequest]) -> Iterator[Sequence[WebhookRequest]]:
    for start in range(0, len(listed), TOGETHER):
        yield listed[start : start + TOGETHER]


def _arrivals(provider: Provider, portion: Sequence[WebhookRequest]) -> list[Arrival]:
    route = provider.listing
    assert route is not None
    return [Arrival(item, provider.name, request, route) for request in portion for item in route.parse(request)]
