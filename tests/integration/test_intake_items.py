"""History, hand-overs, reconciled messages and what was quarantined, in two processes at once (rules B4 to B6, E4)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from hub.actions.arrivals import Arrival
from hub.actions.quarantine import Parsers, replay_quarantined
from hub.actions.register import register_number
from hub.domain.errors import Conflict
from hub.store.numbers import SenderDraft
from hub.store.spool import Spool, Spooled
from hub.workers import respool
from hub.workers.respool import Respool
from providers.base import Customer, MessageReceived, SenderRef, WebhookRequest
from providers.simulator import Number, Person, meta_fields
from providers.simulator.meta_fields import Past
from providers.twilio.provider import Twilio
from tests.integration.test_ingest_races import ROUTE, Process, arrivals, assert_dense, process
from tests.support.wire import ask, connected, envelope, sms, text, unique, until, value
from tests.support.world import NUMBER, PHONE_NUMBER_ID

SENDER = Number(NUMBER, PHONE_NUMBER_ID)
PEOPLE = [Person(f"+4915100000{n:03d}") for n in range(8)]
BEGAN = int(time.time()) - 3600


def webhook(body: dict[str, Any]) -> list[Arrival]:
    """A verified webhook."""
    request = WebhookRequest(ROUTE.path, {"content-type": "application/json"}, json.dumps(body).encode())
    return [Arrival(item, "meta", request, ROUTE) for item in ROUTE.parse(request)]


def past(count: int) -> list[Past]:
    """Messages of long ago, the newest last, each other one ours."""
    words = [{"type": "text", "text": {"body": f"{n}"}} for n in range(count)]
    return [
        Past(said, unique(), BEGAN - count + n, by_business=n % 2 == 0, status="SENT") for n, said in enumerate(words)
    ]


async def registered(side: Process) -> None:
    async with side.database.transaction() as conn:
        await register_number(conn, NUMBER, [SenderDraft("whatsapp", "meta", PHONE_NUMBER_ID)])


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[tuple[Process, Process]]:
    """Two processes on one database; no number is registered."""
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(process(database_url)),
            await stack.enter_async_context(process(database_url)),
        )


async def test_b4_history_that_comes_twice_beside_what_is_said_just_now(
    pair: tuple[Process, Process], database_url: str
) -> None:
    await registered(pair[0])
    chunks = [meta_fields.history(SENDER, {p: past(20) for p in PEOPLE}, chunk=n) for n in range(3)]
    posts = [side.intake.submit(webhook(chunk)) for chunk in chunks for side in pair]
    posts += [side.intake.submit(arrivals(text("now", p.phone[1:]))) for p in PEOPLE for side in pair]
    read = [
        {"id": message["id"], "status": "read", "timestamp": str(BEGAN), "recipient_id": message["to"]}
        for thread in chunks[0]["entry"][0]["changes"][0]["value"]["history"][0]["threads"]
        for message in thread["messages"]
        if "to" in message
    ]
    posts += [pair[0].intake.submit(arrivals(*read, name="statuses"))]
    await asyncio.gather(*posts)
    async with connected(database_url) as conn:
        rows = await conn.fetch("select conversation_id, sequence, history from message order by 1, 2")
    assert len(rows) == len(PEOPLE) * (3 * 20 + 2)
    for before, after in pairwise(row["sequence"] for row in rows if row["history"]):
        assert after - before == 1 or (before, after) == (0, -59)
    assert await ask(database_url, "select count(*) from orphan_status") == 0
    assert await ask(database_url, "select count(*) from message where history and status = 'read'") == len(read)
    assert await ask(database_url, "select count(*) from contact") == len(PEOPLE)
    assert await ask(database_url, "select count(*) from event where type = 'message.received'") == len(PEOPLE) * 2
    await assert_dense(database_url)


async def test_b4_a_file_of_the_history_may_come_before_or_after_its_message(
    pair: tuple[Process, Process], database_url: str
) -> None:
    await registered(pair[0])
    ref, mia = SenderRef("meta", "whatsapp", (PHONE_NUMBER_ID,)), Customer("+4915112345678")
    request = WebhookRequest(ROUTE.path, {}, b"")
    picture = {"text": "Look", "media": [{"id": "MEDIA", "mime_type": "image/png"}]}

    def told(key: str, provider_id: str, kind: str, content: dict[str, Any]) -> Arrival:
        more: dict[str, Any] = {"origin": "echo", "opens_window": False, "is_history": True, "status": "sent"}
        item = MessageReceived(f"{key}:{provider_id}", ref, mia, provider_id, float(BEGAN), kind, content, **more)
        return Arrival(item, "meta", request, ROUTE)

    for order in (("message", "file"), ("file", "message")):
        for name in ("apart", "together"):
            wanted = {"message": ("media_placeholder", {}), "file": ("image", picture)}
            parts = [told(key, f"{name} {order[0]}", *wanted[key]) for key in order]
            for part in [parts] if name == "together" else [[one] for one in parts]:
                await pair[0].intake.submit(part)
    async with connected(database_url) as conn:
        rows = await conn.fetch("select type, content, status, sequence from message order by sequence desc")
        linked = await conn.fetchval("select count(distinct (message_id, media_id)) from message_media")
    assert [(row["type"], json.loads(row["content"])["text"], row["sequence"]) for row in rows] == [
        ("image", "Look", -n) for n in range(4)
    ]

    # Of a message that nobody knows there is no file to keep.
    stranger = {"from": "4915112345678", "id": "unknown", "timestamp": str(BEGAN), "type": "image"}
    image = {"id": "MEDIA", "mime_type": "image/png", "caption": "Seen"}
    edit = {"type": "edit", "edit": {"original_message_id": "unknown", "message": {"type": "image", "image": image}}}
    await pair[0].intake.submit(arrivals(stranger | edit | {"id": "edit"}))
    [event] = pair[0].published
    shown = json.loads(event.data)["message"]
    assert (event.type, shown["text"], shown["media"]) == ("message.edited", "Seen", [{"mime_type": "image/png"}])

    # Of what is told as history and as news at once, the news count.
    live = text("Just now", PEOPLE[0].phone[1:], id="both")
    [old] = webhook(
        meta_fields.history(SENDER, {PEOPLE[0]: [Past({"type": "text", "text": {"body": "Just now"}}, "both", BEGAN)]})
    )
    await pair[0].intake.submit([old, *arrivals(live), old])
    await pair[1].intake.submit([old])
    assert await ask(database_url, "select count(*) from message where provider_id = 'both' and sequence = 1") == 1
    assert await ask(database_url, "select count(*) from message where provider_id = 'both'") == 1

    # What the history told first is told, and no history, when its own webhook comes late.
    [old] = webhook(
        meta_fields.history(SENDER, {PEOPLE[0]: [Past({"type": "text", "text": {"body": "Late"}}, "late", BEGAN)]})
    )
    for late in ([old], arrivals(text("Late", PEOPLE[0].phone[1:], id="late")), [old]):
        await pair[1].intake.submit(late)
    assert await ask(database_url, "select sequence from message where provider_id = 'late'") == 2
    assert await ask(database_url, "select count(*) from message where provider_id = 'late'") == 1
    assert linked == await ask(database_url, "select count(*) from media_fetch") == 4
    assert await ask(database_url, "select count(*) from event") == 3
    assert await ask(database_url, "select count(*) from quarantine") == 0


async def test_b6_conversations_change_hands_while_customers_write(
    pair: tuple[Process, Process], database_url: str
) -> None:
    """Whatever order the news come in, the last word counts, and every change is told once."""
    await registered(pair[0])
    mia = PEOPLE[0]
    posts = []
    for n in range(24):
        to: meta_fields.Holder = "agent" if n % 2 == 0 else "business"
        body = meta_fields.handover(SENDER, mia, to, at=BEGAN + n * 10)
        posts += [side.intake.submit(webhook(body)) for side in pair]
        posts.append(
            pair[n % 2].intake.submit(arrivals(text(f"{n}", mia.phone[1:], timestamp=str(BEGAN + n * 10 + 5))))
        )
    final = meta_fields.handover(SENDER, mia, "agent", at=BEGAN + 1000)
    await asyncio.gather(*posts, pair[1].intake.submit(webhook(final)))
    async with connected(database_url) as conn:
        rows = await conn.fetch("select type, content from message order by sequence")
        held = await conn.fetchrow("select held_by, held_since, control_at from conversation")
    assert held
    assert tuple(held) == ("external", *[datetime.fromtimestamp(BEGAN + 1000, UTC)] * 2)
    holders = [json.loads(row["content"])["handover"]["holder"] for row in rows if row["type"] == "handover"]
    assert holders == ["external", "hub"] * (len(holders) // 2) + ["external"]
    assert len(rows) == 24 + len(holders)
    assert await ask(database_url, "select count(*) from event where type = 'conversation.handover'") == len(holders)
    await assert_dense(database_url)


async def test_b4_a_quarantined_message_is_replayed_while_the_provider_repeats_it(
    pair: tuple[Process, Process], database_url: str
) -> None:
    messages = [text(f"{n}") for n in range(10)]
    await pair[0].intake.submit(arrivals(*messages))
    async with connected(database_url) as conn:
        held = [row["id"] for row in await conn.fetch("select id from quarantine order by id")]
    assert len(held) == 10
    await registered(pair[0])

    async def replay(entry_id: int) -> int:
        async with pair[1].database.transaction() as conn:
            routes = {ROUTE.path: ("meta", ROUTE)}
            return (await replay_quarantined(conn, routes, entry_id, datetime.now(UTC))).fresh

    taken = await asyncio.gather(
        *(replay(entry_id) for entry_id in held), *(pair[0].intake.submit(arrivals(message)) for message in messages)
    )
    assert sum(fresh or 0 for fresh in taken) <= 10
    assert await ask(database_url, "select count(*) from message") == 10
    assert await ask(database_url, "select count(*) from quarantine where state = 'open'") == 0
    await assert_dense(database_url)


async def test_b3_b5_what_was_spooled_for_a_provider_that_is_gone_is_kept_and_holds_up_nobody(
    pair: tuple[Process, Process], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(respool, "INTERVAL", 0.01)
    await registered(pair[0])
    route = Twilio.listing
    assert route
    listed: Parsers = {route.path: ("twilio", route)}
    form = dict(sms("listed", to="whatsapp:+15550004444", sender="whatsapp:+4915112345678"))
    body = urlencode(form | {"DateSent": "2026-11-22T10:00:00Z"}).encode()
    kept = {"content-type": "application/x-www-form-urlencoded"}
    spool = Spool(tmp_path)
    spool.open()
    loop = asyncio.create_task(Respool(spool, pair[0].intake, {ROUTE.path: ROUTE}).run())
    try:
        await spool.append([
            Spooled("twilio", route.path, f"{route.path}?a=b", kept, body),
            Spooled("meta", ROUTE.path, ROUTE.path, {}, json.dumps(envelope(value([text("after it")]))).encode()),
        ])  # fmt: skip
        await until(lambda: spool.is_empty)
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        spool.close()
    assert await ask(database_url, "select count(*) from message") == 1
    entry_id = await ask(database_url, "select id from quarantine where reason = 'no_such_route'")

    async def replay(parsers: Parsers) -> int:
        async with pair[1].database.transaction() as conn:
            return (await replay_quarantined(conn, parsers, entry_id, datetime.now(UTC))).fresh

    with pytest.raises(Conflict, match="connect the provider 'twilio' again"):
        await replay({ROUTE.path: ("meta", ROUTE)})
    with pytest.raises(Conflict, match="unknown_number"):  # it is read by the route that nobody can call
        await replay({ROUTE.path: ("meta", ROUTE), **listed})
    async with pair[0].database.transaction() as conn:
        await register_number(conn, "+15550004444", [SenderDraft("whatsapp", "twilio", "+15550004444")])
    assert await replay(listed) == 1
    assert await ask(database_url, "select count(*) from message where reconciled") == 1


async def test_e4_what_was_missed_is_told_late_and_counts_from_when_it_was_written(
    pair: tuple[Process, Process], database_url: str
) -> None:
    await registered(pair[0])
    await pair[0].intake.submit(arrivals(text("now", timestamp=str(BEGAN + 600))))
    missed = MessageReceived(
        "meta:message:missed", SenderRef("meta", "whatsapp", (PHONE_NUMBER_ID,)), Customer("+4915112345678"), "missed",
        float(BEGAN), "text", {"text": "earlier"}, is_reconciled=True,
    )  # fmt: skip
    request = WebhookRequest("/listing", {}, b"")
    for side in pair:
        await side.intake.submit([Arrival(missed, "meta", request, ROUTE)])
    [event] = [e for side in pair for e in side.published if e.sequence == 2]
    assert json.loads(event.data)["message"]["reconciled"] is True
    assert await ask(database_url, "select count(*) from message where reconciled") == 1
    at = await ask(database_url, "select last_customer_at from conversation")
    assert at == datetime.fromtimestamp(BEGAN + 600, UTC)
