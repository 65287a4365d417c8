"""Providers that throttle are heeded where their limit lies, and agents go first all the same (rule E9)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from uuid import UUID

import pytest

from hub.domain.throttling import PAIR_PAUSE, SPAM_PAUSE
from hub.workers import sender
from providers.simulator import Fault, Person
from tests.acceptance.test_media import upload
from tests.support.talk import MIA, automates, ends, writes
from tests.support.wire import ask, until
from tests.support.world import Answer, Service, World, world

SMS = {"provider": "twilio", "medium": "sms"}
OTHER_NUMBER = "+15550002222"
SENDER, PAIR, ACCOUNT, SPAM = 130429, 131056, 80007, 131048


class Clock:
    """The sender's clock, which stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Business:
    """A hub that may send four messages a second by WhatsApp, its helpdesk, and the clock of its sender."""

    world: World
    helpdesk: Service
    clock: Clock
    url: str
    by_sms: str
    marks: int = 0

    async def talks(self, *names: str) -> list[str]:
        """Customers who wrote: their conversations."""
        people = [self.world.customer(person(name)) for name in names]
        return [await writes(one, self.helpdesk, text=f"I am {one.person.name}") for one in people]

    async def reply(self, conversation: str, text: str) -> str:
        """An agent's reply is queued; gives its id."""
        return message_id(await self.helpdesk.reply(conversation, text))

    def throttle(self, code: int | None, *names: str) -> None:
        """Let Meta refuse what is for these customers, or take it again."""
        forms = self.world.simulator.meta_api.refused_forms
        forms.update({str(person(name).phone): code or 0 for name in names})

    async def made(self, requests: int) -> None:
        """So many requests were made to Meta, no more, although the sender has looked at all that waits."""
        await self.world.simulator.wait_for(lambda: len(self.attempts) >= requests)
        await until(lambda: ask(self.url, "select count(*) = 0 from outbox where claimed_by is not null"))
        self.marks += 1
        answer = await self.helpdesk.reply(self.by_sms, f"mark {self.marks}", "Zoe", query="?wait=5")
        assert answer.json["message"]["provider_id"], "what goes by SMS waits for nobody"
        assert len(self.attempts) == requests, self.attempts

    @property
    def attempts(self) -> list[str | None]:
        """To whom requests were made at Meta."""
        return [attempt.to for attempt in self.world.simulator.attempts if attempt.provider == "meta"]

    @property
    def texts(self) -> list[str | None]:
        """What Meta took."""
        return [send.text for send in self.world.simulator.sent if send.provider == "meta"]

    async def sent(self, *texts: str) -> None:
        """Wait until all of this was taken, in this order, and the last of it written down."""
        await self.world.simulator.wait_for(lambda: len(self.texts) >= len(texts))
        assert self.texts == list(texts)
        await until(lambda: ask(self.url, "select count(*) = 0 from outbox where claimed_by is not null"))


def person(name: str) -> Person:
    """Who has this name."""
    return Person(f"+49151000{sum(ord(letter) * 31**n for n, letter in enumerate(name)) % 100_000:05d}", name=name)


def message_id(answer: Answer) -> str:
    assert answer.status == 202, answer
    return str(answer.json["message"]["id"])


@pytest.fixture
async def business(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Business]:
    clock = Clock()
    monkeypatch.setattr(sender, "monotonic", clock)
    monkeypatch.setattr(sender, "_SURE", inf)  # a minute that passes at once is no process that stood still
    async with world(database_url, tmp_path, whatsapp_rate=4.0, whatsapp_pair_burst=3, sms_rate=1000.0) as made:
        (helpdesk,) = await made.connected("helpdesk")
        by_sms = await writes(made.customer(MIA, **SMS), helpdesk, text="by SMS")
        yield Business(made, helpdesk, clock, database_url, by_sms)


# Five hundred of a campaign, spread over these conversations: as one that was accepted, each.
CAMPAIGN_SQL = """
with made as (
    select gen_random_uuid() as id, n, c.id as conversation_id
    from generate_series(1, 500) n
    join unnest($2::uuid[]) with ordinality as c (id, place) on c.place = n % cardinality($2::uuid[]) + 1), stored as (
    insert into message select (jsonb_populate_record(m, jsonb_build_object('id', made.id, 'sequence', 1000 + n,
        'conversation_id', made.conversation_id, 'status', 'queued', 'provider_id', null))).*
    from made, message m where m.id = $1)
insert into outbox (message_id, sender_id, conversation_id, sequence, priority)
select id, (select s.id from sender s join conversation c on c.number_id = s.number_id and c.medium = s.medium
            where c.id = made.conversation_id), conversation_id, 1000 + n, 2
from made"""


async def test_e9_a_throttled_sender_makes_few_requests_and_agents_go_first(business: Business) -> None:
    """Five hundred of a campaign wait; Meta takes nothing for a while. Nothing fails of it, and nothing is lost."""
    names = ("Ada", "Bob", "Cid", "Dan", "Eve")
    conversations = await business.talks(*names, "Fay")
    for name in names:
        await business.helpdesk.call("PUT", f"/v1/consents/whatsapp/{person(name).phone}", {"status": "granted"})
    first = message_id(await automates(business.helpdesk, conversations[0], "Sale", "campaign", campaign="spring"))
    await business.sent("Sale")
    business.throttle(SENDER, *names, "Fay")
    ids = [UUID(name.removeprefix("cnv_")) for name in conversations[:5]]
    await ask(business.url, CAMPAIGN_SQL, UUID(first.removeprefix("msg_")), ids)
    await business.made(4)  # what the rate allows; they were with Meta together
    reply = await business.reply(conversations[5], "Hello Fay")
    business.clock.now += 0.99
    await business.made(4)
    business.clock.now += 0.01
    for requests, pause in enumerate((2, 4, 8, 16, 32, 60, 60), 5):
        await business.made(requests)  # one that tells how it goes on
        business.clock.now += pause
    await business.made(12)
    assert business.attempts[4:] == [person("Fay").phone] * 8
    business.throttle(None, *names, "Fay")
    business.clock.now += 60
    await business.sent("Sale", "Hello Fay")
    assert (await ends(business.helpdesk, reply, "read"))["status"] == "read"
    left = "select count(*) from outbox where claimed_by is null and held_until is null"
    assert await ask(business.url, left) == 500
    business.clock.now += 0.5
    await business.sent("Sale", "Hello Fay", "Sale")  # at half the rate
    states = "select array_agg(distinct status order by status) from message where origin = 'campaign'"
    assert not {"failed", "unknown", "cancelled"} & set(await ask(business.url, states))


async def test_e9_a_limit_stops_what_it_is_of(business: Business) -> None:
    """A pair of sender and customer, whichever channel it is for; a sender taken for spam; an account's senders."""
    made = business.world
    shop = await made.service("shop", "standalone")
    await shop.connect()
    ada, ben = await business.talks("Ada", "Ben")
    theirs = await writes(made.customer(person("Ada")), shop, business.helpdesk, text="shop?")
    business.throttle(PAIR, "Ada")
    await business.reply(ada, "one")
    await business.made(1)
    await business.reply(ada, "two")
    message_id(await shop.reply(theirs, "three"))
    await business.reply(ben, "for Ben")
    await business.sent("for Ben")
    await business.made(2)
    business.clock.now += PAIR_PAUSE
    await business.made(3)
    business.throttle(None, "Ada")
    business.clock.now += PAIR_PAUSE * 2
    for requests in (4, 5, 6):  # the burst is spent: one after the other
        await business.made(requests)
        business.clock.now += PAIR_PAUSE
    assert business.texts[0] == "for Ben"
    assert [text for text in business.texts[1:] if text != "three"] == ["one", "two"]

    branch = await made.service("branch")
    await branch.connect(OTHER_NUMBER)
    elsewhere = await writes(made.customer(person("Cid"), number=OTHER_NUMBER), branch)
    business.throttle(SPAM, "Ben")
    reply = await business.reply(ben, "spam?")
    await business.made(7)
    assert "131048" in await ask(business.url, "select problems from sender_health where state <> 'ok'")
    business.clock.now += SPAM_PAUSE - 1
    message_id(await branch.reply(elsewhere, "from the other number"))
    await made.simulator.wait_for(lambda: "from the other number" in business.texts)
    await business.made(8)
    business.throttle(ACCOUNT, "Ben")
    business.clock.now += 1
    await business.made(9)
    message_id(await branch.reply(elsewhere, "not now"))
    await business.made(9)
    business.throttle(None, "Ben")
    business.clock.now += 1
    await made.simulator.wait_for(lambda: {"spam?", "not now"} <= set(business.texts))
    assert (await ends(business.helpdesk, reply, "read"))["status"] == "read"


async def test_e9_one_customer_gets_a_burst_and_no_more_than_meta_takes(business: Business) -> None:
    """Meta's limit of a pair is kept ahead; who is not concerned does not wait."""
    ada, ben = await business.talks("Ada", "Ben")
    for text in ("1", "2", "3", "4", "5"):
        await business.reply(ada, text)
    await business.sent("1", "2", "3")
    await business.made(3)
    await business.reply(ben, "for Ben")
    await business.sent("1", "2", "3", "for Ben")
    business.clock.now += 5.9
    await business.made(4)
    business.clock.now += 0.1
    await business.sent("1", "2", "3", "for Ben", "4")
    business.clock.now += 6
    await business.sent("1", "2", "3", "for Ben", "4", "5")

    # So is the word of a provider that does not even take the message's file.
    lined_up = business.world.simulator.ledger.faults_when_asked
    business.world.simulator.fail_next_asked(Fault.refused(SENDER), times=50)
    name = (await upload(business.helpdesk, b"\x89PNG", content_type="image/png")).json["id"]
    body = {"origin": "agent", "agent": {"id": "a"}, "type": "image", "media": [{"id": name}]}
    message_id(await business.helpdesk.call("POST", f"/v1/conversations/{ben}/messages", body))
    await until(lambda: ask(business.url, "select throttled > 0 from outbox"))
    await business.made(6)
    assert len(lined_up) == 49
