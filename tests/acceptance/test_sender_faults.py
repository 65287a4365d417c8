"""Sending while the database goes, another process takes over, one asks for hours, the queue is long (E8, E9)."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import pytest

from hub.app import running
from hub.domain import throttling
from hub.domain.ids import new_id
from hub.store import leases, outbox
from hub.store.pool import Database, Dedicated
from hub.workers import asker, leftovers, sender
from providers.simulator import Fault, StatusPlan
from tests.support.cut import Line, line_to
from tests.support.talk import MIA, ends, writes
from tests.support.wire import ask, connected, until
from tests.support.world import NUMBER, Answer, Service, World, settings_for, world

FAULTS = {"sent": None, "refused": Fault.refused(131026), "not taken": Fault.throttled()}


@dataclass
class Frail:
    """A hub whose line to the database can be cut while a message is with the provider."""

    world: World
    line: Line
    url: str
    helpdesk: Service
    conversation: str

    async def hands_over(self, fault: Fault | None) -> str:
        """A reply that is with the provider, which will answer so; gives its id."""
        simulator = self.world.simulator
        simulator.status_plan = StatusPlan.none()
        if fault:
            simulator.fail_next(fault)
        simulator.hold()
        name = message_id(await self.helpdesk.reply(self.conversation, "Hi"))
        await simulator.wait_for(lambda: simulator.in_flight == 1)
        return name

    async def answers(self) -> None:
        """Let the provider answer, and the answer arrive."""
        self.world.simulator.release()
        await self.world.simulator.wait_for(lambda: self.world.simulator.in_flight == 0)

    async def is_unknown(self, name: str) -> bool:
        return bool(await ask(self.url, "select status = 'unknown' from message where id = $1", uuid_of(name)))


@pytest.fixture
async def frail(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owners: "Owners"
) -> AsyncIterator[Frail]:
    monkeypatch.setattr(throttling, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(sender, "GRACE", 0.0)
    async with AsyncExitStack() as stack:
        url, line = await stack.enter_async_context(line_to(database_url))
        made = await stack.enter_async_context(world(url, tmp_path))
        (helpdesk,) = await made.connected("helpdesk")
        conversation = await writes(made.customer(MIA), helpdesk)
        yield Frail(made, line, database_url, helpdesk, conversation)
        await line.up()


@dataclass
class Owners:
    """How often a loop of this process has asked for a connection of its own."""

    asked: int = 0

    async def more(self) -> None:
        """Wait until all that lost theirs have asked again."""
        before = self.asked
        await until(lambda: self.asked >= before + 4)


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> Owners:
    made, real = Owners(), Database.dedicated

    async def dedicated(self: Database) -> Dedicated:
        made.asked += 1
        return await real(self)

    monkeypatch.setattr(Database, "dedicated", dedicated)
    return made


def message_id(answer: Answer) -> str:
    assert answer.status == 202, answer
    return str(answer.json["message"]["id"])


def uuid_of(name: str) -> UUID:
    return UUID(name.removeprefix("msg_"))


async def is_settled(frail: Frail, name: str, fault: str) -> None:
    """The message ended as the provider said, handed over no more often than it takes."""
    if fault == "refused":
        await until(lambda: ask(frail.url, "select true from message where status = 'failed'"))
    else:
        provider_id = await until(lambda: ask(frail.url, PROVIDER_ID_SQL, uuid_of(name)))
        assert [send.provider_id for send in frail.world.simulator.sent] == [provider_id]
    assert len(frail.world.simulator.sent) == (fault != "refused")
    assert len(frail.world.simulator.attempts) == (2 if fault == "not taken" else 1)
    await until(lambda: is_empty(frail.url))


PROVIDER_ID_SQL = "select provider_id from message where id = $1"


async def is_empty(url: str) -> bool:
    return bool(await ask(url, "select count(*) = 0 from outbox"))


# The database goes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
async def test_e8_an_outcome_outlives_a_long_outage(frail: Frail, owners: Owners, fault: str) -> None:
    name = await frail.hands_over(FAULTS[fault])
    await frail.line.down()
    await owners.more()  # every loop has noticed
    await frail.answers()
    await owners.more()
    await frail.line.up()
    await is_settled(frail, name, fault)
    assert "unknown" not in (await frail.helpdesk.call("GET", f"/v1/messages/{name}")).json["status_times"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_e8_an_outcome_counts_although_another_process_took_over(
    frail: Frail, tmp_path: Path, fault: str
) -> None:
    """The other one cannot know, and holds it as unknown; the first one comes back with what it knows."""
    name = await frail.hands_over(FAULTS[fault])
    await frail.line.down()
    async with running(settings_for(frail.world.simulator, frail.url, tmp_path / "other", roles=("sender",))):
        await until(lambda: frail.is_unknown(name))
        await frail.answers()
        await frail.line.up()
        await is_settled(frail, name, fault)
        frail.world.simulator.status_plan = StatusPlan()
        after = message_id(await frail.helpdesk.reply(frail.conversation, "after"))
        await ends(frail.helpdesk, after, "read")


async def test_e8_a_retry_that_comes_after_its_hold_is_a_failure(frail: Frail, tmp_path: Path) -> None:
    """The conversation went on meanwhile (E9): it is told that it was not taken, and never sent."""
    name = await frail.hands_over(FAULTS["not taken"])
    await frail.line.down()
    async with running(settings_for(frail.world.simulator, frail.url, tmp_path / "other", roles=("sender",))):
        await until(lambda: frail.is_unknown(name))
        await ask(frail.url, "update outbox set held_until = now() - interval '1 second'")
        await until(lambda: is_empty(frail.url))
        await frail.answers()
        await frail.line.up()
        assert (await ends(frail.helpdesk, name, "failed"))["error"]["code"] == "throttled"
    assert len(frail.world.simulator.attempts) == 1


@pytest.mark.parametrize("loss", ["noticed", "not noticed yet"])
async def test_e8_who_lost_the_queue_hands_nothing_over(
    hub_world: World, database_url: str, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """It had claimed the message just before: that goes back, and is claimed again. A process that stood still does not
    know that it has lost it, only that it has not asked for long."""
    (helpdesk,) = await hub_world.connected("helpdesk")
    conversation = await writes(hub_world.customer(MIA), helpdesk)
    real, claims = sender.Sender._claim, []

    async def claim(self: sender.Sender, head: Any) -> Any:
        claims.append(await real(self, head))
        if len(claims) == 1 and loss == "not noticed yet":
            self._confirmed -= 11
        elif len(claims) == 1:
            await ask(database_url, END_OWNER_SQL)
            await until(lambda: ask(database_url, f"select exists ({OWNER_SQL})"))  # it owns the queue anew
        return claims[-1]

    monkeypatch.setattr(sender.Sender, "_claim", claim)
    name = message_id(await helpdesk.reply(conversation, "Hi"))
    await ends(helpdesk, name, "read")
    assert [made.attempts for made in claims] == [1, 2]
    assert len(hub_world.simulator.attempts) == 1


OWNER_SQL = """
select pid from pg_locks where locktype = 'advisory' and classid = 7003 and objid = 2 and granted
   and database = (select oid from pg_database where datname = current_database())"""
END_OWNER_SQL = f"select pg_terminate_backend(pid, 5000) from ({OWNER_SQL}) o"


async def test_e8_a_process_that_stands_still_keeps_nobody_waiting(
    hub_world: World, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is open and it says nothing: another one sends, and it goes on as one that lost the queue."""
    (helpdesk,) = await hub_world.connected("helpdesk")
    conversation = await writes(hub_world.customer(MIA), helpdesk)
    moving, still, real = asyncio.Event(), asyncio.Event(), leases.confirm

    async def confirm(conn: Any) -> None:
        if not moving.is_set() and not still.is_set():
            still.set()
            await moving.wait()
        await real(conn)

    monkeypatch.setattr(sender, "SILENCE", 0.5)
    await ask(database_url, END_OWNER_SQL)  # who owns it from now on is given up after half a second
    monkeypatch.setattr(leases, "confirm", confirm)
    await still.wait()
    name = message_id(await helpdesk.reply(conversation, "Hi"))
    async with running(settings_for(hub_world.simulator, database_url, tmp_path / "other", roles=("sender",))):
        await ends(helpdesk, name, "read")
        moving.set()
    await ends(helpdesk, message_id(await helpdesk.reply(conversation, "after")), "read")
    assert [send.text for send in hub_world.simulator.sent] == ["Hi", "after"]


async def test_e8_what_somebody_claimed_who_owns_nothing_does_not_wait_forever(
    hub_world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did not know yet that it had lost the queue, claimed a message, and was killed."""
    monkeypatch.setattr(leftovers, "ORPHANED", 0.2)
    await ask(database_url, END_OWNER_SQL)
    (helpdesk,) = await hub_world.connected("helpdesk")
    conversation = await writes(hub_world.customer(MIA), helpdesk)
    hub_world.simulator.hold()
    message_id(await helpdesk.reply(conversation, "with the provider"))
    await hub_world.simulator.wait_for(lambda: hub_world.simulator.in_flight == 1)
    name = message_id(await helpdesk.reply(conversation, "claimed"))
    await ask(
        database_url,
        "update outbox set claimed_by = $2, claimed_at = now(), attempts = 1 where message_id = $1",
        uuid_of(name),
        uuid4(),
    )
    await ends(helpdesk, name, "unknown")
    hub_world.simulator.release()
    assert len(hub_world.simulator.attempts) == 1


async def test_e8_a_send_that_ends_while_claims_are_looked_through_is_not_sent_again(
    hub_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look saw it claimed; then its outcome was recorded as unknown. Nobody works on it, and it is not lost."""
    (helpdesk,) = await hub_world.connected("helpdesk")
    conversation = await writes(hub_world.customer(MIA), helpdesk)
    simulator, landed, looks = hub_world.simulator, asyncio.Event(), 0
    real_look, real_landed = outbox.list_claimed, sender.Sender._landed

    async def list_claimed(conn: Any, owner: UUID) -> Any:
        nonlocal looks
        rows = await real_look(conn, owner)
        looks += landed.is_set()
        if rows and simulator.in_flight:
            simulator.release()
            await landed.wait()
        return rows

    def has_landed(self: sender.Sender, *flight: Any) -> None:
        real_landed(self, *flight)
        landed.set()

    monkeypatch.setattr(sender.Sender, "_landed", has_landed)
    simulator.status_plan = StatusPlan.none()
    simulator.fail_next(Fault.dropped(taken=True))
    simulator.hold()
    name = message_id(await helpdesk.reply(conversation, "perhaps"))
    await simulator.wait_for(lambda: simulator.in_flight == 1)
    monkeypatch.setattr(outbox, "list_claimed", list_claimed)
    await ends(helpdesk, name, "unknown")
    await until(lambda: looks > 3)
    assert len(simulator.attempts) == 1


# When to try again --------------------------------------------------------------------------------------------------


@pytest.fixture
def not_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A throttled sender stands still, and these tests let time pass in the database only."""
    monkeypatch.setattr(throttling, "LONGEST_PAUSE", 0.0)


@pytest.mark.usefixtures("not_paused")
async def test_e8_a_retry_waits_five_minutes_at_most_and_expires(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    conversation = await writes(hub_world.customer(MIA), helpdesk)
    hub_world.simulator.fail_next(Fault.throttled(retry_after=7200))
    name = message_id(await helpdesk.reply(conversation, "Hi"))
    wait = "select extract(epoch from not_before - now())::float from outbox where attempts = 1 and claimed_by is null"
    seconds = await until(lambda: ask(database_url, wait))
    assert 200 < seconds <= 300
    await ask(
        database_url, "update message set created_at = now() - interval '61 minutes' where direction = 'outbound'"
    )
    await ask(database_url, "update outbox set not_before = now()")
    assert (await ends(helpdesk, name, "failed"))["error"]["code"] == "expired"
    assert len(hub_world.simulator.attempts) == 1


@pytest.mark.usefixtures("not_paused")
async def test_e8_what_the_provider_has_after_all_is_not_sent_again(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    conversation = await writes(hub_world.customer(MIA), helpdesk)
    hub_world.simulator.fail_next(Fault.throttled(retry_after=60))
    await helpdesk.reply(conversation, "Hi")
    await until(lambda: ask(database_url, "select true from outbox where not_before > now() + interval '30 seconds'"))
    await ask(database_url, "update message set status = 'delivered' where direction = 'outbound'")
    await ask(database_url, "update outbox set not_before = now()")
    await until(lambda: is_empty(database_url))
    assert len(hub_world.simulator.attempts) == 1


# Asking the provider ------------------------------------------------------------------------------------------------

OFTEN = tuple(step / 5 for step in range(100))
MIA_BY_SMS = {"provider": "twilio", "medium": "sms"}


@dataclass
class Asked:
    """A conversation by SMS whose provider is asked at once, and what came of asking."""

    world: World
    url: str
    helpdesk: Service
    conversation: str
    outcomes: list[str] = field(default_factory=list)

    async def loses(self, fault: Fault, text: str = "lost?", *, status: str | None = None) -> str:
        """A reply whose outcome is unknown; gives its id. Twilio's list says of it what `status` says."""
        simulator = self.world.simulator
        simulator.fail_next(fault)
        name = message_id(await self.helpdesk.reply(self.conversation, text))
        if status:
            await simulator.wait_for(lambda: any(send.hub_id == name for send in simulator.sent))
            simulator.twilio_api.set_status(simulator.sent[-1].provider_id, status, None)
        await ends(self.helpdesk, name, "unknown")
        return name

    async def view(self, name: str) -> dict[str, Any]:
        return dict((await self.helpdesk.call("GET", f"/v1/messages/{name}")).json)

    async def sends_past_the_hub(self, text: str) -> str:
        """Twilio takes the same from somebody else; gives its id there."""
        simulator = self.world.simulator
        auth = aiohttp.encode_basic_auth(simulator.twilio_account_sid, simulator.twilio_auth_token)
        path = f"{simulator.url}/2010-04-01/Accounts/{simulator.twilio_account_sid}/Messages.json"
        form = {"To": MIA.phone, "From": NUMBER, "Body": text}
        async with self.world.session.post(path, data=form, headers={"Authorization": auth}) as answer:
            assert answer.status == 201
            return str((await answer.json())["sid"])


@pytest.fixture
async def asked(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asked]:
    monkeypatch.setattr(asker, "ASK_AFTER", OFTEN)
    monkeypatch.setattr(asker, "_LOOK", 0.05)
    async with world(database_url, tmp_path, send_timeout=0.5) as made:
        (helpdesk,) = await made.connected("helpdesk")
        conversation = await writes(made.customer(MIA, **MIA_BY_SMS), helpdesk)
        made.simulator.status_plan = StatusPlan.none()
        one, real = Asked(made, database_url, helpdesk, conversation), asker.settle_unknown

        async def settle_unknown(*arguments: Any) -> Any:
            settled = await real(*arguments)
            one.outcomes.append(settled.outcome)
            return settled

        monkeypatch.setattr(asker, "settle_unknown", settle_unknown)
        yield one


@pytest.mark.parametrize("fault", [Fault.silent(taken=True), Fault.dropped(taken=True)], ids=["silent", "dropped"])
async def test_e8_twilio_is_asked_what_became_of_an_unknown(asked: Asked, fault: Fault) -> None:
    """No callback comes: what Twilio lists settles it, and frees its conversation."""
    name = await asked.loses(fault)  # Twilio has it queued
    await until(lambda: "settled" in asked.outcomes)
    (taken,) = asked.world.simulator.sent
    view = await asked.view(name)
    assert (view["status"], view["provider_id"]) == ("sending", taken.provider_id)
    after = await asked.helpdesk.reply(asked.conversation, "after", query="?wait=5")
    assert after.json["message"]["provider_id"]
    await asked.world.simulator.report(taken, "delivered")
    settled = await ends(asked.helpdesk, name, "delivered")
    assert set(settled["status_times"]) == {"queued", "sending", "unknown", "delivered"}
    assert [send.text for send in asked.world.simulator.sent] == ["lost?", "after"]
    assert len(asked.world.simulator.attempts) == 2


async def test_e8_what_twilio_refused_later_is_told(asked: Asked) -> None:
    asked.world.simulator.fail_next_asked(Fault.unavailable())  # one ask goes wrong: there is another
    failed = await ends(asked.helpdesk, await asked.loses(Fault.silent(taken=True), status="undelivered"), "failed")
    assert set(failed["status_times"]) == {"queued", "sending", "unknown", "failed"}
    assert (await asked.view(failed["id"]))["provider_id"] == asked.world.simulator.sent[0].provider_id


@pytest.mark.parametrize("is_parked", [False, True], ids=["listed", "parked"])
async def test_e5_an_opt_out_that_is_learned_by_asking_counts(asked: Asked, is_parked: bool) -> None:
    """As it does in an answer or in a callback; or it was parked until asking told whose it is."""
    simulator = asked.world.simulator
    simulator.fail_next(Fault.silent(taken=True))
    name = message_id(await asked.helpdesk.reply(asked.conversation, "lost?"))
    await simulator.wait_for(lambda: bool(simulator.sent))
    sid = simulator.sent[0].provider_id
    if is_parked:
        await ask(asked.url, PARK_SQL, sid, '{"errors": [{"code": "opted_out", "provider_code": "21610"}]}')
    else:
        simulator.twilio_api.set_status(sid, "undelivered", 21610)
    await ends(asked.helpdesk, name, "failed")
    await asked.helpdesk.endpoint.wait(lambda me: bool(me.of("consent.changed")))
    (told,) = [d.data for d in asked.helpdesk.endpoint.of("consent.changed")]
    assert (told["consent"]["status"], told["consent"]["source"]) == ("revoked", "provider")
    refused = await asked.helpdesk.reply(asked.conversation, "more")
    assert (refused.status, refused.json["code"]) == (409, "no_consent")


PARK_SQL = """
insert into orphan_status (provider, provider_id, status, reported, details)
values ('twilio', $1, 'failed', 'undelivered', $2)"""


async def test_e8_what_twilio_never_had_stays_unknown(asked: Asked) -> None:
    """Neither is the message before, which says the same, taken for it."""
    first = message_id(await asked.helpdesk.reply(asked.conversation, "lost?", query="?wait=5"))
    assert (await asked.view(first))["provider_id"]
    name = await asked.loses(Fault.dropped(taken=False))
    await until(lambda: len(asked.outcomes) >= 3)
    assert set(asked.outcomes) == {"none"}
    view = await asked.view(name)
    assert (view["status"], view["provider_id"]) == ("unknown", None)
    assert len(asked.world.simulator.attempts) == 2


async def test_e8_two_that_fit_count_for_nothing(asked: Asked) -> None:
    await asked.sends_past_the_hub("lost?")
    name = await asked.loses(Fault.dropped(taken=True))
    await until(lambda: len(asked.outcomes) >= 3)
    assert set(asked.outcomes) == {"several"}
    assert (await asked.view(name))["provider_id"] is None


async def test_e8_meta_cannot_be_asked(asked: Asked) -> None:
    conversation = await writes(asked.world.customer(MIA), asked.helpdesk, text="by WhatsApp")
    asked.world.simulator.fail_next(Fault.dropped(taken=True))
    name = message_id(await asked.helpdesk.reply(conversation, "lost?"))
    await ends(asked.helpdesk, name, "unknown")
    await ends(asked.helpdesk, await asked.loses(Fault.silent(taken=True), status="delivered"), "delivered")
    assert (await asked.view(name))["status"] == "unknown"


async def test_e8_an_unknown_of_a_dead_process_is_asked_about(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had handed the message over and died: the next one asks, and sends nothing twice."""
    monkeypatch.setattr(asker, "ASK_AFTER", OFTEN)
    async with world(database_url, tmp_path, roles=("gateway", "fanout")) as made:
        (helpdesk,) = await made.connected("helpdesk")
        conversation = await writes(made.customer(MIA, **MIA_BY_SMS), helpdesk)
        name = message_id(await helpdesk.reply(conversation, "lost?"))
        sid = await Asked(made, database_url, helpdesk, conversation).sends_past_the_hub("lost?")
        made.simulator.twilio_api.set_status(sid, "delivered", None)
        attempts = len(made.simulator.attempts)
        async with connected(database_url) as conn:
            await conn.execute("update outbox set claimed_by = $1, claimed_at = now(), attempts = 1", uuid4())
            await conn.execute("update message set status = 'sending' where id = $1", uuid_of(name))
            await conn.execute(
                "insert into message_status (message_id, reported, status) values ($1, 'sending', 'sending')",
                uuid_of(name),
            )
        async with running(settings_for(made.simulator, database_url, tmp_path, roles=("sender",))):
            await ends(helpdesk, name, "delivered")
            await until(lambda: is_empty(database_url))
        assert (await helpdesk.call("GET", f"/v1/messages/{name}")).json["provider_id"] == sid
        assert len(made.simulator.attempts) == attempts


async def test_e8_who_takes_over_after_the_hold_asks_all_the_same(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its conversation went on meanwhile. Each is asked about once, and what is older than ten minutes not at all."""
    asks: list[UUID] = []
    looks: list[int] = []
    async with world(database_url, tmp_path, roles=("gateway", "fanout")) as made:
        (helpdesk,) = await made.connected("helpdesk")
        conversation = await writes(made.customer(MIA, **MIA_BY_SMS), helpdesk)
        names = {}
        for age in (200, 400, 700):
            names[age] = uuid_of(message_id(await helpdesk.reply(conversation, f"{age} seconds ago")))
            await ask(database_url, UNKNOWN_SINCE_SQL, names[age], age)
        await ask(database_url, "delete from outbox")
        settle, list_unknown = asker.settle_unknown, outbox.list_unknown

        async def settle_unknown(*arguments: Any) -> Any:
            asks.append(arguments[1])
            return await settle(*arguments)

        async def counted(*arguments: Any) -> Any:
            looks.append(len(asks))
            return await list_unknown(*arguments)

        monkeypatch.setattr(asker, "settle_unknown", settle_unknown)
        monkeypatch.setattr(outbox, "list_unknown", counted)
        monkeypatch.setattr(asker, "_LOOK", 0.05)
        async with running(settings_for(made.simulator, database_url, tmp_path, roles=("sender",))):
            await until(lambda: looks.count(2) > 3)
        assert sorted(asks) == [names[200], names[400]]


UNKNOWN_SINCE_SQL = """
with became as (update message set status = 'unknown' where id = $1)
insert into message_status (message_id, reported, status, at)
select $1, word, word, now() - make_interval(secs => $2 + 1) from unnest(array['sending', 'unknown']) word"""


# The queue ----------------------------------------------------------------------------------------------------------


@dataclass
class Queue:
    """Messages that wait; conversations go by letters, messages by letter and place: `a1`."""

    conn: "asyncpg.Connection[asyncpg.Record]"
    sender_id: int = 0
    conversations: dict[str, UUID] = field(default_factory=dict)
    ids: dict[str, UUID] = field(default_factory=dict)

    async def open(self) -> None:
        number = await self.conn.fetchval("insert into number (e164) values ('+15550009999') returning id")
        self.sender_id = await self.conn.fetchval(
            "insert into sender (number_id, medium, provider, external_id) values ($1, 'sms', 'twilio', '9')"
            " returning id",
            number,
        )

    async def add(self, *names: str, priority: int = 1) -> None:
        """Queue these, in this order."""
        for name in names:
            conversation = self.conversations.setdefault(name[0], uuid4())
            self.ids[name] = new_id()
            await self.conn.execute(ADD_MESSAGE_SQL, self.ids[name], conversation, int(name[1:]), uuid4())
            await outbox.add(self.conn, self.ids[name], self.sender_id, conversation, int(name[1:]), priority)

    async def heads(self, limit: int = 100) -> list[str]:
        names = {key: name for name, key in self.ids.items()}
        return [names[row["message_id"]] for row in await outbox.list_heads(self.conn, limit)]


ADD_MESSAGE_SQL = """
insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin, content,
                     provider, status)
values ($1, 1, $4, $2, $3, 'outbound', 'sms', 'text', 'echo', '{}', 'twilio', 'queued')"""


@pytest.fixture
async def queue(database_url: str) -> AsyncIterator[Queue]:
    async with connected(database_url) as conn:
        made = Queue(conn)
        await made.open()
        yield made


async def test_e9_the_heads_of_conversations_go_the_most_urgent_first(queue: Queue) -> None:
    await queue.add("a1", "a2", "b1", "b2", "c1", priority=2)
    await queue.add("d1", "d2")
    await queue.add("b3", "e1", priority=0)
    assert await queue.heads() == ["b1", "e1", "d1", "a1", "c1"]
    assert await queue.heads(2) == ["b1", "e1"]
    await outbox.finish(queue.conn, queue.ids["b1"])
    await outbox.finish(queue.conn, queue.ids["a1"])
    assert await queue.heads() == ["b2", "e1", "d1", "a2", "c1"]


async def test_e9_a_head_that_may_not_go_blocks_what_follows(queue: Queue) -> None:
    await queue.add("a1", "b1", "c1", "d1")
    await queue.add("a2", "b2", "c2", "d2", priority=0)
    ids, conn = queue.ids, queue.conn
    for name in ("a1", "b1", "c1"):
        assert await outbox.claim(conn, ids[name], uuid4())
        assert await outbox.claim(conn, ids[name], uuid4()) is None
    assert await outbox.hold(conn, ids["b1"], 1, 30)
    assert await outbox.postpone(conn, ids["c1"], 1, 60)
    assert await outbox.claim(conn, ids["c1"], uuid4()) is None
    assert await queue.heads() == ["d1"]
    await conn.execute("update outbox set not_before = now() - interval '1 second', held_until = null")
    assert await queue.heads() == ["b1", "c1", "d1"]
    await outbox.finish(conn, ids["a1"])
    assert await queue.heads() == ["a2", "b1", "c1", "d1"]


async def test_e8_a_claim_ends_once(queue: Queue) -> None:
    """A record that is repeated, or late, frees nothing that was claimed again since."""
    await queue.add("a1")
    one, conn = queue.ids["a1"], queue.conn
    assert await outbox.claim(conn, one, uuid4())
    assert await outbox.postpone(conn, one, 1, 0)
    assert not await outbox.postpone(conn, one, 1, 0)
    assert not await outbox.hold(conn, one, 1, 30)
    assert await outbox.claim(conn, one, uuid4())
    assert not await outbox.postpone(conn, one, 1, 0)
    assert not await outbox.hold(conn, one, 1, 30)
    assert await queue.heads() == []
    assert await outbox.hold(conn, one, 2, 30)
    assert await outbox.claim(conn, one, uuid4()) is None
    assert await outbox.postpone(conn, one, 2, 0)  # it was not taken, says who knows
    assert await queue.heads() == ["a1"]


FILL_SQL = """
with made as (
    select gen_random_uuid() as id, ('00000000-0000-4000-8000-' || lpad((n % 5000)::text, 12, '0'))::uuid
               as conversation, 1 + n / 5000 as sequence, n
    from generate_series(0, 49999) n), stored as (
    insert into message (id, number_id, channel_id, conversation_id, sequence, direction, medium, type, origin,
                         content, provider, status)
    select id, 1, id, conversation, sequence, 'outbound', 'sms', 'text', 'echo', '{}', 'twilio', 'queued' from made)
insert into outbox (message_id, sender_id, conversation_id, sequence, priority)
select id, $1, conversation, sequence, case when n % 10 = 0 then 0 else 1 end from made"""
BLOCK_SQL = "update outbox set attempts = 1, not_before = now() + interval '60 seconds' where sequence = 1"


async def test_e9_a_look_at_a_long_queue_is_short(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    """Fifty thousand that wait in five thousand conversations: printed, not judged."""
    conn = queue.conn
    await conn.execute(FILL_SQL, queue.sender_id)
    told = ["", f"all due, not analyzed: {await looks(queue, 20)}"]
    await conn.execute("analyze outbox")
    told.append(f"all due: {await looks(queue, 20)}")
    await conn.execute(BLOCK_SQL)
    told.append(f"every head postponed: {await looks(queue, 0)}")
    with capsys.disabled():
        sys.stdout.write("\n".join([*told, ""]))


async def looks(queue: Queue, wanted: int) -> str:
    """How long one look takes, after the plan has settled."""
    times = []
    for _ in range(12):
        started = time.perf_counter()
        assert len(await outbox.list_heads(queue.conn, 20)) == wanted
        times.append(time.perf_counter() - started)
    return f"{sorted(times)[6] * 1000:.1f} ms"
