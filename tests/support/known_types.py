"""PostgreSQL's own types, asked for once in a process.

asyncpg asks every new connection what an array of this or that type is, by a query of some 4 ms. A hub opens a dozen
connections and lives for days; the tests open thousands that live for a second, and it was a fifth of all their work.
"""

from types import SimpleNamespace
from typing import Any, Final

import asyncpg

FIRST_OF_USERS: Final = 16384
"""Types below are the server's own (FirstNormalObjectId): the same in every database of its version."""


def ask_once() -> None:
    """From now on, in this process. Does nothing where asyncpg does not ask by that name (any more)."""
    ask = getattr(asyncpg.Connection, "_introspect_types", None)
    if ask is None:
        return
    known: dict[int, list[Any]] = {}

    async def asked(self: Any, oids: set[int], timeout: float | None) -> tuple[list[Any], Any]:
        if any(oid >= FIRST_OF_USERS for oid in oids):
            return await ask(self, oids, timeout)
        statement: Any = SimpleNamespace(name="asked before")
        for oid in oids - known.keys():
            known[oid], statement = await ask(self, {oid}, timeout)
        rows = {row["oid"]: row for oid in oids for row in known[oid]}
        return list(rows.values()), statement

    asyncpg.Connection._introspect_types = asked
