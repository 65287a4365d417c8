"""Taking known customers' messages in, in one statement (see `take_messages` in the migrations)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from hub.store.pool import Connection, Record

_OUT_OF_DATE: Final = "PL001"

Kind = tuple[int, UUID, str, str, bool, str]
"""What many messages have in common: number, channel, medium, provider, whether nobody is connected (A7), type."""


class OutOfDate(Exception):
    """What the process remembered of the roster or of a conversation does not stand any more; nothing was stored."""


@dataclass(slots=True)
class Rows:
    """Messages as columns, one row per message and channel, in order of acceptance.

    What rows have in common is passed once: `places`, `kinds` and `shard_places` say where, counted from 1. The key
    of a message that goes to several channels stands in several rows.
    """

    keys: list[bytes] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    provider_ids: list[str | None] = field(default_factory=list)
    provider_times: list[datetime | None] = field(default_factory=list)
    datas: list[str] = field(default_factory=list)
    conversations: dict[tuple[UUID, int], int] = field(default_factory=dict)
    shard_places: list[int] = field(default_factory=list)
    shards: dict[int, int] = field(default_factory=dict)
    shared: dict[Kind, int] = field(default_factory=dict)

    def place(self, conversation_id: UUID, generation: int, shard: int) -> int:
        """Where the conversation stands, as this process remembers it."""
        key = conversation_id, generation
        known = self.conversations.get(key)
        if known is None:
            known = self.conversations[key] = len(self.conversations) + 1
            self.shard_places.append(self.shards.setdefault(shard, len(self.shards) + 1))
        return known

    def kind(self, kind: Kind) -> int:
        """Where this kind stands."""
        return self.shared.setdefault(kind, len(self.shared) + 1)

    def columns(self) -> tuple[Sequence[Any], ...]:
        """In the order of the function's parameters."""
        rows = (self.keys, self.ids, self.places, self.kinds, self.contents, self.provider_ids, self.provider_times)
        conversations = zip(*self.conversations, strict=True)
        return (
            *rows,
            self.datas,
            *conversations,
            self.shard_places,
            list(self.shards),
            *zip(*self.shared, strict=True),
        )


TAKE_MESSAGES_SQL = """
select event_ids, prev_ids, sequences, expiries, holders
from take_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)"""


async def take_messages(conn: Connection, version: int, at: datetime, rows: Rows) -> Record:
    """Store them and log their events. One statement, durable when it returns if no transaction is open.

    Gives for each row its event's id and predecessor and its sequence number (None: it was seen before), and for each
    conversation when its reply window closes and who holds it. Raises `OutOfDate`.
    """
    try:
        record = await conn.fetchrow(TAKE_MESSAGES_SQL, version, at, *rows.columns())
    except asyncpg.PostgresError as error:
        if error.sqlstate == _OUT_OF_DATE:
            raise OutOfDate(str(error)) from error
        raise
    assert record is not None
    return record
