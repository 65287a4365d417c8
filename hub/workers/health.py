"""Asks providers how the senders are, and notices when their callbacks are silent."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from prometheus_client import Gauge

from hub.actions import sender_health as verbs
from hub.domain.errors import Unavailable
from hub.domain.events import Event
from hub.domain.sender_health import CODES, Health
from hub.domain.silence import ANSWERED_BY, HOUR, KEPT, LOOKBACK, inbound_silent, statuses_silent
from hub.store import event_log, leases, routes, sender_health, sender_traffic
from hub.store.pool import Database, Dedicated, Record, TryAgain
from hub.store.sender_health import SeenHealth
from hub.store.sender_traffic import Lately
from providers.base import NotTaken, Provider, SenderCheck, SenderProbe, SendError

log = structlog.get_logger()

FIRST: Final = 5.0
"""Seconds after the start before the first round."""
SHOWN: Final = 15.0
"""Seconds between looks at what is known, for the metrics: webhooks and sends tell of health, too."""
PATIENCE: Final = 30.0
"""Seconds a provider has to answer for one sender."""
TOGETHER: Final = 4
"""Senders that are asked about at a time."""
PORTION: Final = 5 * HOUR
"""Beginnings of hours, from first to last, that are counted in one statement."""
SILENCE: Final = 900.0
"""Seconds without a word after which the database ends our connection: another process looks then."""
_UNASKED: Final = frozenset({"not_configured", "not_supported"})
_LEVELS: Final = {"ok": 0, "degraded": 1, "down": 2}

_NEWEST: Final = "livemostrecent"
HEALTH = Gauge(
    "partyline_sender_health",
    "How a sender is (0 ok, 1 degraded, 2 down)",
    ["sender", "medium", "provider"],
    multiprocess_mode=_NEWEST,
)
PROBLEM = Gauge(
    "partyline_sender_problem", "1 while a sender has this problem", ["sender", "code"], multiprocess_mode=_NEWEST
)


class HealthChecks:
    """One at a time, whichever process gets there first; a round every `interval` seconds."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[str, Provider],
        publish: Callable[[Sequence[Event]], None],
        *,
        interval: float,
    ) -> None:
        self._database = database
        self._providers = providers
        self._publish = publish
        self._interval = interval
        self._failures: Counter[int] = Counter()
        self._others: defaultdict[str, set[str]] = defaultdict(set)
        self._shown: set[Gauge] = set()

    async def run(self) -> None:
        """Wait for the ownership, then look until cancelled."""
        owner = await self._database.dedicated()
        try:
            await leases.own(owner.conn, leases.HEALTH)
            await leases.limit_silence(owner.conn, SILENCE)
            await self._rest(owner, min(FIRST, self._interval))
            while True:
                await self.look()
                await self._rest(owner, self._interval)
        finally:
            for gauge in self._shown:
                gauge.set(0)  # another process shows them from now on
            await owner.close()

    async def _rest(self, owner: Dedicated, seconds: float) -> None:
        """Wait, and meanwhile show what others find out. Raises `Unavailable` where the ownership is lost."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await leases.confirm(owner.conn)
            await self._show()
            await asyncio.sleep(min(left, SHOWN))

    async def look(self) -> None:
        """One round: every active sender, then silence. Raises `Unavailable` where the senders cannot be read."""
        async with self._database.reading() as conn:
            senders = await sender_traffic.list_probed(conn)
        room = asyncio.Semaphore(TOGETHER)
        await asyncio.gather(*(self._check(row, room) for row in senders))
        try:
            await self._listen(senders)
        except Unavailable as error:
            log.warning("health.not_listened", reason=str(error))
        await self._show()
        log.info("health.checked", senders=len(senders), failed=sum(self._failures[row["id"]] > 0 for row in senders))

    # Asking ----------------------------------------------------------------------------------------------------------

    async def _check(self, sender: Record, room: asyncio.Semaphore) -> None:
        provider = self._providers.get(sender["provider"])
        if provider is None:
            return
        async with room:
            answer = await _ask(provider, sender)
        if isinstance(answer, SendError) and answer.code in _UNASKED:
            return
        with suppress(TryAgain):
            await self._note(sender, answer)

    async def _note(self, sender: Record, answer: SenderCheck | SendError) -> None:
        sender_id, now = sender["id"], datetime.now(UTC)
        if isinstance(answer, SendError):
            self._failures[sender_id] += 1
        else:
            del self._failures[sender_id]
        async with self._database.transaction() as conn:
            if isinstance(answer, SendError):
                failures = self._failures[sender_id]
                drafts = await verbs.note_failed_check(conn, sender_id, answer, failures, now)
            else:
                if not sender["account"] and "account" in answer.facts:
                    await routes.note_accounts(conn, {sender_id: answer.facts["account"]})
                drafts = await verbs.note_check(conn, sender_id, answer, now)
            events = await event_log.append(conn, drafts)
        self._publish(events)

    # Listening -------------------------------------------------------------------------------------------------------

    async def _listen(self, senders: Sequence[Record]) -> None:
        now = datetime.now(UTC)
        this_hour = now.replace(minute=0, second=0, microsecond=0)
        await self._count(this_hour - HOUR)
        async with self._database.reading() as conn:
            traffic = await sender_traffic.list_traffic(conn, [row["id"] for row in senders])
            since = min(now - LOOKBACK, this_hour)
            lately = await sender_traffic.find_lately(conn, since, now - ANSWERED_BY, this_hour)
        for row in senders:
            sender_id, just_now = row["id"], lately.get(row["id"], Lately())
            detail = statuses_silent(just_now.handed, just_now.answered, just_now.since) or inbound_silent(
                traffic.get(sender_id, {}), this_hour - HOUR, just_now.inbound
            )
            with suppress(TryAgain):
                await self._note_silence(sender_id, detail, now)

    async def _count(self, last: datetime) -> None:
        """Count the full hours up to `last` that were not counted; those in which the hub was away are no silence."""
        async with self._database.transaction() as conn:
            counted = await sender_traffic.find_last_hour(conn)
            first = counted + HOUR if counted else last - KEPT
            if counted and last - first >= max(HOUR, timedelta(seconds=self._interval)):
                await sender_traffic.skip_hours(conn, max(first, last - KEPT), last)
                return
            await sender_traffic.prune_traffic(conn, last - KEPT)
        while first <= last:  # the very first time it is three weeks: not in one statement
            async with self._database.transaction() as conn:
                await sender_traffic.count_hours(conn, first, min(first + PORTION, last))
            first += PORTION + HOUR

    async def _note_silence(self, sender_id: int, detail: str | None, now: datetime) -> None:
        async with self._database.transaction() as conn:
            known = (await sender_health.list_health(conn, [sender_id])).get(sender_id)
            is_silent = known is not None and "callbacks_silent" in known.health.problems
            if not detail and not is_silent:
                return
            events = await event_log.append(conn, await verbs.note_silence(conn, sender_id, detail, now))
        self._publish(events)

    # Showing ---------------------------------------------------------------------------------------------------------

    async def _show(self) -> None:
        """What is known, as metrics; a code that was shown once is shown as 0 when it holds no more."""
        with suppress(Unavailable):
            async with self._database.reading() as conn:
                senders = await sender_traffic.list_probed(conn)
                known = await sender_health.list_health(conn, [row["id"] for row in senders])
            for row in senders:
                self._show_sender(row, known.get(row["id"]))

    def _show_sender(self, row: Record, seen: SeenHealth | None) -> None:
        sender, health = str(row["id"]), seen.health if seen else Health()
        level = HEALTH.labels(sender, row["medium"], row["provider"])
        level.set(_LEVELS[health.state])
        self._shown.add(level)
        for code in {*CODES, *health.problems, *self._others[sender]}:
            problem = PROBLEM.labels(sender, code)
            problem.set(code in health.problems)
            self._shown.add(problem)
        self._others[sender] |= health.problems.keys()


async def _ask(provider: Provider, sender: Record) -> SenderCheck | SendError:
    probe = SenderProbe(sender["medium"], sender["external_id"], sender["e164"], sender["account"])
    try:
        async with asyncio.timeout(PATIENCE):
            return await provider.check_sender(probe)
    except SendError as error:
        return error
    except TimeoutError:
        return NotTaken("provider_unavailable", "it did not answer in time")
    except Exception as error:
        log.exception("health.check_broke", provider=provider.name, sender=sender["id"])
        return NotTaken("internal", type(error).__name__)
