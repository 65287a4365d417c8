"""A customer's messages stay in the order in which they were accepted, whatever way in they take (rules B3, B6)."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from hub.actions.arrivals import Arrival
from hub.actions.register import register_number
from hub.domain.errors import Unavailable
from hub.store.numbers import SenderDraft
from hub.store.pool import Database
from hub.workers.intake import Intake
from providers.base import Route, WebhookRequest
from providers.whatsapp_cloud import webhook

ROUTE = Route("/webhooks/meta", lambda _: True, webhook.parse, webhook.envelopes, repeats=True)
NUMBER_ID = "100000000000001"
PHONE = "4915112345678"


def arrivals(text: str, **who: Any) -> list[Arrival]:
    """One message of our customer; `who` adds to what is told about them."""
    contact = {"wa_id": PHONE, "profile": {"name": "Mia", **who.pop("profile", {})}} | who
    message = {"from": PHONE, "id": f"wamid.{uuid4().hex}", "type": "text", "text": {"body": text}}
    if "user_id" in who:
        message["from_user_id"] = who["user_id"]
    value = {"metadata": {"phone_number_id": NUMBER_ID}, "contacts": [contact], "messages": [message]}
    body = json.dumps({"entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}]}).encode()
    request = WebhookRequest("/webhooks/meta", {"content-type": "application/json"}, body)
    return [Arrival(item, "meta", request, ROUTE) for item in webhook.parse(request)]


@dataclass
class Bench:
    """An intake that runs, on a database of its own."""

    intake: Intake
    url: str

    async def texts(self) -> list[str]:
        """What is stored, in the order of the conversation."""
        conn = await asyncpg.connect(self.url)
        rows = await conn.fetch("select content::json ->> 'text' as text from message order by sequence")
        await conn.close()
        return [row["text"] for row in rows]


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    database = Database(lambda: {"dsn": database_url})
    await database.open()
    async with database.transaction() as conn:
        await register_number(conn, "+15550001111", [SenderDraft("whatsapp", "meta", NUMBER_ID)])
    intake = Intake(database, lambda _: None, queue_limit=100)
    running = asyncio.create_task(intake.run())
    yield Bench(intake, database_url)
    running.cancel()
    await asyncio.wait([running])
    await database.close()


@pytest.mark.parametrize(
    "known_as", [{"profile": {"username": "mia"}}, {"user_id": "DE.1"}, {"profile": {"name": "Mia M."}}], ids=str
)
async def test_b6_one_customer_under_two_descriptions_is_not_overtaken(bench: Bench, known_as: dict[str, Any]) -> None:
    """The first needs a look-up and the second does not; they wait for the same batch."""
    await bench.intake.submit(arrivals("hello"))
    await asyncio.gather(bench.intake.submit(arrivals("first", **known_as)), bench.intake.submit(arrivals("second")))
    assert await bench.texts() == ["hello", "first", "second"]


async def test_b6_what_waits_behind_a_batch_that_failed_fails_with_it(bench: Bench) -> None:
    """Else it would be stored first, and what the provider or the spool brings again would come after it."""
    await bench.intake.submit(arrivals("hello"))
    other = await asyncpg.connect(bench.url)
    async with other.transaction():
        await other.execute("select from conversation for update")
        first = asyncio.create_task(bench.intake.submit(arrivals("first")))
        waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        async with asyncio.timeout(5):
            while (pid := await other.fetchval(waiting)) is None:
                await asyncio.sleep(0.01)
        second = asyncio.create_task(bench.intake.submit(arrivals("second")))
        await asyncio.sleep(0)
        await other.execute("select pg_terminate_backend($1)", pid)
        for task in (first, second):
            with pytest.raises(Unavailable):
                await task
    await other.close()
    await bench.intake.submit(arrivals("first"))
    await bench.intake.submit(arrivals("second"))
    assert await bench.texts() == ["hello", "first", "second"]


async def test_e4_replies_go_to_the_address_the_customer_used_last(bench: Bench) -> None:
    """By phone, then by the business-scoped id alone, then by phone again: nothing remembered may hide the change."""
    await bench.intake.submit(arrivals("phone", user_id="DE.1"))
    document = json.loads(arrivals("hidden", user_id="DE.1")[0].request.body)
    change = document["entry"][0]["changes"][0]["value"]
    del change["messages"][0]["from"], change["contacts"][0]["wa_id"]
    request = WebhookRequest("/webhooks/meta", {}, json.dumps(document).encode())
    await bench.intake.submit([Arrival(item, "meta", request, ROUTE) for item in webhook.parse(request)])
    await bench.intake.submit(arrivals("phone again", user_id="DE.1"))
    conn = await asyncpg.connect(bench.url)
    assert await conn.fetchval("select reply_to_type from conversation") == "phone"
    await conn.close()
