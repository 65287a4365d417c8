"""The ledger of identity over a real database: random histories do what the world in memory does, and undoing every
operation, the last first, gives exactly what was there before it.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest

from hub.actions.identify import declare
from hub.actions.ledger import Entry, record
from hub.actions.merge import Manager, merge_contacts
from hub.actions.undo import undo
from hub.domain import identity as i
from hub.domain.consent import ConsentEvent, fold
from hub.domain.declared import read_declared
from hub.domain.errors import Refusal
from hub.domain.ids import new_id
from hub.domain.link_tokens import digest
from hub.domain.merging import Operation
from hub.domain.profiles import Declaration
from hub.domain.stitching import ClickFacts, Link, stitch
from hub.store import bindings, contacts, profiles
from hub.store.pool import Connection, Database
from tests.support.identity_world import World

OPERATOR = Manager("operator")
EMAILS = [f"p{n}@example.com" for n in range(4)]
PHONES = ["+4915111111110", "+4915111111111", "+5511961234567", "+551161234567"]
"""The last two are one number."""

STATE = {
    "contact": "select id, merged_into, name from contact order by id",
    "address": """select id, contact_id, type, value, match_key, is_proved, is_declared, removed_at is null as is_there
                  from contact_address order by id""",
    "binding": "select * from visitor_binding order by id",
    "claim": "select id, claimed_by from tracked_link order by id",
    "flag": "select * from identity_flag order by 1, 2, 3",
    "candidate": """select id, contact_id, other_contact_id, reason, own_is_proper, is_proper, settled_at is null
                    from merge_candidate order by id""",
    "suggested": "select * from merge_candidate_op order by 1, 2",
}
SAID = """
select medium, address_type, address_key, kind, source, at from consent_event e
where not exists (select from identity_op o where o.id = e.op_id and o.undone_at is not null) order by id"""


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Database]:
    made = Database(lambda: {"dsn": url}, size=4)
    await made.open()
    yield made
    await made.close()


async def state(conn: Connection) -> dict[str, Any]:
    """Everything that was concluded."""
    found: dict[str, Any] = {name: [tuple(row) for row in await conn.fetch(sql)] for name, sql in STATE.items()}
    said: dict[tuple[str, str, str], list[ConsentEvent]] = {}
    for row in await conn.fetch(SAID):
        event = ConsentEvent(row["kind"], None, row["source"], row["at"])
        said.setdefault((row["medium"], row["address_type"], row["address_key"]), []).append(event)
    return found | {"consent": {name: fold(events, None) for name, events in said.items()}}


class Watched(World):
    """Shows what a click was decided by, and what was written last."""

    facts: ClickFacts | None = None

    def _click_facts(self, *args: Any) -> ClickFacts:
        self.facts = super()._click_facts(*args)
        return self.facts


@dataclass
class Twin:
    """The same history in memory and in the database, whose contacts have other ids."""

    conn: Connection
    rng: random.Random
    world: Watched = field(default_factory=Watched)
    ids: dict[UUID, UUID] = field(default_factory=dict)
    """Of contacts: there, by their id in memory."""
    done: list[tuple[Operation | None, UUID | None, dict[str, Any]]] = field(default_factory=list)
    """Each step's operation here and there, and what there was before."""
    links: list[Link] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.visitors = [self.world.id() for _ in range(4)]

    async def person(self, **known: str) -> None:
        contact = self.world.person(**known)
        self.ids[contact] = contact
        await self.conn.execute("insert into contact (id) values ($1)", contact)
        for slot in self.world.slots.values():
            if slot.contact_id == contact:
                await profiles.fill(self.conn, slot)

    async def send(self) -> None:
        """A link to somebody, at an address of theirs."""
        slot = self.rng.choice(list(self.world.slots.values()))
        link = self.world.link(slot.contact_id, slot.address.value)
        self.links.append(link)
        await self.conn.execute(
            """insert into tracked_link (id, token_hash, target, contact_id, created_at)
               values ($1, $2, 'https://shop.example/', null, $3)""",
            link.id, digest(link.id.hex), link.created_at,
        )  # fmt: skip

    # Steps

    async def step(self) -> None:
        self.world.wait(hours=self.rng.choice([0, 1, 40]))
        before, operations = await state(self.conn), len(self.world.ledger)
        op_id = await self.rng.choices([self.declare, self.click, self.merge], [6, 4, 1])[0]()
        wrote = self.world.ledger[-1] if len(self.world.ledger) > operations else None
        self.done.append((wrote, op_id, before))

    async def declare(self) -> UUID | None:
        choose = self.rng.choice
        by, visitor = choose(["browser", "service", "service", "signature"]), choose([*self.visitors, None])
        email, phone = choose([*EMAILS, None]), choose([*PHONES, None])
        email = email or (None if phone else EMAILS[0])
        media = ([] if phone is None else ["sms", "whatsapp"]) + ([] if email is None else ["email"]) + ["tracking"]
        consents = self.rng.sample(media, choose([0, 0, 1, 2]))
        here = self.world.declare(visitor, by=by, email=email, phone=phone, consents=consents)
        addresses = read_declared(email, phone, "DE", consents)
        there = await declare(self.conn, Declaration(by, self.world.now, *addresses, consents), visitor, mode="off")
        assert (there.rule, there.is_new) == (here.rule, any(isinstance(c, i.Create) for c in here.changes))
        assert [note for note in there.notes if note not in {"revoked", "over_limit"}] == [*dict.fromkeys(here.notes)]
        if there.is_new:
            self.ids[here.contact_id] = there.contact_id
        assert self.ids[here.contact_id] == there.contact_id
        await self.compare(here.contact_id)
        assert visitor is None or await self.who(visitor) == self.map(self.world.who(visitor))
        return there.op_id

    async def click(self) -> UUID | None:
        if not self.links:
            return None
        visitor, link = self.rng.choice(self.visitors), self.rng.choice(self.links)
        self.world.click(visitor, link)
        facts = self.world.facts
        assert facts is not None
        contact = link.contact_id
        claimant = await self.conn.fetchval("select claimed_by from tracked_link where id = $1", link.id)
        flagged = await bindings.list_flagged(self.conn, "link", [link.id])
        assert (claimant, bool(flagged)) == (facts.claimant, facts.link.is_suspect)
        mine = replace(
            facts,
            link=replace(facts.link, contact_id=self.map(contact)),
            bindings=(await bindings.list_bindings(self.conn, [visitor]))[visitor],
            survivors=await profiles.read_survivors(self.conn, list(self.ids.values())),
        )
        decision = stitch(mine)
        entry = Entry("click", "click", decision.reason, facts.click.at, None, visitor, self.map(contact))
        op_id = await record(self.conn, entry, decision.changes)
        assert await self.who(visitor) == self.map(self.world.who(visitor))
        return op_id

    async def merge(self) -> UUID | None:
        kept, absorbed = self.rng.sample(sorted(self.world.contacts), 2)
        try:
            self.world.merge(kept, absorbed)
        except Refusal:
            with pytest.raises(Refusal):
                await merge_contacts(self.conn, OPERATOR, self.ids[kept], self.ids[absorbed], self.world.now)
            return None
        done = await merge_contacts(self.conn, OPERATOR, self.ids[kept], self.ids[absorbed], self.world.now)
        return done.op_id

    async def undo_last(self) -> None:
        """Exactly what was there before."""
        here, there, before = self.done.pop()
        if here:
            self.world.undo(here)
        if there:
            await undo(self.conn, OPERATOR, there, self.world.now)
        assert await state(self.conn) == before

    # Comparing

    def map(self, contact: UUID | None) -> UUID | None:
        return None if contact is None else self.ids[contact]

    async def who(self, visitor: UUID) -> UUID | None:
        last = (await bindings.list_bindings(self.conn, [visitor]))[visitor]
        if not last or last[-1].until:
            return None
        return (await profiles.read_roots(self.conn, [last[-1].contact_id]))[last[-1].contact_id]

    async def compare(self, contact: UUID) -> None:
        root = self.ids[self.world.contact_of(contact)]
        slots = await profiles.read_slots(self.conn, await profiles.list_parts(self.conn, root))
        found = {slot.address.value: slot.standing for its in slots.values() for slot in its}
        assert found == self.world.addresses(contact)


@pytest.mark.parametrize("seed", range(4))
async def test_a_history_is_the_rules_and_all_of_it_can_be_undone(database_url: str, seed: int) -> None:
    async with database(database_url) as db, db.transaction() as conn:
        twin = Twin(conn, random.Random(seed))
        await twin.person(phone=PHONES[0], email=EMAILS[0])
        await twin.person(phone=PHONES[2])
        await twin.person(email=EMAILS[1])
        for _ in range(6):
            await twin.send()
        first = await state(conn)
        for _ in range(28):
            await twin.step()
            if twin.rng.random() < 0.15:
                await twin.undo_last()
        assert await state(conn) != first
        while twin.done:
            await twin.undo_last()
        assert await state(conn) == first


async def test_what_the_hub_itself_suggests_outlives_operations_that_suggest_it_too(database_url: str) -> None:
    async with database(database_url) as db, db.transaction() as conn:
        twin = Twin(conn, random.Random(0))
        await twin.person(email=EMAILS[0])
        await twin.person(phone=PHONES[0])
        one, other = sorted(twin.ids)
        read = "select reason, own_is_proper, is_proper from merge_candidate"

        async def declares() -> UUID:
            said = read_declared(EMAILS[0], PHONES[0], "DE")
            done = (await declare(conn, Declaration("service", twin.world.now, *said), None, mode="off")).op_id
            assert done
            return done

        first = await declares()
        assert [tuple(row) for row in await conn.fetch(read)] == [("I5", None, True)]
        for is_proper in (False, False, True):
            rows = [(new_id(), one, other, f"seen {is_proper}", is_proper)]
            await contacts.add_merge_candidates(conn, rows)
            second = await declares()
            assert [tuple(row) for row in await conn.fetch(read)] == [("seen False", is_proper, True)]
            await undo(conn, OPERATOR, second, twin.world.now)
        await undo(conn, OPERATOR, first, twin.world.now)
        assert [tuple(row) for row in await conn.fetch(read)] == [("seen False", True, True)]


async def test_what_only_a_browser_said_is_not_proper_after_an_operation_is_undone(database_url: str) -> None:
    async with database(database_url) as db, db.transaction() as conn:
        twin = Twin(conn, random.Random(0))
        await twin.person(email=EMAILS[0])
        await twin.person(phone=PHONES[0])
        await contacts.add_merge_candidates(conn, [(new_id(), *sorted(twin.ids), "declared_address", False)])
        before = await state(conn)
        said = read_declared(EMAILS[0], PHONES[0], "DE")
        done = await declare(conn, Declaration("service", twin.world.now, *said), None, mode="off")
        assert await conn.fetchval("select is_proper from merge_candidate")
        assert done.op_id
        await undo(conn, OPERATOR, done.op_id, twin.world.now)
        assert await state(conn) == before
