"""Numbers of plans that got new digits: what was stored by the old key is found by the new one (rules B8, E5)."""

from uuid import UUID, uuid4

import asyncpg
import pytest

from hub.domain.addresses import phone_key
from hub.store import migrate as module
from hub.store.migrate import migrate, shipped
from tests.support.database import Server

OLD = ("+22507123456", "+22545123456", "+22501123456", "+22566123456", "+22997123456", "+22921123456")
SAME = ("+22590123456", "+22520123456", "+2250555000001", "+2290160000000", "+4915112345678", "+22512345678")
TWICE = "+22547000001"
"""Two contacts have it, each in a form of its own."""

ADD_SQL = """
with made as (insert into contact (id, name) values ($1, 'Somebody')), told as (
    insert into consent_event (medium, address_type, address_key, address_value, kind, source, at)
    values ('sms', 'phone', $2, $2, 'stop', 'customer', now()))
insert into contact_address (contact_id, type, value, match_key, is_proved) values ($1, 'phone', $2, $2, true)"""

SAID_SQL = """
insert into contact_address (contact_id, type, value, match_key, is_proved, is_declared)
values ($1, 'phone', $2, $2, false, true)"""


async def test_b8_old_numbers_have_the_keys_of_today(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"keys_{uuid4().hex}"
    await server.execute(f"create database {name}")
    conn = await asyncpg.connect(server.url(name))
    try:
        everything = shipped()
        monkeypatch.setattr(module, "shipped", lambda: everything[:7])
        await migrate(conn)
        owners: dict[str, UUID] = {phone: uuid4() for phone in (*OLD, *SAME, TWICE, phone_key(TWICE))}
        for phone, contact in owners.items():
            await conn.execute(ADD_SQL, contact, phone)
        await conn.execute(SAID_SQL, owners[OLD[1]], phone_key(OLD[0]))  # somebody else said it was theirs
        monkeypatch.setattr(module, "shipped", lambda: everything)
        await migrate(conn)
        keys = {
            row[0]: row[1] for row in await conn.fetch("select value, match_key from contact_address where is_proved")
        }
        told = await conn.fetch("select address_value, address_key from consent_event")
        pairs = await conn.fetch("select contact_id, other_contact_id from merge_candidate")
    finally:
        await conn.close()
        await server.execute(f"drop database {name} with (force)")
    consents = {row[0]: row[1] for row in told}
    assert consents == {phone: phone_key(phone) for phone in owners}
    assert keys == consents | {TWICE: TWICE}  # nobody is found by that one any more
    assert [set(pair) for pair in pairs] == [{owners[TWICE], owners[phone_key(TWICE)]}]
    assert all(phone_key(phone) != phone for phone in OLD)
    assert all(phone_key(phone) == phone for phone in SAME)
