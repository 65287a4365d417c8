"""What a provider's list has and no webhook brought is taken in, once, in its order (rule B3)."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.actions.arrivals import Arrival
from hub.actions.register import register_number
from hub.store.numbers import SenderDraft
from hub.store.pool import Database
from hub.workers import reconciler
from hub.workers.intake import Intake
from hub.workers.reconciler import Reconciler
from providers.base import (
    Customer,
    Item,
    MessageReceived,
    NotTaken,
    Refused,
    Route,
    SenderRef,
    Unparsed,
    WebhookRequest,
)
from tests.support.wire import LOCKS_HERE, ask, until

OURS, FOREIGN, LATER = "+15550001111", "+15559998888", "+15550002222"
TIMES_SQL = """
select json_agg(json_build_array(content::json ->> 'text', reconciled) order by sequence)::text from message"""

FORMER_SQL = """
insert into sender (number_id, medium, provider, external_id, is_active)
select number_id, medium, provider, 'MG1', false from sender"""
"""What the number had before: messages come once all the same."""


def parse(request: WebhookRequest) -> list[Item]:
    """A message, as the list of this provider has it."""
    told = json.loads(request.body)
    if "text" not in told:
        return [Unparsed(told["id"], "odd", "no text", request.body)]
    return [
        MessageReceived(
            told["id"], SenderRef("twilio", "sms", (told["to"],)), Customer(phone="+4915112345678"), told["id"],
            told["at"], "text", {"text": told["text"]}, is_reconciled=told.get("listed", True),
        )
    ]  # fmt: skip


ROUTE = Route("/listed", lambda _: False, parse, lambda _: {}, repeats=False)


@dataclass
class Listing:
    """A provider that lists what it was given; as the protocol asks, in the order of its times."""

    name = "twilio"
    listing: Route | None = ROUTE
    requests: list[tuple[float, WebhookRequest]] = field(default_factory=list)
    asked: list[tuple[datetime, datetime]] = field(default_factory=list)
    most: int = 10_000
    slow: int = 10_000
    problem: Exception | None = None

    def has(self, name: str, at: datetime, to: str = OURS, **more: Any) -> WebhookRequest:
        """One more message."""
        body = {"id": name, "text": name, "to": to, "at": at.timestamp()} | more
        request = WebhookRequest("/listed", {}, json.dumps({k: v for k, v in body.items() if v is not None}).encode())
        self.requests.append((at.timestamp(), request))
        return request

    async def fill_in(self, listed: WebhookRequest) -> WebhookRequest:
        """Nothing is missing."""
        return listed

    async def list_received(self, since: datetime, until: datetime) -> Sequence[WebhookRequest]:
        """Those of this time."""
        self.asked.append((since, until))
        if self.problem:
            raise self.problem
        found = [
            r for at, r in sorted(self.requests, key=lambda e: e[0]) if since.timestamp() <= at < until.timestamp()
        ]
        if len(found) > self.most:
            raise NotTaken("too_many")
        if len(found) > self.slow:
            await asyncio.Event().wait()
        return found


@dataclass
class Bench:
    """A reconciler over a list, with an intake that runs."""

    reconciler: Reconciler
    listing: Listing
    intake: Intake
    url: str
    spooled: list[bool]

    async def timeline(self) -> list[list[Any]]:
        """What is stored."""
        found = await ask(self.url, TIMES_SQL)
        return list(json.loads(found)) if found else []

    async def round(self) -> tuple[str, int, int]:
        """Compare, and give the outcome, what was listed and what taken."""
        (done,) = await self.reconciler.reconcile()
        return done.outcome, done.listed, done.taken


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    database = Database(lambda: {"dsn": database_url})
    await database.open()
    async with database.transaction() as conn:
        await register_number(conn, OURS, [SenderDraft("sms", "twilio", OURS)])
    await ask(database_url, "update sender set created_at = now() - interval '1 day'")
    await ask(database_url, FORMER_SQL)
    async with database.transaction() as conn:
        await register_number(conn, LATER, [SenderDraft("sms", "twilio", LATER)])
    intake = Intake(database, lambda _: None, queue_limit=100)
    running = asyncio.create_task(intake.run())
    listing, spooled = Listing(), [False]
    made = Reconciler(database, [listing], intake, lambda: spooled[0], interval=300, lookback=timedelta(days=7))  # type: ignore[list-item]
    yield Bench(made, listing, intake, database_url, spooled)
    running.cancel()
    await asyncio.wait([running])
    await database.close()


async def test_b3_what_no_webhook_brought_is_taken_in_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    listing = bench.listing
    listing.has("before the hub", now - timedelta(minutes=1))
    assert await bench.round() == ("done", 0, 0)  # the first time, nothing is asked for but the moment
    await ask(bench.url, "update reconciliation set begun_at = $1, until = $1", now - timedelta(hours=3))

    # Portions are small, and there is more than the provider lists at once, or in time: it is asked for in halves.
    monkeypatch.setattr(reconciler, "TOGETHER", 3)
    monkeypatch.setattr(reconciler, "PATIENCE", 0.05)
    listing.most, listing.slow = 8, 5
    names = [f"{n:02}" for n in range(20)]
    for n, name in enumerate(reversed(names)):
        listing.has(name, now - timedelta(minutes=30 + 4 * n))
    live = listing.has("live", now - timedelta(minutes=20), listed=False)
    listing.has("not ours", now - timedelta(minutes=40), to=FOREIGN)
    listing.has("before its number was", now - timedelta(minutes=40), to=LATER)
    listing.has("odd", now - timedelta(minutes=40), text=None)
    both = [Arrival(item, "twilio", live, ROUTE) for item in parse(live)]
    (outcome, listed, _), _ = await asyncio.gather(bench.round(), bench.intake.submit(both))
    assert (outcome, listed) == ("done", 25)
    stored = await bench.timeline()
    assert sorted(text for text, _ in stored) == sorted([*names, "live", "before the hub"])
    assert [text for text, _ in stored if text in names] == names
    assert all(is_reconciled for text, is_reconciled in stored if text in names)
    assert await ask(bench.url, "select string_agg(reason, ' ') from quarantine") == "odd"

    # The next round overlaps, and takes nothing twice; what it cannot ask for, it asks for again.
    await ask(bench.url, "update reconciliation set until = $1", now - timedelta(hours=3))
    assert await bench.round() == ("done", 25, 0)
    mark = await ask(bench.url, "select until from reconciliation")
    listing.has("late", now - timedelta(minutes=2))
    for problem, expected in (
        (NotTaken("throttled"), "provider_unavailable"),
        (Refused("not_configured"), "not_configured"),
        (ValueError("a fault of ours"), "failed"),
    ):
        listing.problem = problem
        assert await bench.round() == (expected, 0, 0)
    listing.problem = None
    bench.spooled[0] = True
    assert await bench.round() == ("waiting", 0, 0)
    bench.spooled[0] = False
    assert await ask(bench.url, "select until from reconciliation") == mark
    since = mark - timedelta(minutes=10)
    assert (await bench.round())[2] == 1
    assert listing.asked[-1][0] == since
    assert (await bench.timeline())[-1] == ["late", True]

    # A START that was missed does not lift the STOP that came after it (E5).
    live = listing.has("STOP", now, listed=False)
    await bench.intake.submit([Arrival(item, "twilio", live, ROUTE) for item in parse(live)])
    listing.has("START", now - timedelta(minutes=1))
    assert (await bench.round())[2] == 1
    assert await ask(bench.url, "select string_agg(kind, ' ') from consent_event") == "stop"


async def test_b3_the_loop_begins_at_once_and_goes_on_by_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process at a time: the other waits until the first has ended."""
    monkeypatch.setattr(reconciler, "FIRST", (0.0, 0.01))
    monkeypatch.setattr(reconciler, "RETRY", 0.01)
    monkeypatch.setattr(reconciler, "SPOOLED", 0.01)
    bench.spooled[0], bench.listing.problem = True, NotTaken("throttled")
    loops = [asyncio.create_task(bench.reconciler.run()) for _ in range(2)]
    owners = (
        f"select count(*) from {LOCKS_HERE} where locktype = 'advisory' and classid = 7003 and objid = 6 and granted"
    )
    await until(lambda: ask(bench.url, "select true from reconciliation where outcome = 'waiting'"))
    bench.spooled[0] = False
    await until(lambda: ask(bench.url, "select true from reconciliation where outcome = 'provider_unavailable'"))
    bench.listing.problem = None
    await until(lambda: ask(bench.url, "select true from reconciliation where outcome = 'done'"))
    assert await ask(bench.url, owners) == 1
    first = next(task for task in loops if not task.done())
    first.cancel()
    await asyncio.wait([first])
    assert await until(lambda: ask(bench.url, owners)) == 1
    loops[1].cancel()
    await asyncio.wait(loops)
