"""Every sender has a rate; within it agents go before automation, and one sender delays no other (rule E9)."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hub.store import outbox
from hub.workers import sender
from providers.simulator import Customer, Fault, Person
from tests.support.talk import MIA, automates, writes
from tests.support.wire import ask, connected, until
from tests.support.world import NUMBER, Answer, Service, World, world

Open = Callable[..., Awaitable[World]]
SMS = {"provider": "twilio", "medium": "sms"}


class Clock:
    """The sender's clock, which stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(sender, "monotonic", made)
    monkeypatch.setattr(sender, "_SURE", inf)  # half a minute that passes at once is no process that stood still
    return made


@pytest.fixture
async def slow(clock: Clock, database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A hub whose SMS senders may send one message a second."""
    async with world(database_url, tmp_path, sms_rate=1.0) as made:
        yield made


async def talks(made: World, service: Service, count: int) -> tuple[list[str], list[Customer]]:
    """So many customers who wrote by SMS: their conversations, and they."""
    people = [made.customer(Person(f"+4915100000{n:03d}"), **SMS) for n in range(count)]
    return [await writes(one, service, text=f"I am {n}") for n, one in enumerate(people)], people


def message_id(answer: Answer) -> str:
    assert answer.status == 202, answer
    return str(answer.json["message"]["id"])


def texts(made: World) -> list[str | None]:
    return [send.text for send in made.simulator.sent]


async def sends(made: World, count: int) -> list[str | None]:
    """Wait until so many were sent."""
    await made.simulator.wait_for(lambda: len(made.simulator.sent) >= count)
    return texts(made)


async def test_e9_a_rate_lets_agents_before_automation(slow: World, clock: Clock) -> None:
    (helpdesk,) = await slow.connected("helpdesk")
    conversations, _ = await talks(slow, helpdesk, 6)
    message_id(await helpdesk.reply(conversations[0], "the token"))
    assert await sends(slow, 1) == ["the token"]
    for n in (1, 2, 3):
        message_id(await automates(helpdesk, conversations[n], f"bot {n}"))
    message_id(await helpdesk.reply(conversations[3], "agent behind bot 3"))
    message_id(await helpdesk.reply(conversations[5], "agent"))
    order = ["the token", "bot 3", "agent behind bot 3", "agent", "bot 1", "bot 2"]
    for count in range(2, 7):
        clock.now += 1
        assert await sends(slow, count) == order[:count]


async def test_e9_a_sender_has_a_rate_of_its_own(slow: World, clock: Clock, database_url: str) -> None:
    await ask(database_url, "update sender set rate = 3 where medium = 'sms'")
    (helpdesk,) = await slow.connected("helpdesk")
    conversations, _ = await talks(slow, helpdesk, 8)
    for n, conversation in enumerate(conversations):
        message_id(await helpdesk.reply(conversation, f"reply {n}"))
    await sends(slow, 3)
    await fence(slow, helpdesk)
    assert len(slow.simulator.sent) == 4
    clock.now += 1
    await sends(slow, 7)
    await fence(slow, helpdesk, "again")
    assert {text for text in texts(slow) if text and text.startswith("reply")} == {f"reply {n}" for n in range(6)}


async def fence(made: World, service: Service, text: str = "fence") -> None:
    """Something goes out on WhatsApp: the sender has looked at all that was queued before."""
    customer = made.customer(MIA)
    conversation = await writes(customer, service, text=f"for the {text}")
    message_id(await service.reply(conversation, text))
    await made.simulator.wait_for(lambda: text in texts(made))


async def test_e9_what_is_refused_at_the_claim_takes_no_token(slow: World, clock: Clock, database_url: str) -> None:
    (helpdesk,) = await slow.connected("helpdesk")
    conversations, _ = await talks(slow, helpdesk, 4)
    message_id(await helpdesk.reply(conversations[0], "the token"))
    await sends(slow, 1)
    for conversation in conversations[:3]:
        message_id(await helpdesk.reply(conversation, "an hour old"))
    message_id(await helpdesk.reply(conversations[3], "new"))
    old = "update message set created_at = now() - interval '61 minutes' where content like '%an hour old%'"
    await ask(database_url, old)
    clock.now += 1
    assert await sends(slow, 2) == ["the token", "new"]
    await until(lambda: ask(database_url, "select count(*) = 0 from outbox"))


async def test_e9_a_throttled_sender_waits_as_a_whole_and_no_other_does(
    slow: World, clock: Clock, database_url: str
) -> None:
    (helpdesk,) = await slow.connected("helpdesk")
    conversations, _ = await talks(slow, helpdesk, 2)
    slow.simulator.fail_next(Fault.throttled(retry_after=30))
    message_id(await helpdesk.reply(conversations[0], "throttled"))
    await until(lambda: ask(database_url, "select true from outbox where attempts = 1 and claimed_by is null"))
    clock.now += 1  # a token, if it were for that
    await fence(slow, helpdesk, "one")
    message_id(await helpdesk.reply(conversations[1], "behind"))
    await fence(slow, helpdesk, "two")
    assert texts(slow) == ["one", "two"]
    clock.now += 30
    assert await sends(slow, 3) == ["one", "two", "behind"]
    await until(lambda: ask(database_url, "select count(*) = 1 from outbox"))  # the first waits for itself, too


FILL_SQL = """
with made as (
    select gen_random_uuid() as id, gen_random_uuid() as conversation
    from generate_series(1, $2::integer)), stored as (
    insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin,
                         content, provider, status)
    select id, 1, id, conversation, 1, 'outbound', 'sms', 'text', 'echo', '{}', 'twilio', 'queued' from made)
insert into outbox (message_id, sender_id, conversation_id, sequence, priority)
select id, $1, conversation, 1, 2 from made"""


async def test_e9_ten_thousand_of_a_campaign_delay_an_agent_by_one_token(
    slow: World, clock: Clock, database_url: str
) -> None:
    (helpdesk,) = await slow.connected("helpdesk")
    conversations, customers = await talks(slow, helpdesk, 2)
    message_id(await helpdesk.reply(conversations[0], "the token"))
    await sends(slow, 1)
    own = "select s.id from sender s join number n on n.id = s.number_id where n.e164 = $1 and s.medium = 'sms'"
    await ask(database_url, FILL_SQL, await ask(database_url, own, NUMBER), 10_000)
    message_id(await helpdesk.reply(conversations[1], "agent"))
    await fence(slow, helpdesk)
    assert texts(slow) == ["the token", "fence"]
    clock.now += 1
    assert await sends(slow, 3) == ["the token", "fence", "agent"]
    assert (await customers[1].hears()).text == "agent"


# The look at the queue ----------------------------------------------------------------------------------------------


async def sender_of(conn: Any, number: str) -> int:
    made = await conn.fetchval("insert into number (e164) values ($1) returning id", number)
    added = (
        "insert into sender (number_id, medium, provider, external_id) values ($1, 'sms', 'twilio', $2) returning id"
    )
    return int(await conn.fetchval(added, made, number))


async def test_e9_a_long_queue_that_may_not_go_costs_nothing(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty thousand wait for a sender without tokens; what others have is found without walking them."""
    async with connected(database_url) as conn:
        full, other = await sender_of(conn, "+15550009991"), await sender_of(conn, "+15550009992")
        await conn.execute(FILL_SQL, full, 20_000)
        await conn.execute(FILL_SQL, other, 30)
        await outbox.walk_indexes(conn)
        for waiting, found in (([], 20), ([full], 20), ([full, other], 0)):
            assert len(await outbox.list_heads(conn, 20, waiting)) == found
            assert await pages(conn, waiting) < 700  # some for each of the heads, none for what waits behind them
        started = time.perf_counter()
        await outbox.list_heads(conn, 20, [full])
        with capsys.disabled():
            sys.stdout.write(f"\na look past 20,000: {(time.perf_counter() - started) * 1000:.1f} ms\n")
        rows = await outbox.list_heads(conn, 100, [full])
        assert {row["sender_id"] for row in rows} == {other}


async def pages(conn: Any, waiting: list[int]) -> int:
    """How many pages one look reads."""
    (plan,) = json.loads(await conn.fetchval(f"explain (analyze, buffers, format json) {_bound(waiting)}"))
    top = plan["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


def _bound(waiting: list[int]) -> str:
    ids = ", ".join(map(str, waiting))
    sql = outbox.LIST_HEADS_SQL.replace("$2::bigint[]", f"array[{ids}]::bigint[]")
    return sql.replace("$3::uuid[]", "array[]::uuid[]").replace("$1", "20")


async def test_e9_a_provider_that_is_silent_keeps_no_other_waiting(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meta takes connections and never answers: there are slots left for what goes by SMS."""
    monkeypatch.setattr(sender, "GRACE", 0.0)
    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, world(database_url, tmp_path, meta_api_url=url, send_concurrency=4, send_timeout=60) as made:
        (helpdesk,) = await made.connected("helpdesk")
        for n in range(6):
            person = made.customer(Person(f"+4916100000{n:03d}"))
            message_id(await automates(helpdesk, await writes(person, helpdesk, text=f"I am {n}"), "Hi"))
        await until(lambda: len(held) == 3)
        conversation = await writes(made.customer(MIA, **SMS), helpdesk)
        answer = await helpdesk.reply(conversation, "by SMS", query="?wait=10")
        assert answer.json["message"]["provider_id"]
        assert len(held) == 3
        for writer in held:
            writer.close()


async def test_e9_a_head_of_another_sender_s_waits_with_it(database_url: str) -> None:
    """The number got another sender while its messages waited: who is at the head decides whose token it takes."""
    async with connected(database_url) as conn:
        old, new = await sender_of(conn, "+15550009991"), await sender_of(conn, "+15550009992")
        await conn.execute(FILL_SQL, old, 1)
        head, conversation = await conn.fetchrow("select message_id, conversation_id from outbox")
        await conn.execute(FILL_SQL, new, 1)
        behind = await conn.fetchval("select message_id from outbox where message_id <> $1", head)
        await conn.execute("update outbox set priority = 0, conversation_id = $2, sequence = 2 where message_id = $1",
                           behind, conversation)  # fmt: skip
        assert await heads(conn) == [head]
        assert await heads(conn, old) == []
        await outbox.finish(conn, head)
        assert await heads(conn, old) == [behind]
        assert await heads(conn, new) == []


async def heads(conn: Any, *waiting: int) -> list[UUID]:
    return [row["message_id"] for row in await outbox.list_heads(conn, 20, waiting)]
