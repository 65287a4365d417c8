"""Races between services, customers and operators, each run for real, round by round, against a hub over HTTP.

A round makes its own conversation, lets several requests meet, and judges what came of it: in the answers, at the
simulated provider, and in the database.
"""

import asyncio
import itertools
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hub.domain.ids import parse_id
from providers.simulator import Customer, Fault, Person, SimulatedSend, StatusPlan
from tests.support.serving import HubProcess
from tests.support.talk import automates
from tests.support.wire import connected, until
from tests.support.world import NUMBER, Answer, Service, World

_counter = itertools.count(1)


@dataclass
class Arena:
    """A hub, its database, and what the rounds share."""

    world: World
    database_url: str

    async def ask(self, sql: str, *args: Any) -> Any:
        """One value."""
        async with connected(self.database_url) as conn:
            return await conn.fetchval(sql, *args)

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        """Rows."""
        async with connected(self.database_url) as conn:
            return list(await conn.fetch(sql, *args))

    async def talk(self, **medium: Any) -> tuple[Customer, str]:
        """A new customer who has written: the customer and the conversation in the shared channel."""
        person = Person(f"+4917{next(_counter):09d}")
        customer = self.world.customer(person, **medium)
        provider_id = await customer.says("hello")
        conversation: UUID = await self.ask(
            """select m.conversation_id from message m join channel c on c.id = m.channel_id
               where m.provider_id = $1 and c.kind = 'shared'""",
            provider_id,
        )
        return customer, f"cnv_{conversation.hex}"

    async def busy(self, service: Service, conversation: str) -> int:
        """Keep a message of this conversation with the provider, so that what follows waits; gives the sends so far."""
        before = len(self.world.simulator.attempts)
        self.world.simulator.hold()
        answer = await service.reply(conversation, "first", agent=f"A{next(_counter)}")
        assert answer.status == 202, answer
        await self.world.simulator.wait_for(lambda: len(self.world.simulator.attempts) > before, 10)
        return before

    async def status(self, message: str) -> tuple[str, str | None]:
        """A message's status and the code of its error, from the database."""
        rows = await self.rows(
            "select status, (error::json)->>'code' as code from message where id = $1", parse_id("msg", message)
        )
        return rows[0]["status"], rows[0]["code"]

    async def ends(self, message: str, *statuses: str) -> str | None:
        """Wait until a message has one of these statuses; gives the code of its error."""

        async def is_there() -> bool:
            return (await self.status(message))[0] in statuses

        await until(is_there, 20)
        return (await self.status(message))[1]

    def heard(self, customer: Customer) -> list[str | None]:
        """What a customer got."""
        return [send.text for send in customer.received]


Race = Callable[[Arena, int], Awaitable[None]]


def message_of(answer: Answer) -> str:
    """The id of an accepted message."""
    assert answer.status == 202, answer
    return str(answer.json["message"]["id"])


async def _leave(services: Sequence[Service]) -> None:
    await asyncio.gather(*(s.call("DELETE", f"/v1/numbers/{NUMBER}/connection") for s in services))


async def _connect(services: Sequence[Service]) -> None:
    for service in services:
        answer = await service.call("PUT", f"/v1/numbers/{NUMBER}/connection", {})
        assert answer.status == 200, answer


# Channels -----------------------------------------------------------------------------------------------------------


async def twenty_connect(arena: Arena, rounds: int) -> None:
    """Twenty services at once: exactly one parent, nineteen subscribers, every rank once (A2)."""
    services = [await arena.world.service(f"service {n}") for n in range(20)]
    epoch = 0
    for _ in range(rounds):
        answers = await asyncio.gather(*(s.call("PUT", f"/v1/numbers/{NUMBER}/connection", {}) for s in services))
        assert [a.status for a in answers] == [200] * 20
        roles = sorted(a.json["role"] for a in answers)
        assert roles == ["parent"] + ["subscriber"] * 19
        assert len({a.json["channel_id"] for a in answers}) == 1
        assert len({a.json["parent"]["service_id"] for a in answers}) == 1
        members = await arena.rows(
            "select rank, is_parent from subscription where disconnected_at is null order by rank"
        )
        assert len({row["rank"] for row in members}) == 20
        assert [row["is_parent"] for row in members] == [True] + [False] * 19  # the first of them, too
        now = answers[0].json["parent"]["epoch"]
        assert now == epoch + 1 or epoch == 0
        left = await asyncio.gather(*(s.call("DELETE", f"/v1/numbers/{NUMBER}/connection") for s in services))
        assert [a.status for a in left] == [204] * 20
        assert await arena.ask("select count(*) from subscription where disconnected_at is null") == 0
        epoch = await arena.ask("select parent_epoch from channel where kind = 'shared' order by id limit 1")


async def parent_leaves_while_its_bot_sends(arena: Arena, rounds: int) -> None:
    """The agent's reply goes out, the bot's messages do not, and there is exactly one new parent (A5, E2)."""
    helpdesk, crm, marketing = [await arena.world.service(name) for name in ("helpdesk", "crm", "marketing")]
    await _connect([helpdesk, crm, marketing])
    parents = [helpdesk, crm, marketing]
    for _ in range(rounds):
        leaver, heir, third = parents
        customer, conversation = await arena.talk()
        await arena.busy(third, conversation)
        queued = message_of(await automates(leaver, conversation, "bot, queued"))
        left, late, reply = await asyncio.gather(
            leaver.call("DELETE", f"/v1/numbers/{NUMBER}/connection"),
            automates(leaver, conversation, "bot, late"),
            heir.reply(conversation, "agent", agent=f"A{next(_counter)}"),
        )
        assert left.status == 204
        arena.world.simulator.release()
        assert await arena.ends(queued, "cancelled") == "not_parent"
        if late.status == 202:
            assert await arena.ends(message_of(late), "cancelled") == "not_parent"
        else:
            assert late.status in {404, 409}, late
        await arena.ends(message_of(reply), "sent", "delivered", "read")
        assert arena.heard(customer) == ["first", "agent"]
        assert await arena.ask("select count(*) from subscription where is_parent") == 1
        roster = await heir.call("GET", f"/v1/numbers/{NUMBER}")
        assert roster.json["parent"]["service_id"] == heir.id
        assert (await automates(heir, conversation, "the new bot")).status == 202
        await _connect([leaver])
        parents = [heir, third, leaver]


WATCH_CLAIMS = """
create table if not exists claimed (message_id uuid, author uuid, origin text, parent uuid, epoch integer,
                                    accepted_epoch integer);
create or replace function watch_claim() returns trigger language plpgsql as $$
begin
    insert into claimed
    select new.id, new.author_service_id, new.origin,
           (select u.service_id from subscription u where u.channel_id = new.channel_id and u.is_parent),
           (select c.parent_epoch from channel c where c.id = new.channel_id), new.parent_epoch;
    return null;
end $$;
create or replace trigger watch_claim after update on message for each row
when (old.status = 'queued' and new.status = 'sending') execute function watch_claim();
"""
"""Writes down, in the very transaction that claims a message for sending, who is parent then."""


async def hand_over_under_sends(arena: Arena, rounds: int) -> None:
    """Parenthood goes back and forth: no automation of who was not parent when it was claimed (A6, E2)."""
    async with connected(arena.database_url) as conn:
        await conn.execute(WATCH_CLAIMS)
    rivals = [await arena.world.service(name) for name in ("one", "two")]
    await _connect(rivals)
    talks = [await arena.talk() for _ in range(6)]
    is_over = False
    accepted: list[str] = []

    async def speak(service: Service) -> None:
        for n in itertools.count():
            if is_over:
                return
            answer = await automates(service, talks[n % len(talks)][1], f"{service.name} {n}")
            if answer.status == 202:
                accepted.append(message_of(answer))
            else:
                assert (answer.status, answer.json["code"]) == (409, "not_parent")

    bots = [asyncio.create_task(speak(service)) for service in rivals]
    for n in range(rounds):
        body = {"service_id": rivals[(n + 1) % 2].id, "note": f"turn {n}"}
        answer = await arena.world.call("PUT", f"/v1/admin/numbers/{NUMBER}/parent", body)
        assert answer.status == 200, answer
        mark = len(accepted)
        await until(lambda mark=mark: len(accepted) > mark, 10)  # type: ignore[misc]
    is_over = True
    await asyncio.gather(*bots)
    for name in accepted:
        await arena.ends(name, "sent", "delivered", "read", "cancelled")
    claims = await arena.rows("select * from claimed where origin <> 'agent'")
    assert claims
    for row in claims:
        assert row["author"] == row["parent"], row
        assert row["epoch"] == row["accepted_epoch"], row
    sent = [send.hub_id for send in arena.world.simulator.sent]
    assert len(sent) == len(set(sent))
    assert {parse_id("msg", name or "") for name in sent} == {row["message_id"] for row in claims}
    assert await arena.ask("select count(*) from subscription where is_parent") == 1


# Sending ------------------------------------------------------------------------------------------------------------


async def one_key_twenty_times(arena: Arena, rounds: int) -> None:
    """The same Idempotency-Key twenty times at once: one message, twenty equal answers (E6)."""
    helpdesk = await arena.world.service("helpdesk")
    await _connect([helpdesk])
    customer, conversation = await arena.talk()
    for n in range(rounds):
        answers = await asyncio.gather(
            *(
                helpdesk.call(
                    "POST",
                    f"/v1/conversations/{conversation}/messages",
                    {"origin": "chatbot", "type": "text", "text": f"once {n}"},
                    **{"Idempotency-Key": f"key-{n}"},
                )
                for _ in range(20)
            )
        )
        assert [a.status for a in answers] == [202] * 20
        assert len({message_of(a) for a in answers}) == 1
        await arena.ends(message_of(answers[0]), "sent", "delivered", "read")
        assert arena.heard(customer).count(f"once {n}") == 1
    assert len(customer.received) == rounds


async def stop_while_a_send_waits(arena: Arena, rounds: int) -> None:
    """STOP arrives while a message is queued and another is being accepted: neither is sent (E5)."""
    helpdesk = await arena.world.service("helpdesk")
    await _connect([helpdesk])
    for _ in range(rounds):
        customer, conversation = await arena.talk(provider="twilio", medium="sms")
        await arena.busy(helpdesk, conversation)
        queued = message_of(await automates(helpdesk, conversation, "queued"))
        _, late = await asyncio.gather(customer.says("STOP"), automates(helpdesk, conversation, "late"))
        arena.world.simulator.opted_out.clear()  # the provider would send it: the hub must not
        arena.world.simulator.release()
        assert await arena.ends(queued, "cancelled") == "no_consent"
        if late.status == 202:
            assert await arena.ends(message_of(late), "cancelled") == "no_consent"
        else:
            assert (late.status, late.json["code"]) == (409, "no_consent")
        assert arena.heard(customer) == ["first"]


async def window_closes_in_the_queue(arena: Arena, rounds: int) -> None:
    """The reply window closes between accept and claim: not sent, with the event (E4)."""
    helpdesk = await arena.world.service("helpdesk")
    await _connect([helpdesk])
    for _ in range(rounds):
        customer, conversation = await arena.talk()
        await arena.busy(helpdesk, conversation)
        queued = message_of(await automates(helpdesk, conversation, "too late"))
        await arena.ask(
            "update conversation set last_customer_at = now() - interval '24 hours' where id = $1",
            parse_id("cnv", conversation),
        )
        arena.world.simulator.release()
        assert await arena.ends(queued, "cancelled") == "reply_window_closed"
        assert arena.heard(customer) == ["first"]
        events = await arena.ask(
            "select count(*) from event where message_id = $1 and type = 'message.status'", parse_id("msg", queued)
        )
        assert events == 1


async def statuses_in_every_order(arena: Arena, rounds: int) -> None:
    """All orders of sent, delivered, read and failed, each twice: one final state (E7)."""
    helpdesk = await arena.world.service("helpdesk")
    await _connect([helpdesk])
    arena.world.simulator.status_plan = StatusPlan.none()
    orders = list(itertools.permutations(["sent", "delivered", "read", "failed"]))
    _, conversation = await arena.talk()
    for _ in range(rounds):
        names = [message_of(await automates(helpdesk, conversation, f"m{n}")) for n in range(len(orders))]
        for name in names:
            await arena.ends(name, "sending")
        sends = {send.hub_id: send for send in arena.world.simulator.sent}
        await until(lambda names=names: all(name in _sent(arena) for name in names), 10)  # type: ignore[misc]
        sends = _sent(arena)
        await asyncio.gather(*(_report(arena, sends[name], order) for name, order in zip(names, orders, strict=True)))
        finals = {await arena.status(name) for name in names}
        assert {status for status, _ in finals} == {"read"}
        ids = [parse_id("msg", name) for name in names]
        assert await arena.ask("select bool_and(conflict) from message where id = any($1)", ids)
        assert await arena.ask("select count(*) from message_status where message_id = any($1)", ids) == 5 * len(names)


def _sent(arena: Arena) -> dict[str | None, SimulatedSend]:
    return {send.hub_id: send for send in arena.world.simulator.sent}


async def _report(arena: Arena, send: SimulatedSend, order: Sequence[str]) -> None:
    for step in order:
        await asyncio.gather(arena.world.simulator.report(send, step), arena.world.simulator.report(send, step))


async def killed_after_the_call(arena: Arena, rounds: int, process: HubProcess) -> None:
    """kill -9 between the provider's call and its record: `unknown`, once at the provider, settled by its callback."""
    helpdesk = await arena.world.service("helpdesk")
    await _connect([helpdesk])
    simulator = arena.world.simulator
    simulator.hub_url = process.url
    for n in range(rounds):
        simulator.status_plan = StatusPlan.none()
        customer, conversation = await arena.talk()
        simulator.fail_next(Fault.silent(taken=True))
        before = len(simulator.sent)
        name = message_of(await automates(helpdesk, conversation, f"perhaps {n}"))
        await simulator.wait_for(lambda before=before: len(simulator.sent) > before, 10)
        await process.end(signal.SIGKILL)
        await process.start(simulator)
        assert await arena.ends(name, "unknown") is None
        await simulator.report(simulator.sent[-1], "delivered")
        await arena.ends(name, "delivered")
        assert arena.heard(customer) == [f"perhaps {n}"]
        assert len(simulator.sent) == before + 1
    assert len(simulator.attempts) == rounds


RACES: dict[str, Race] = {
    "twenty services connect": twenty_connect,
    "the parent leaves while its bot sends": parent_leaves_while_its_bot_sends,
    "hand-over under sends": hand_over_under_sends,
    "one key twenty times": one_key_twenty_times,
    "STOP while a send waits": stop_while_a_send_waits,
    "the window closes in the queue": window_closes_in_the_queue,
    "statuses in every order": statuses_in_every_order,
}
"""Those that need nobody killed."""
