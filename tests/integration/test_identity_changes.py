"""A customer's new number or id, as WhatsApp tells it, over a real database: one contact, in whatever order the news
come (rules B4, B8, E5). Every item goes the way of a webhook; two processes take them in.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from hub.actions.arrivals import Arrival
from hub.actions.consents import find_consent
from hub.actions.merge import Manager
from hub.actions.register import register_number
from hub.actions.undo import undo
from hub.domain.addresses import Address
from hub.domain.consent import Kind
from hub.store import consents, contacts, profiles
from hub.store.consents import LedgerDraft
from hub.store.numbers import SenderDraft
from hub.store.pool import Database
from hub.workers.intake import Intake
from providers.base import Route, WebhookRequest
from providers.whatsapp_cloud import webhook
from tests.support.wire import envelope, unique, value
from tests.support.world import NUMBER, PHONE_NUMBER_ID

ROUTE = Route("/webhooks/meta", lambda _: True, webhook.parse, webhook.envelopes, repeats=True)
_numbers = itertools.count(1)


def fresh(count: int) -> list[str]:
    """Numbers that nobody has."""
    return [f"49151{next(_numbers):08d}" for _ in range(count)]


def says(phone: str, body: str = "hi", user_id: str | None = None, at: float = 0) -> dict[str, Any]:
    """A message; `at`: seconds from now."""
    return {
        "from": phone, "id": unique(), "timestamp": str(int(time.time() + at)), "type": "text", "text": {"body": body},
    } | ({"from_user_id": user_id} if user_id else {})  # fmt: skip


def changed(old: str, new: str, at: float = 0, **more: Any) -> dict[str, Any]:
    """Meta's system message of a changed number."""
    system = {"type": "user_changed_number", "wa_id": new, "body": "User changed"} | more
    return {"from": old, "id": unique(), "timestamp": str(int(time.time() + at)), "type": "system", "system": system}


@dataclass
class Hub:
    """Two processes on one database, and looks into it."""

    sides: Sequence[Intake]
    database: Database
    events: list[Any]

    async def take(self, *items: dict[str, Any], side: int = 0) -> None:
        """One webhook for each of these, one after the other."""
        for item in items:
            body = json.dumps(envelope(value([item]))).encode()
            request = WebhookRequest(ROUTE.path, {"content-type": "application/json"}, body)
            await self.sides[side].submit([Arrival(each, "meta", request, ROUTE) for each in ROUTE.parse(request)])

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        async with self.database.transaction() as conn:
            return [tuple(row) for row in await conn.fetch(sql, *args)]

    async def owner(self, phone: str) -> UUID | None:
        """Whose a number or id is."""
        sql = "select contact_id from contact_address where value = any($1) and is_proved and removed_at is null"
        found = await self.rows(sql, [phone, f"+{phone}"])
        return found[0][0] if found else None

    async def root(self, contact_id: UUID | None) -> UUID:
        assert contact_id is not None
        async with self.database.transaction() as conn:
            return (await profiles.read_roots(conn, [contact_id]))[contact_id]

    async def conversation(self, contact_id: UUID | None) -> tuple[str, str | None, int]:
        """Where replies go, in the shared channel; and how many messages there are."""
        (found,) = await self.rows(
            """select reply_to_value, sends_to, (select count(*) from message where conversation_id = c.id)
               from conversation c where contact_id = $1""",
            contact_id,
        )
        return found  # type: ignore[no-any-return]

    async def holds(self, contact_id: UUID | None, medium: str = "whatsapp") -> tuple[str, bool]:
        """What holds of consent."""
        assert contact_id is not None
        async with self.database.transaction() as conn:
            contact = (await contacts.list_contacts(conn, [contact_id]))[contact_id]
            found = await find_consent(conn, contact, medium, 1)
        return found.status, found.is_marketing_stopped

    async def note(self, phone: str, *kinds: Kind) -> None:
        """Entries of the consent ledger."""
        at, address = datetime.now(UTC) - timedelta(hours=1), Address("phone", f"+{phone}")
        async with self.database.transaction() as conn:
            await consents.add(conn, [LedgerDraft("whatsapp", address, None, kind, "customer", at) for kind in kinds])

    def told(self, kind: str) -> int:
        """How many events of a type there were."""
        return sum(event.type == kind for event in self.events)


@asynccontextmanager
async def running(database_url: str) -> AsyncIterator[Hub]:
    database = Database(lambda: {"dsn": database_url}, size=6)
    await database.open()
    events: list[Any] = []
    sides = [Intake(database, events.extend, queue_limit=10_000) for _ in range(2)]
    tasks = [asyncio.create_task(side.run()) for side in sides]
    try:
        async with database.transaction() as conn:
            await register_number(conn, NUMBER, [SenderDraft("whatsapp", "meta", PHONE_NUMBER_ID)])
        yield Hub(sides, database, events)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await database.close()


@pytest.fixture
async def hub(database_url: str) -> AsyncIterator[Hub]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(running(database_url))


async def test_b8_the_contact_goes_on_under_the_new_number(hub: Hub) -> None:
    old, new = fresh(2)
    await hub.take(says(old, user_id="DE.1", at=-60), changed(old, new, previous_user_id="DE.1", user_id="DE.2"))
    mia = await hub.owner(new)
    assert mia == await hub.owner("DE.2")
    assert [await hub.owner(old), await hub.owner("DE.1")] == [None, None]
    assert await hub.conversation(mia) == (f"+{new}", None, 2)
    gone = "select value from contact_address where contact_id = $1 and removed_reason = 'changed' order by value"
    assert await hub.rows(gone, mia) == [(f"+{old}",), ("DE.1",)]
    assert hub.told("profile.updated") == 0  # nobody is connected who may know

    await hub.take(says(new, user_id="DE.2"), side=1)
    assert await hub.conversation(mia) == (f"+{new}", None, 3)
    await hub.take(says(old, "who are you?"))  # the next owner of the old number
    stranger = await hub.owner(old)
    assert stranger not in {None, mia}
    assert await hub.conversation(stranger) == (f"+{old}", None, 1)


async def test_b4_told_twice_or_late_it_changes_nothing_more(hub: Hub) -> None:
    first, second, third = fresh(3)
    await hub.take(says(first, at=-60), changed(first, second, -30), changed(first, second, -30))
    mia = await hub.owner(second)
    await hub.take(changed(second, third, -20), changed(first, second, -30), changed(second, third, -20))
    assert (await hub.owner(third), await hub.owner(second)) == (mia, None)
    assert (await hub.conversation(mia))[:2] == (f"+{third}", None)
    assert await hub.rows("select count(*) from contact") == [(1,)]
    await hub.take(says(first))  # somebody else, meanwhile
    stranger = await hub.owner(first)
    await hub.take(changed(first, second, -30))
    assert (await hub.owner(first), await hub.owner(third)) == (stranger, mia)
    assert (await hub.conversation(stranger))[0] == f"+{first}"


async def test_b8_two_changes_in_the_wrong_order_are_one_person(hub: Hub) -> None:
    first, second, third = fresh(3)
    await hub.take(says(first, at=-60), changed(second, third, -20), changed(first, second, -30))
    mia = await hub.owner(third)
    (old,) = await hub.rows(
        "select contact_id from contact_address where value = $1 and removed_at is not null", f"+{first}"
    )
    assert await hub.root(mia) == await hub.root(old[0])
    assert await hub.owner(second) is None
    assert (await hub.conversation(old[0]))[0] == f"+{third}"


async def test_b8_an_old_number_is_given_up_though_who_has_the_new_one_is_part_of_a_profile(hub: Hub) -> None:
    first, second, third = fresh(3)
    await hub.take(says(first, at=-60), says(second, at=-25), says(third, at=-10), changed(second, third, -20))
    mia, bo = await hub.owner(first), await hub.root(await hub.owner(third))
    await hub.take(changed(first, second, -30))
    assert [await hub.owner(first), await hub.owner(second)] == [None, None]
    assert (await hub.conversation(mia))[0] == f"+{third}"
    pairs = await hub.rows("select contact_id, other_contact_id from merge_candidate")
    assert [mia in pair for pair in pairs] == [True]
    assert await hub.root(mia) != bo == await hub.root(await hub.owner(third))


async def test_b8_nobody_known_is_somebody_with_the_new_number(hub: Hub) -> None:
    old, new = fresh(2)
    await hub.take(changed(old, new))
    mia = await hub.owner(new)
    assert mia is not None
    assert (await hub.owner(old), await hub.conversation(mia)) == (None, (f"+{new}", None, 1))
    assert await hub.rows("select count(*) from contact") == [(1,)]


async def test_b8_who_wrote_from_the_new_number_before_the_news_came_is_the_same_person(hub: Hub) -> None:
    old, new = fresh(2)
    await hub.take(says(old, at=-90), says(new, user_id="DE.9", at=-30), changed(old, new, -60))
    (one,), (two,) = await hub.rows("select id from contact order by created_at, id")
    assert await hub.root(two) == await hub.root(one) == one
    assert await hub.owner(old) is None
    assert (await hub.conversation(one))[0] == (await hub.conversation(two))[0] == f"+{new}"
    (op,) = await hub.rows("select id, source from identity_op where kind = 'merge'")
    assert op[1] == "provider"
    async with hub.database.transaction() as conn:
        await undo(conn, Manager("operator"), op[0], datetime.now(UTC))
    assert await hub.root(two) == two


async def test_b8_a_number_that_another_contact_has_long_had_makes_a_candidate(hub: Hub) -> None:
    old, new = fresh(2)
    await hub.take(says(old), says(new))
    mia, bo = await hub.owner(old), await hub.owner(new)
    async with hub.database.transaction() as conn:
        await conn.execute("update contact set created_at = now() - interval '3 days' where id = $1", bo)
    await hub.take(changed(old, new, at=2))
    assert (await hub.owner(new), await hub.owner(old)) == (bo, None)
    assert (await hub.root(mia), await hub.root(bo)) == (mia, bo)
    pair = sorted((mia, bo), key=str)
    found = await hub.rows("select contact_id, other_contact_id, reason, is_proper from merge_candidate")
    assert found == [(*pair, "provider_said", True)]
    assert (await hub.conversation(mia))[0] == f"+{new}"


async def test_b8_a_new_id_alone_leaves_the_number(hub: Hub) -> None:
    (phone,) = fresh(1)
    update = {"id": unique(), "timestamp": str(int(time.time())), "type": "system"}
    told = {"type": "user_changed_user_id", "previous_user_id": "DE.3", "user_id": "DE.4"}
    await hub.take(says(phone, user_id="DE.3", at=-60), update | {"system": told})
    mia = await hub.owner(phone)
    assert (await hub.owner("DE.4"), await hub.owner("DE.3")) == (mia, None)
    assert await hub.conversation(mia) == (f"+{phone}", None, 2)


async def test_b8_what_was_said_before_the_change_and_comes_late_is_the_same_persons(hub: Hub) -> None:
    """The old number may be a stranger's by then: no answer may go there, nothing of theirs come to this contact."""
    old, new, newest = fresh(3)
    await hub.take(says(old, user_id="DE.5", at=-100))
    mia = await hub.owner(old)
    body = json.dumps(envelope(value([says(old, "with it", at=-70), changed(old, new, -60)]))).encode()
    request = WebhookRequest(ROUTE.path, {}, body)
    await hub.sides[0].submit([Arrival(each, "meta", request, ROUTE) for each in ROUTE.parse(request)])
    await hub.take(says(old, "late", at=-80), says(old, "STOP", user_id="DE.5", at=-75), side=1)
    await hub.take(changed(new, newest, -50), says(old, "later still", at=-90))
    assert await hub.conversation(mia) == (f"+{newest}", None, 7)
    assert [await hub.owner(phone) for phone in (old, new, newest)] == [None, None, mia]
    assert (await hub.holds(mia))[0] == "revoked"
    assert await hub.rows("select count(*) from contact") == [(1,)]
    await hub.take(says(old, "who are you?", at=-40))
    assert await hub.owner(old) not in {None, mia}


async def test_e5_refusals_hold_for_the_new_number_and_grants_do_not(hub: Hub) -> None:
    stopped, marketing, granted, *after = fresh(6)
    await hub.take(says(stopped, "STOP", at=-60), says(marketing, at=-60), says(granted, at=-60))
    await hub.note(marketing, "granted", "marketing_stop")
    await hub.note(granted, "granted")
    before = [await hub.holds(await hub.owner(phone)) for phone in (stopped, marketing, granted)]
    assert before == [("revoked", False), ("granted", True), ("granted", False)]
    for old, new in zip((stopped, marketing, granted), after, strict=True):
        await hub.take(changed(old, new))
    holds = [await hub.holds(await hub.owner(phone)) for phone in after]
    assert holds == [("revoked", False), ("unknown", True), ("unknown", False)]
    told = [event for event in hub.events if event.type == "consent.changed"]
    assert [json.loads(event.data)["consent"]["status"] for event in told[-2:]] == ["unknown", "unknown"]
    await hub.take(says(after[0], "START", at=1))
    assert await hub.holds(await hub.owner(after[0])) == ("unknown", False)
    await hub.take(says(granted, at=1))  # the next owner has agreed to nothing
    assert await hub.holds(await hub.owner(granted)) == ("unknown", False)


async def test_b8_the_news_and_a_message_from_the_new_number_at_once_make_one_person(hub: Hub) -> None:
    """Whoever comes first: one profile, one owner of the new number, none of the old; and nothing is lost, nor what was
    said before from the old number.
    """
    for _ in range(20):
        old, new = fresh(2)
        await hub.take(says(old, at=-60))
        mia = await hub.owner(old)
        one, other = (says(new), says(old, at=-30)), (says(old, at=-20), says(new))
        sides = ((changed(old, new, -1), *one), (*other, changed(old, new, -1)))
        await asyncio.gather(*(hub.take(item, side=side) for side, items in enumerate(sides) for item in items))
        assert await hub.owner(old) is None
        assert await hub.root(await hub.owner(new)) == await hub.root(mia)
        assert (await hub.conversation(mia))[0] == f"+{new}"
        stored = await hub.rows(
            """select count(*) from message m join conversation c on c.id = m.conversation_id
               where c.reply_to_value = $1""",
            f"+{new}",
        )
        assert stored == [(7,)]
    (roots,) = await hub.rows("select count(*) from contact where merged_into is null")
    assert roots == (20,)
