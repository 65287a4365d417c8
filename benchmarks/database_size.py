"""How much of a disk a message takes: `python -m benchmarks.database_size`, about a minute.

A hub with its embedded database and three services that hear everything by webhooks; customers who write over WhatsApp
(150 characters), then agents who answer, with the statuses that follow. Printed are bytes per message, with indexes,
after a vacuum, by what they are for; the rest of the database is the same however many there are.
"""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

import asyncpg

from providers.simulator import Person
from tests.support.world import Service, World, world

MESSAGES = 6_000
CUSTOMERS = 300
TOGETHER = 40
TEXT = "A message of a customer, as long as messages usually are: one or two sentences, a name, an order, a question. "[
    :110
]
SIZES = """
select coalesce(p.relname, c.relname) as name, sum(pg_total_relation_size(c.oid))::bigint as size
from pg_class c left join pg_inherits i on i.inhrelid = c.oid left join pg_class p on p.oid = i.inhparent
where c.relkind in ('r', 'm') and c.relnamespace = 'public'::regnamespace group by 1"""
KINDS = {
    "event": "event log (30 days)",
    "delivered": "what was delivered (14 days)",
    "attempt": "what was delivered (14 days)",
    "inbound_key": "keys against duplicates (45 days)",
    "message": "messages (kept)",
    "message_status": "messages (kept)",
    "provider_call": "how messages were sent (14 days)",
    "message_ruling": "how messages were sent (14 days)",
}


async def sizes(conn: "asyncpg.Connection[asyncpg.Record]") -> Counter[str]:
    """Bytes by purpose, after a vacuum."""
    await conn.execute("vacuum analyze")
    found: Counter[str] = Counter()
    for row in await conn.fetch(SIZES):
        found[KINDS.get(row["name"], "other")] += row["size"]
    return found


async def together(steps: list[object]) -> None:
    """Await all, so many at a time."""
    room = asyncio.Semaphore(TOGETHER)

    async def one(step) -> None:  # type: ignore[no-untyped-def]
        async with room:
            await step

    await asyncio.gather(*(one(step) for step in steps))


def show(title: str, before: Counter[str], after: Counter[str], count: int) -> None:
    """A line for each purpose, per message."""
    print(f"\n{title}")
    for kind, size in sorted((after - before).items(), key=lambda item: -item[1]):
        print(f"  {kind:35} {size / count:8.0f} bytes")
    print(f"  {'all':35} {sum((after - before).values()) / count:8.0f} bytes")


async def measure(made: World, conn: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Customers write, agents answer."""
    services = await made.connected("helpdesk", "crm", "marketing")
    customers = [made.customer(Person(f"+49151{n:08}", name=f"Customer {n}")) for n in range(CUSTOMERS)]
    await together([customer.says("Hello") for customer in customers])
    await _heard(services, CUSTOMERS)
    before = await sizes(conn)
    await together([customers[n % CUSTOMERS].says(f"{TEXT}{n:>40}") for n in range(MESSAGES)])
    await _heard(services, CUSTOMERS + MESSAGES)
    await asyncio.sleep(16)  # the checkpoint of cursors
    after = await sizes(conn)
    show(f"a message of a customer, heard by {len(services)} services", before, after, MESSAGES)
    conversations = sorted({d.data["conversation"]["id"] for d in services[0].endpoint.of("message.received")})
    helpdesk = services[0]
    answers = [
        helpdesk.reply(conversations[n % CUSTOMERS], f"{TEXT}{n:>40}", agent=f"A{n % 500}")
        for n in range(MESSAGES // 3)
    ]
    await together(list(answers))
    while await conn.fetchval("select count(*) from message where direction = 'outbound' and status <> 'read'"):
        await asyncio.sleep(0.5)
    await asyncio.sleep(16)
    show("an agent's answer with its statuses", after, await sizes(conn), MESSAGES // 3)


async def _heard(services: list[Service], count: int) -> None:
    for service in services:
        await service.endpoint.hears("message.received", count, 120)


async def main() -> None:
    """Everything, in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="size-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        limits = {"agent_per_minute": 0, "service_per_minute": 0, "whatsapp_rate": 500.0, "requests_per_second": 0}
        async with world(None, Path(folder) / "data", **limits) as made:
            assert made.hub.postgres is not None
            conn = await asyncpg.connect(**made.hub.postgres.connect_args)
            try:
                await measure(made, conn)
            finally:
                await conn.close()


if __name__ == "__main__":
    asyncio.run(main())
