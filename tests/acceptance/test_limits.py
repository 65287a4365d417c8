"""What people can write, counted exactly: what goes beyond is a machine (rule E3)."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from providers.simulator import Person
from tests.support.talk import MIA, automates, leaves, writes
from tests.support.wire import ask
from tests.support.world import NUMBER, Answer, Open, Service, World


async def places(made: World, service: Service, count: int) -> list[str]:
    """So many conversations."""
    people = [made.customer(Person(f"+4915100000{n:03d}")) for n in range(count)]
    return [await writes(one, service, text=f"I am {n}") for n, one in enumerate(people)]


def codes(answers: Iterable[Answer]) -> Counter[str]:
    return Counter(answer.json.get("code", "accepted") for answer in answers)


async def test_e3_an_agent_writes_thirty_messages_a_minute(hub_world: World, database_url: str) -> None:
    (helpdesk, crm) = await hub_world.connected("helpdesk", "crm")
    talks = await places(hub_world, helpdesk, 4)
    keys = [{"Idempotency-Key": f"key {n}"} for n in range(40)]

    async def reply(n: int, agent: str = "Ana", service: Service = helpdesk) -> Answer:
        return await service.reply(talks[n % 4], f"reply {n}", agent=agent, headers=keys[n])

    answers = await asyncio.gather(*(reply(n) for n in range(40)))
    assert codes(answers) == {"accepted": 30, "looks_automated": 10}
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    assert refused.headers["Retry-After"] == str(refused.json["retry_after"])
    assert 1 <= refused.json["retry_after"] <= 60
    assert (refused.json["limit"], refused.json["most"]) == ("agent", 30)
    assert "(rule E3)" in refused.json["detail"]
    assert await ask(database_url, "select count(*) from message where direction = 'outbound'") == 30

    again = await asyncio.gather(*(reply(n) for n in range(40)))
    assert codes(again) == codes(answers)  # repetitions are answered again, and refusals are not stored (E6)
    assert [one.status for one in again] == [one.status for one in answers]
    assert (await reply(0, "Ben", crm)).status == 202
    assert (await crm.reply(talks[0], "the other service's Ana", agent="Ana")).status == 202
    assert (await helpdesk.reply(talks[0], "another agent's", agent="Cid")).status == 202
    assert (await automates(helpdesk, talks[0], "robot")).status == 202

    earliest = "update message set created_at = created_at - interval '60 seconds' where id in (%s)"
    first = "select id from message where agent_id = 'agent-Ana' and origin = 'agent' order by created_at limit 2"
    await ask(database_url, earliest % first)
    more = await asyncio.gather(*(helpdesk.reply(talks[n % 4], "more") for n in range(5)))
    assert codes(more) == {"accepted": 2, "looks_automated": 3}  # what was refused did not count


async def test_e3_all_agents_of_a_service_together_have_a_limit(open_world: Open) -> None:
    made = await open_world(service_per_minute=6, agent_per_minute=2)
    helpdesk, crm = await made.connected("helpdesk", "crm")
    talks = await places(made, helpdesk, 3)
    replies = [helpdesk.reply(talks[n % 3], f"{n}", agent=f"agent {n // 4}") for n in range(20)]
    answers = await asyncio.gather(*replies)
    assert codes(answers) == {"accepted": 6, "looks_automated": 14}
    assert {answer.json["limit"] for answer in answers if answer.status == 429} <= {"service", "agent"}
    refused = await helpdesk.reply(talks[0], "somebody new", agent="new")
    assert (refused.status, refused.json["limit"], refused.json["most"]) == (429, "service", 6)
    assert (await crm.reply(talks[0], "Hi")).status == 202


async def test_e3_nought_is_no_limit(open_world: Open) -> None:
    made = await open_world(service_per_minute=0, agent_per_minute=0, new_conversations_per_hour=0)
    helpdesk, crm = await made.connected("helpdesk", "crm")
    (talk,) = await places(made, helpdesk, 1)
    answers = await asyncio.gather(*(helpdesk.reply(talk, f"{n}") for n in range(35)))
    answers += await asyncio.gather(*(begins(crm, f"+49160000{n:04d}") for n in range(25)))
    assert codes(answers) == {"accepted": 60}


async def begins(service: Service, to: str, **more: Any) -> Answer:
    """An agent writes first."""
    body = {"origin": "agent", "agent": {"id": "7", "name": "Ana"}, "type": "text", "text": "Hello"}
    where = {"to": to, "medium": "sms", "from": NUMBER}
    return await service.call("POST", "/v1/messages", body | where | more)


async def test_e3_who_is_not_the_parent_begins_few_conversations(open_world: Open, database_url: str) -> None:
    made = await open_world(new_conversations_per_hour=5)
    helpdesk, crm = await made.connected("helpdesk", "crm")
    known = made.customer(MIA, provider="twilio", medium="sms")
    await writes(known, helpdesk, crm)
    numbers = [f"+49160000{n:04d}" for n in range(20)]
    answers = await asyncio.gather(*(begins(crm, number) for number in numbers))
    assert codes(answers) == {"accepted": 5, "looks_automated": 15}
    refused = next(answer for answer in answers if answer.status == 429)
    assert (refused.json["limit"], refused.json["most"]) == ("new_conversations", 5)
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600
    assert await ask(database_url, "select count(*) from conversation") == 6  # of those refused there is no trace
    assert await ask(database_url, "select count(*) from contact") == 6

    begun = next(number for number, answer in zip(numbers, answers, strict=True) if answer.status == 202)
    assert MIA.phone
    for number in (MIA.phone, begun):
        assert (await begins(crm, number)).status == 202  # there is a conversation already
    parents = await asyncio.gather(*(begins(helpdesk, f"+49170000{n:04d}") for n in range(8)))
    assert codes(parents) == {"accepted": 8}
    await ask(database_url, "update conversation set created_at = created_at - interval '61 minutes'")
    assert (await begins(crm, "+491600001111")).status == 202
    await leaves(helpdesk)  # now it is the parent
    answers = await asyncio.gather(*(begins(crm, f"+49180000{n:04d}") for n in range(8)))
    assert codes(answers) == {"accepted": 8}
