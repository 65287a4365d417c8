"""Every SQL constant prepares, and the invariants are constraints: a race can only lose, never corrupt."""

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

import hub.store
from hub.domain.ids import new_id
from tests.support.database import TEMPLATE, Server


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(hub.store.__path__, "hub.store."):
        yield importlib.import_module(found.name)


def constants() -> dict[str, str]:
    """Every `*_SQL` of every module of the store, by where it stands."""
    return {
        f"{module.__name__}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if name.endswith("_SQL")
    }


@pytest.fixture(scope="module")
def shared_url(server: Server) -> Iterator[str]:
    """One database for all of these tests: each rolls back what it did."""
    name = "test_sql"
    asyncio.run(server.execute(f"create database {name} template {TEMPLATE}"))
    yield server.url(name)
    asyncio.run(server.execute(f"drop database {name} with (force)"))


@pytest.fixture
async def conn(shared_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    made = await asyncpg.connect(shared_url)
    transaction = made.transaction()
    await transaction.start()
    yield made
    await transaction.rollback()
    await made.close()


async def test_every_statement_prepares_against_the_migrated_schema(
    conn: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    found = constants()
    assert len(found) > 60
    broken = {}
    for name, sql in found.items():
        try:
            async with conn.transaction():
                await conn.prepare(sql)
        except asyncpg.PostgresError as error:
            broken[name] = str(error)
    assert broken == {}


class Data:
    """Rows to violate constraints with; every method gives what it made."""

    def __init__(self, conn: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.conn = conn
        self._numbers = 0

    async def insert(self, table: str, **values: Any) -> Any:
        """Insert one row; gives it."""
        names = ", ".join(values)
        places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
        async with self.conn.transaction():
            return await self.conn.fetchrow(
                f"insert into {table} ({names}) values ({places}) returning *", *values.values()
            )

    async def execute(self, sql: str, *args: Any) -> None:
        """Run a statement that may fail, alone."""
        async with self.conn.transaction():
            await self.conn.execute(sql, *args)

    async def number(self) -> int:
        self._numbers += 1
        return int((await self.insert("number", e164=f"+1555000{self._numbers:04d}"))["id"])

    async def service(self) -> UUID:
        return UUID(str((await self.insert("service", id=new_id(), name="crm", plan="bundle", scopes=["read"]))["id"]))

    async def channel(self, **values: Any) -> UUID:
        values = {"id": new_id(), "kind": "shared", **values}
        values.setdefault("number_id", await self.number() if "number_id" not in values else None)
        await self.insert("channel", **values)
        return UUID(str(values["id"]))

    async def contact(self) -> UUID:
        return UUID(str((await self.insert("contact", id=new_id()))["id"]))

    async def address(self, contact: UUID, kind: str, value: str, *, is_proved: bool = True) -> None:
        await self.insert(
            "contact_address", contact_id=contact, type=kind, value=value, match_key=value, is_proved=is_proved
        )

    async def conversation(self, **values: Any) -> dict[str, Any]:
        number = await self.number()
        made = {
            "id": new_id(),
            "number_id": number,
            "channel_id": values.pop("channel_id", None) or await self.channel(number_id=number),
            "medium": "whatsapp",
            "contact_id": values.pop("contact_id", None) or await self.contact(),
            "reply_to_type": "phone",
            "reply_to_value": "+4915112345678",
            **values,
        }
        await self.insert("conversation", **made)
        return made

    async def message(self, conversation: dict[str, Any], **values: Any) -> UUID:
        made = {
            "id": new_id(),
            "number_id": conversation["number_id"],
            "channel_id": conversation["channel_id"],
            "conversation_id": conversation["id"],
            "sequence": 1,
            "direction": "inbound",
            "medium": "whatsapp",
            "type": "text",
            "origin": "customer",
            "content": "{}",
            "provider": "meta",
            **values,
        }
        await self.insert("message", **made)
        return UUID(str(made["id"]))

    async def subscription(self, channel: UUID, service: UUID, **values: Any) -> UUID:
        made = {"id": new_id(), "channel_id": channel, "service_id": service, **values}
        await self.insert("subscription", **made)
        return UUID(str(made["id"]))


@pytest.fixture
def data(conn: "asyncpg.Connection[asyncpg.Record]") -> Data:
    return Data(conn)


async def parent(data: Data, channel: UUID, service: UUID) -> UUID:
    """A subscription that is parent now."""
    made = await data.subscription(channel, service)
    await data.execute("update subscription set is_parent = true, parent_since = now() where id = $1", made)
    return made


async def test_a2_one_parent_per_channel(data: Data) -> None:
    channel = await data.channel()
    await parent(data, channel, await data.service())
    other = await data.subscription(channel, await data.service())
    with pytest.raises(asyncpg.UniqueViolationError, match="subscription_one_parent"):
        await data.execute("update subscription set is_parent = true, parent_since = now() where id = $1", other)


async def test_a5_a_parent_is_connected_and_has_a_since(data: Data) -> None:
    channel = await data.channel()
    made = await parent(data, channel, await data.service())
    with pytest.raises(asyncpg.CheckViolationError):
        await data.execute("update subscription set disconnected_at = now() where id = $1", made)
    with pytest.raises(asyncpg.CheckViolationError):
        await data.execute("update subscription set parent_since = null where id = $1", made)


async def test_a2_one_shared_channel_per_number(data: Data) -> None:
    number = await data.number()
    await data.channel(number_id=number)
    with pytest.raises(asyncpg.UniqueViolationError, match="channel_one_shared"):
        await data.channel(number_id=number)


async def test_a3_one_standalone_channel_per_number_and_service(data: Data) -> None:
    number, service = await data.number(), await data.service()
    await data.channel(number_id=number, kind="standalone", owner_service_id=service)
    await data.channel(number_id=number, kind="standalone", owner_service_id=await data.service())
    with pytest.raises(asyncpg.UniqueViolationError, match="channel_one_standalone"):
        await data.channel(number_id=number, kind="standalone", owner_service_id=service)


@pytest.mark.parametrize("kind", ["shared", "standalone"])
async def test_a3_a_channel_has_an_owner_exactly_where_it_is_standalone(data: Data, kind: str) -> None:
    owner = await data.service() if kind == "shared" else None
    with pytest.raises(asyncpg.CheckViolationError):
        await data.channel(kind=kind, owner_service_id=owner)


async def test_a1_one_active_sender_per_medium(data: Data) -> None:
    number = await data.number()
    await data.insert("sender", number_id=number, medium="whatsapp", provider="meta", external_id="1")
    await data.insert(
        "sender", number_id=number, medium="whatsapp", provider="twilio", external_id="+1", is_active=False
    )
    await data.insert("sender", number_id=number, medium="sms", provider="twilio", external_id="+1")
    with pytest.raises(asyncpg.UniqueViolationError, match="sender_one_active"):
        await data.execute("update sender set is_active = true")


async def test_a1_a_meta_number_belongs_to_one_number(data: Data) -> None:
    await data.insert("sender", number_id=await data.number(), medium="whatsapp", provider="meta", external_id="1")
    with pytest.raises(asyncpg.UniqueViolationError, match="sender_meta_id"):
        await data.insert("sender", number_id=await data.number(), medium="whatsapp", provider="meta", external_id="1")


async def test_a1_meta_sends_no_sms(data: Data) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await data.insert("sender", number_id=await data.number(), medium="sms", provider="meta", external_id="1")


@pytest.mark.parametrize("e164", ["15550001111", "+0155500011", "+123456", "+1234567890123456", "+1555x00111"])
async def test_a1_a_number_is_e164(data: Data, e164: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await data.insert("number", e164=e164)


async def test_a2_a_service_is_on_a_channel_once_at_a_time(data: Data) -> None:
    channel, service = await data.channel(), await data.service()
    first = await data.subscription(channel, service)
    with pytest.raises(asyncpg.UniqueViolationError, match="subscription_current"):
        await data.subscription(channel, service)
    await data.execute("update subscription set disconnected_at = now() where id = $1", first)
    await data.subscription(channel, service)


async def test_a10_a_rank_is_given_once_and_by_the_database(data: Data) -> None:
    channel = await data.channel()
    await data.subscription(channel, await data.service())
    with pytest.raises(asyncpg.GeneratedAlwaysError):
        await data.subscription(channel, await data.service(), rank=1)
    ranks = [row["rank"] for row in await data.conn.fetch("select rank from subscription order by id")]
    assert len(ranks) == 1


@pytest.mark.parametrize("kind", ["phone", "user_id", "email", "sender_id"])
async def test_b8_one_owner_per_proved_address(data: Data, kind: str) -> None:
    one, other = await data.contact(), await data.contact()
    await data.address(one, kind, "same")
    await data.address(other, kind, "same", is_proved=False)
    with pytest.raises(asyncpg.UniqueViolationError, match="contact_address_owner"):
        await data.address(await data.contact(), kind, "same")
    await data.execute("update contact_address set removed_at = now() where contact_id = $1", one)
    await data.execute("update contact_address set is_proved = true where contact_id = $1", other)


@pytest.mark.parametrize("kind", ["username", "parent_user_id"])
async def test_b8_names_and_parent_ids_may_be_shared(data: Data, kind: str) -> None:
    for _ in range(2):
        await data.address(await data.contact(), kind, "same")


async def test_b8_a_contact_has_an_address_once(data: Data) -> None:
    contact = await data.contact()
    await data.address(contact, "username", "same")
    with pytest.raises(asyncpg.UniqueViolationError, match="contact_address_once"):
        await data.address(contact, "username", "same")


async def test_b8_one_conversation_per_channel_medium_and_customer(data: Data) -> None:
    made = await data.conversation()
    await data.conversation(channel_id=made["channel_id"], contact_id=made["contact_id"], medium="sms")
    await data.conversation(channel_id=made["channel_id"])
    await data.conversation(contact_id=made["contact_id"])
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.conversation(channel_id=made["channel_id"], contact_id=made["contact_id"])


async def test_b6_a_sequence_number_is_given_once_in_a_conversation(data: Data) -> None:
    one, other = await data.conversation(), await data.conversation()
    await data.message(one, sequence=7)
    await data.message(other, sequence=7)
    with pytest.raises(asyncpg.UniqueViolationError, match="message_timeline"):
        await data.message(one, sequence=7)


async def test_e7_a_provider_s_id_names_one_outbound_message(data: Data) -> None:
    conversation, service = await data.conversation(), await data.service()
    sent = {"direction": "outbound", "status": "sent", "origin": "agent", "author_service_id": service}
    await data.message(conversation, sequence=1, provider_id="wamid.1", **sent)
    await data.message(conversation, sequence=2, provider_id="wamid.1", provider="twilio", **sent)
    await data.message(conversation, sequence=3, provider_id="wamid.1")
    with pytest.raises(asyncpg.UniqueViolationError, match="message_sent_as"):
        await data.message(conversation, sequence=4, provider_id="wamid.1", **sent)


@pytest.mark.parametrize(
    "values",
    [
        {"status": "sent"},
        {"direction": "outbound"},
        {"direction": "outbound", "status": "lost", "origin": "echo"},
        {"direction": "outbound", "status": "queued", "origin": "agent"},
        {"direction": "sideways"},
        {"origin": "robot"},
    ],
)
async def test_e1_e7_what_a_message_may_be(data: Data, values: dict[str, Any]) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await data.message(await data.conversation(), **values)


async def test_e7_a_report_is_kept_once(data: Data) -> None:
    message = await data.message(await data.conversation())
    await data.insert("message_status", message_id=message, reported="read", status="read")
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.insert("message_status", message_id=message, reported="read", status="read")


async def test_e9_a_message_waits_once(data: Data) -> None:
    conversation = await data.conversation()
    sender = await data.insert(
        "sender", number_id=conversation["number_id"], medium="sms", provider="twilio", external_id="+1"
    )
    waiting = {"sender_id": sender["id"], "conversation_id": conversation["id"], "priority": 0}
    one = await data.message(conversation, sequence=1)
    await data.insert("outbox", message_id=one, sequence=1, **waiting)
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.insert("outbox", message_id=one, sequence=2, **waiting)
    await data.insert("schedule", message_id=one, due_at=datetime.now(UTC), **waiting)
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.insert("schedule", message_id=one, due_at=datetime.now(UTC), **waiting)


async def test_e6_an_idempotency_key_is_claimed_once(data: Data) -> None:
    service = await data.service()
    key = {"service_id": service, "route": "/v1/x", "key": "k", "body_hash": b"1"}
    await data.insert("idempotency_key", **key)
    await data.insert("idempotency_key", **{**key, "route": "/v1/y"})
    await data.insert("idempotency_key", **{**key, "service_id": await data.service()})
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.insert("idempotency_key", **key)


async def test_b4_an_item_is_taken_in_once(data: Data) -> None:
    await data.insert("inbound_key", key=b"0123456789abcdef")
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.insert("inbound_key", key=b"0123456789abcdef")


async def test_b5_a_quarantined_item_is_kept_once(data: Data) -> None:
    entry = {"item_key": b"1", "provider": "meta", "path": "/", "reason": "x", "detail": "", "raw": b""}
    await data.insert("quarantine", **entry)
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.insert("quarantine", **entry)
    with pytest.raises(asyncpg.CheckViolationError):
        await data.insert("quarantine", **{**entry, "item_key": b"2", "state": "lost"})


async def test_h3_a_key_s_hash_belongs_to_one_service(data: Data) -> None:
    await data.insert("api_key", id=new_id(), service_id=await data.service(), secret_hash=b"h", hint="abcd")
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.insert("api_key", id=new_id(), service_id=await data.service(), secret_hash=b"h", hint="abcd")


async def test_b8_a_pair_of_contacts_is_a_candidate_once_in_one_order(data: Data) -> None:
    low, high = sorted([await data.contact(), await data.contact()])
    pair = {"contact_id": low, "other_contact_id": high, "reason": "x"}
    await data.insert("merge_candidate", id=new_id(), **pair)
    with pytest.raises(asyncpg.UniqueViolationError, match="merge_candidate_open"):
        await data.insert("merge_candidate", id=new_id(), **pair)
    with pytest.raises(asyncpg.CheckViolationError):
        await data.insert("merge_candidate", id=new_id(), contact_id=high, other_contact_id=low, reason="x")


async def test_g2_a_cursor_per_subscription_and_shard(data: Data) -> None:
    made = await data.subscription(await data.channel(), await data.service())
    await data.insert("cursor", subscription_id=made, shard=3, position=0)
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.insert("cursor", subscription_id=made, shard=3, position=1)


async def test_g3_an_event_is_given_up_once_per_subscription(data: Data) -> None:
    made = await data.subscription(await data.channel(), await data.service())
    await data.insert("dead_letter", subscription_id=made, event_id=1, attempts=10)
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.insert("dead_letter", subscription_id=made, event_id=1, attempts=10)


async def test_an_event_has_one_place_in_one_of_64_shards(data: Data) -> None:
    event = {"id": 5, "shard": 1, "prev_id": 0, "type": "x", "data": "{}"}
    columns = {**event, "created_at": await data.conn.fetchval("select now()")}
    await data.insert("event", **columns)
    with pytest.raises(asyncpg.UniqueViolationError):
        await data.insert("event", **columns)
    for shard in (-1, 64):
        with pytest.raises(asyncpg.CheckViolationError):
            await data.insert("event", **{**columns, "id": 6, "shard": shard})


async def test_there_is_a_lease_for_every_shard(data: Data) -> None:
    assert await data.conn.fetchval("select array_agg(shard order by shard) from shard_lease") == list(range(64))


async def test_what_is_referred_to_exists(data: Data) -> None:
    for attempt in (
        data.channel(number_id=10**9),
        data.subscription(uuid4(), await data.service()),
        data.subscription(await data.channel(), uuid4()),
        data.address(uuid4(), "phone", "+1"),
        data.conversation(contact_id=uuid4()),
        data.conversation(channel_id=uuid4()),
        data.conversation(number_id=10**9, channel_id=await data.channel()),
    ):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await attempt
